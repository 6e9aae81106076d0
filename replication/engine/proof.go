package engine

import (
	"fmt"
	"slices"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// The disk that is the only good one after a step has to show before it that it answers: the peer's disk is not called old, let go or overwritten for one that
// hangs, because the last good copy would be locked away with it. An order of this node waits for that, and can be taken back meanwhile. A request of
// the peer waits for proofPatience at most, and is refused then.

// proofPatience is how long a disk may take to answer. One under load does within it.
const proofPatience = 5 * time.Second

// proof of a volume's disk: a flush, a block of data, a superblock, and whatever was in flight before. The flush and the superblock alone
// say nothing of the data where the disk has no cache, and the metadata another disk. What the disk answers shows in the state.
type proof struct {
	since Instant // when it was begun, 0: none is under way
	left  int     // of its own I/Os
	block []byte  // memory for the block of data
}

// provesFirst begins a proof of each disk that would be the only good one after a step, and reports whether there is any.
func (e *Engine) provesFirst(vols []*volume, ev sm.Event) bool {
	any := false
	for _, v := range vols {
		if v.usable() && e.restsOn(v, ev) {
			e.prove(v)
			any = true
		}
	}
	return any
}

// restsOn reports whether a step, or what the peer is asked for by it, makes the own disk the only good one.
func (e *Engine) restsOn(v *volume, ev sm.Event) bool {
	next, effects, err := v.state.Step(ev, e.rules(v))
	for _, eff := range effects {
		if ask, is := eff.(sm.SendRequest); is {
			next, _, err = v.state.Step(sm.PeerReply{Change: ask.Change, Code: sm.CodeSuccess}, e.rules(v))
		}
	}
	return err == nil && v.state.RestsOn(next)
}

// prove begins a proof. One that is under way has to be completed yet, and is as good.
func (e *Engine) prove(v *volume) {
	p := &v.proof
	if p.since != 0 {
		return
	}
	p.since, p.left = max(e.now, 1), 3
	f := &proofIO{vol: v}
	f.covers = e.flushDisk(v, f)
	e.startIO(v, DiskIO{Op: DiskRead, Off: v.provenAt(), Len: v.block, Data: p.block[:v.block]}, &proofIO{vol: v})
	e.writeSuper(v, noPages, func(*Engine, Errno) { p.left-- })
}

// provenAt is the block that is read: one that was written, because a hole is read from nowhere.
func (v *volume) provenAt() int64 {
	if v.wroteAt+v.block > v.size {
		return 0
	}
	return v.wroteAt
}

// proofIO is the flush, or the read, of a proof.
type proofIO struct {
	vol    *volume
	covers uint64 // by the flush
}

func (f *proofIO) ioDone(e *Engine, err Errno) {
	f.vol.proof.left--
	if err == OK {
		f.vol.flushed(f.covers)
	} else {
		e.diskFailed(f.vol, "an I/O that had to show whether it answers", err)
	}
}

// proofAdvances goes on with what waits for a proof, when the disk has answered everything.
func (e *Engine) proofAdvances(v *volume) {
	p := &v.proof
	if p.since == 0 || p.left > 0 || e.ios.oldest(v) <= p.since {
		return
	}
	p.since = 0
	if v.asked.stage == askProves {
		e.answerAsked(v)
	}
	if e.conn.asked.stage == askProves && !proving(e.vols) {
		e.answerAskedAll()
	}
	e.commandsAdvance()
}

// proving reports whether a disk has to answer yet.
func proving(vols []*volume) bool {
	return slices.ContainsFunc(vols, func(v *volume) bool { return v.proof.since != 0 })
}

// proves has a request of the peer wait for the own disk.
func (a *peerAsk) proves(e *Engine) {
	a.stage, a.until = askProves, e.now+proofPatience
	if limit := e.unanswered(); limit != 0 {
		a.until = min(a.until, e.now+limit/2) // the peer does not wait for ever
	}
}

// proofDeadline is when a request of the peer has waited long enough, Never if none does.
func (e *Engine) proofDeadline() Instant {
	at := Never
	if e.conn.asked.stage == askProves {
		at = e.conn.asked.until
	}
	for _, v := range e.vols {
		if v.asked.stage == askProves {
			at = min(at, v.asked.until)
		}
	}
	return at
}

// refuseUnproven refuses the requests of the peer that have waited long enough.
func (e *Engine) refuseUnproven() {
	if a := &e.conn.asked; a.stage == askProves && e.now >= a.until {
		e.noteUnproven(e.vols)
		e.refuseAskedAll(sm.NoUpToDateDisk)
	}
	for _, v := range e.vols {
		if a := &v.asked; a.stage == askProves && e.now >= a.until {
			e.noteUnproven([]*volume{v})
			e.sendReply(v, sm.SendReply{Code: sm.NoUpToDateDisk.RefusalCode()})
		}
	}
}

func (e *Engine) noteUnproven(vols []*volume) {
	for _, v := range vols {
		if v.proof.since != 0 {
			e.notice(v, Warn, fmt.Sprintf("a request of the peer is refused: this disk would be the only good one, and has not answered for %v",
				(e.now-v.proof.since).Round(100*time.Millisecond)))
		}
	}
}
