package engine

import (
	"errors"
	"fmt"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// forcedPatience is how long a forced disconnect or down waits for one I/O of a disk. A disk under load answers within it.
const forcedPatience = 5 * time.Second

// diskLimit is how long one I/O of a disk may take until the disk is given up; 0: as long as it needs.
func (e *Engine) diskLimit(v *volume) time.Duration {
	limit := v.cfg.Disk.Timeout
	for _, cmd := range e.cmds {
		if cmd.limit != 0 && (limit == 0 || cmd.limit < limit) {
			limit = cmd.limit
		}
	}
	return limit
}

// Withdrawal is what became of an order that nobody waits for any more.
type Withdrawal uint8

const (
	Answered  Withdrawal = iota // there is no such order: its Reply has been given, or is about to be
	Withdrawn                   // it will not be carried out, and has changed nothing
	GoesOn                      // it has begun, which cannot be taken back; its Reply will come
)

// Withdraw takes an order back, if it has not begun. The text says what it waits for, if that is known.
func (e *Engine) Withdraw(now Instant, id uint64) (Withdrawal, string) {
	e.at(now)
	if a := e.attachOf(id); a != nil {
		return GoesOn, e.waits(a.v)
	}
	for i, cmd := range e.cmds {
		if cmd.id != id {
			continue
		}
		why := e.waitsFor(cmd)
		if !e.unbegun(cmd) {
			return GoesOn, why
		}
		e.cmds = append(e.cmds[:i:i], e.cmds[i+1:]...)
		for _, v := range cmd.vols {
			if v.request != nil && v.request.cmd == cmd {
				v.request = nil
				e.relaunch(v)
			}
		}
		if r := e.conn.request; r != nil && r.cmd == cmd {
			e.conn.request = nil
		}
		return Withdrawn, why
	}
	return Answered, ""
}

func (e *Engine) attachOf(id uint64) *attaching {
	for _, v := range e.vols {
		if v.attach != nil && v.attach.id == id {
			return v.attach
		}
	}
	return nil
}

// unbegun reports whether an order has changed nothing yet, here or at the peer.
func (e *Engine) unbegun(cmd *command) bool {
	if !cmd.stepped || cmd.retryAt != 0 {
		return true
	}
	if cmd.waiting == 0 {
		return false
	}
	open := 0
	for _, v := range cmd.vols {
		if r := v.request; r != nil && r.cmd == cmd && r.since == Never {
			open++
		}
	}
	if r := e.conn.request; r != nil && r.cmd == cmd && r.since == Never {
		open++
	}
	return open == cmd.waiting && open == len(cmd.vols)
}

// waitsFor says in words what an order waits for.
func (e *Engine) waitsFor(cmd *command) string {
	var all []error
	for _, v := range cmd.vols {
		if why := e.waits(v); why != "" {
			all = append(all, errors.New(why))
		}
	}
	switch {
	case len(all) > 0:
		return errors.Join(all...).Error()
	case cmd.waiting > 0 && cmd.ev == nil:
		return "metadata is being written"
	case cmd.waiting > 0:
		return "the peer has not answered"
	case e.conn.phase == connClosing:
		return "the connection is still being closed"
	case !e.quiet():
		return "the peer has not confirmed everything that was written"
	}
	return ""
}

// waits says what the disk of a volume owes; nothing if it has answered lately.
func (e *Engine) waits(v *volume) string {
	if v.waitingSince(&e.ios) > e.now-time.Second {
		return ""
	}
	give := "; urbd detach --force gives it up"
	if v.late > 0 && v.state.Disk == sm.Failed {
		give = "; it has been given up"
	}
	return fmt.Sprintf("the disk of volume %d does not answer: %s%s", v.number, e.inFlight(v), give)
}
