package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// command is an administrative order under way.
type command struct {
	id      uint64
	name    string
	ev      sm.Event
	vols    []*volume // that it is for
	waiting int       // answers of the peer that are outstanding, and the own steps
	stepped bool
	when    func() bool // stepped as soon as it says so; nil: at once
	err     error
	retryAt Instant              // a dead peer is being found out; then it is tried again
	limit   time.Duration        // a disk that takes longer for one I/O is given up, by a forced order; 0: it is waited for
	primary primaryPeer          // what a promotion that found one knows of it
	done    func(e *Engine) bool // more to wait for; nil: nothing

	from *departure // that it is about, of a disconnect
}

// primaryPeer is what a promotion knows of a peer that is Primary: it may be dead, and only the ping tells.
type primaryPeer uint8

const (
	notPinged primaryPeer = iota
	pinged
	alive // it has answered: without it nothing goes on here, whatever becomes of the connection
)

// Command takes an administrative order; its Reply carries id.
func (e *Engine) Command(now Instant, id uint64, c Command) {
	e.at(now)
	switch c := c.(type) {
	case Attach:
		e.startAttach(id, c)
	case Detach:
		e.detach(id, c)
	case Connect:
		e.connect(id, c)
	case Disconnect:
		e.disconnect(id, sm.Disconnect{Force: c.Force})
	case Promote:
		e.promote(id, c.Force)
	case Demote:
		e.demote(id)
	case Invalidate:
		e.orderVolume(id, "invalidate", sm.Invalidate{}, c.Vol, nil)
	case InvalidateRemote:
		e.orderVolume(id, "invalidate-remote", sm.InvalidateRemote{}, c.Vol, nil)
	case PauseSync:
		cause := "resume-sync"
		if c.On {
			cause = "pause-sync"
		}
		e.orderVolume(id, cause, sm.Pause{On: c.On}, c.Vol, nil)
	case NewCurrentUUID:
		e.newCurrentUUID(id, e.volume(c.Vol), c.ClearBitmap)
	case LoseUsers:
		e.orderUsers(id, c.Vol, e.usersLose)
	case Unused:
		e.orderUsers(id, c.Vol, e.unused)
	case Down:
		e.down(id, c.Force)
	default:
		e.reply_(id, fmt.Errorf("unknown command %T", c))
	}
	e.commandsAdvance()
}

// promote waits until nothing of an ended connection is under way: a write of the
// former Primary that came over it would change the disk below the new application.
func (e *Engine) promote(id uint64, force bool) {
	e.cmds = append(e.cmds, &command{
		id: id, name: "primary", ev: sm.Promote{Force: force}, vols: e.vols,
		when: func() bool { return e.conn.phase != connClosing },
	})
}

func (v *volume) detached() bool { return v.state.Disk == sm.Diskless }

func (v *volume) gone() bool { return v.state.Disk == sm.Diskless || v.state.Disk == sm.Failed }

// detach lets the disk go, as it is: what it has become by then is on it before. By force it is given up at once, whatever is in flight
// there or asked of the peer.
func (e *Engine) detach(id uint64, c Detach) {
	v := e.volume(c.Vol)
	if v == nil || !c.Force {
		e.orderWhen(id, "detach", sm.Detach{}, c.Vol, (*volume).settled, (*volume).detached)
		return
	}
	if r := v.request; r != nil {
		v.request = nil
		e.answered(r, sm.InTransientState)
	}
	e.orderVolume(id, "detach", sm.Detach{Force: true}, c.Vol, (*volume).gone)
	e.abandon(v) // also if it would not be let go before a superblock is durable: that may be what hangs
}

// settled reports whether everything that the volume has become is durable, and known to whom it has to be.
func (v *volume) settled() bool { return v.committing == 0 && v.effects.len() == 0 }

// orderVolume queues a command for one volume.
func (e *Engine) orderVolume(id uint64, name string, ev sm.Event, number int, done func(*volume) bool) {
	v := e.volume(number)
	if v == nil {
		e.reply_(id, fmt.Errorf("there is no volume %d", number))
		return
	}
	e.order(id, name, ev, []*volume{v}, done)
}

// orderWhen is orderVolume for a command that is refused at once, or carried out as soon as when says so.
func (e *Engine) orderWhen(id uint64, name string, ev sm.Event, number int, when, done func(*volume) bool) {
	v := e.volume(number)
	if v == nil || when(v) || e.refuses(v, ev) {
		e.orderVolume(id, name, ev, number, done)
		return
	}
	e.cmds = append(e.cmds, &command{
		id: id, name: name, ev: ev, vols: []*volume{v},
		when: func() bool { return when(v) }, done: func(*Engine) bool { return done(v) },
	})
}

// refuses reports whether a volume does not allow an order now.
func (e *Engine) refuses(v *volume, ev sm.Event) bool {
	_, _, err := v.state.Step(ev, e.rules(v))
	return err != nil || v.request != nil
}

// order queues a command. What refuses it at once is in its err.
func (e *Engine) order(id uint64, name string, ev sm.Event, vols []*volume, done func(*volume) bool) *command {
	cmd := &command{id: id, name: name, ev: ev, vols: vols}
	if done != nil {
		cmd.done = func(*Engine) bool {
			for _, v := range cmd.vols {
				if !done(v) {
					return false
				}
			}
			return true
		}
	}
	e.cmds = append(e.cmds, cmd)
	if e.provesFirst(vols, ev) {
		cmd.when = func() bool { return !proving(vols) }
	} else {
		e.stepCommand(cmd)
	}
	return cmd
}

// stepCommand applies the command to its volumes, all of them or, if one
// refuses, none.
func (e *Engine) stepCommand(cmd *command) {
	cmd.stepped = true
	if ev, is := cmd.ev.(sm.Disconnect); is {
		e.leave(cmd, ev)
		return
	}
	if _, promote := cmd.ev.(sm.Promote); promote && e.goesDown() {
		cmd.err = sm.InTransientState
		return
	}
	cmd.waiting++ // it is not over before every volume has had its turn
	defer func() { cmd.waiting-- }()
	for _, v := range cmd.vols {
		if v.request != nil {
			cmd.err = sm.InTransientState
			return
		}
		if _, _, err := v.state.Step(cmd.ev, e.rules(v)); err != nil {
			e.refusedHere(cmd, err)
			return
		}
	}
	for _, v := range cmd.vols {
		if err := e.stepFor(v, cmd.ev, cmd.name, cmd); err != nil {
			e.refusedHere(cmd, err)
			return
		}
	}
}

// refusedHere ends a command with a refusal. A promotion that fails because
// the peer is Primary may fail because of a peer that is dead: a ping tells, and
// then it is tried once more (wire 14.4).
func (e *Engine) refusedHere(cmd *command, err error) {
	if _, promote := cmd.ev.(sm.Promote); promote && cmd.primary == notPinged && e.conn.up() &&
		(errors.Is(err, sm.TwoPrimaries) || errors.Is(err, sm.OtherVolumePeerPrimary)) {
		cmd.primary = pinged
		e.fence(promotionFence, nil, cmd.id)
		cmd.retryAt = e.now + e.cfg.Net.PingTimeout + 100*time.Millisecond
		return
	}
	cmd.err = err
}

// primaryAlive is where the peer that a promotion has found Primary has answered the ping. The promotion is tried once more all the same:
// the peer may be about to be demoted.
func (e *Engine) primaryAlive() {
	for _, cmd := range e.cmds {
		if cmd.primary == pinged {
			cmd.primary = alive
		}
	}
}

// commandsAdvance answers the commands that have what they wait for.
func (e *Engine) commandsAdvance() {
	if e.advancing {
		e.advanceAgain = true
		return
	}
	e.advancing = true
	for {
		e.advanceAgain = false
		for _, cmd := range slices.Clone(e.cmds) { // a down gives another one, and may wait for it
			if !cmd.stepped && cmd.when() {
				e.stepCommand(cmd)
			}
			if cmd.finished(e) {
				i := slices.Index(e.cmds, cmd)
				e.cmds = slices.Delete(e.cmds, i, i+1)
				e.finishCommand(cmd)
				e.advanceAgain = true
			}
		}
		if !e.advanceAgain {
			break
		}
	}
	e.advancing = false
}

func (cmd *command) finished(e *Engine) bool {
	if !cmd.stepped || cmd.waiting > 0 || cmd.retryAt != 0 {
		return false
	}
	if cmd.err != nil {
		return true
	}
	for _, v := range cmd.vols {
		if v.committing > 0 {
			return false
		}
	}
	return cmd.done == nil || cmd.done(e)
}

// finishCommand replies. A promotion that not every volume followed is taken back.
func (e *Engine) finishCommand(cmd *command) {
	if _, promote := cmd.ev.(sm.Promote); promote && cmd.err != nil {
		for _, v := range cmd.vols {
			if v.state.Role == sm.Primary && len(cmd.vols) > 1 && v.promotedBy == cmd.id {
				e.step(v, sm.Demote{}, "the promotion of another volume was refused")
			}
		}
	}
	if _, promote := cmd.ev.(sm.Promote); promote && cmd.err == nil {
		for _, v := range cmd.vols {
			e.usersServed(v)
		}
	}
	if cmd.id != 0 {
		e.reply_(cmd.id, cmd.err)
	}
}

func (e *Engine) reply_(id uint64, err error) { e.emit(Reply{id, err}) }

// connect has the peer looked for. Not while an order to leave waits, which is over when the node is StandAlone: it would never be.
func (e *Engine) connect(id uint64, c Connect) {
	if slices.ContainsFunc(e.cmds, (*command).leaves) {
		e.reply_(id, sm.InTransientState)
		return
	}
	if e.order(id, "connect", sm.Connect{DiscardMyData: c.DiscardMyData}, e.vols, nil).err == nil {
		e.conn.discardMyData = c.DiscardMyData
	}
}

// demote waits until the peer has confirmed everything, because from then on
// nobody remembers what it has not.
func (e *Engine) demote(id uint64) {
	e.settleEpochs()
	e.cmds = append(e.cmds, &command{id: id, name: "secondary", ev: sm.Demote{}, vols: e.vols, when: e.quiet})
}

// settleEpochs asks the peer to confirm what it has.
func (e *Engine) settleEpochs() {
	if e.conn.up() && e.conn.apInFlight > 0 {
		e.closeEpoch()
		e.unplug(e.vols[0])
	}
}

// quiet reports whether no own request is unanswered, unconfirmed, or refused by a disk that the peer has not called lost yet: it says so on the other
// socket, and for who is not Primary any more when that comes the data has no generation of its own.
func (e *Engine) quiet() bool {
	for _, v := range e.vols {
		if v.state.Role == sm.Primary && (v.activeWrites > 0 || v.activeReads > 0 || v.upper > 0 || v.refusedAt != 0) {
			return false
		}
	}
	return e.conn.apInFlight == 0
}

// NotStandAlone refuses what the peer would have to know of.
const NotStandAlone sm.Refusal = "the connection has to be StandAlone"

// newCurrentUUID starts a generation by order (wire 14.9, metadata 5.3).
func (e *Engine) newCurrentUUID(id uint64, v *volume, clear bool) {
	switch {
	case v == nil:
		e.reply_(id, errors.New("there is no such volume"))
	case !v.attached || !v.state.WritesLocally():
		e.reply_(id, sm.NoLocalDisk)
	case clear && v.state.Conn.Established():
		e.skipInitialSync(id, v)
	case v.state.Conn != sm.StandAlone:
		e.reply_(id, NotStandAlone)
	default:
		before := v.uuids.Current
		v.uuids = v.uuids.NewCurrentRotated(e.newUUID(), v.state.Role == sm.Primary)
		e.usersKnow(v, before)
		if clear {
			v.uuids = v.uuids.ClearBitmap()
			v.bm.ClearAll()
		}
		cmd := &command{id: id, name: "new-current-uuid", vols: []*volume{v}, waiting: 1, stepped: true}
		e.cmds = append(e.cmds, cmd)
		e.writeSuper(v, lazyPages, func(e *Engine, err Errno) {
			if err != OK {
				cmd.err = &DiskError{Vol: v.number, What: "metadata cannot be written", Errno: err}
			}
			cmd.waiting--
			e.commandsAdvance()
		})
	}
}

// skipInitialSync declares both fresh disks equal. It waits until the peer's
// word that it is Connected has come: an older one, that says Inconsistent, would
// be taken for news afterwards.
func (e *Engine) skipInitialSync(id uint64, v *volume) {
	fresh := v.uuids.Current == sm.JustCreated && v.peerUUIDs.Current == sm.JustCreated
	e.cmds = append(e.cmds, &command{
		id: id, name: "new-current-uuid", ev: sm.SkipInitialSync{Fresh: fresh}, vols: []*volume{v},
		when: func() bool { return v.peerConn.Established() || !v.state.Conn.Established() },
	})
}
