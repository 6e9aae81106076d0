package engine

import sm "github.com/urbd/urbd/statemachine"

// When a disk is given up on purpose (detach, invalidate, the peer's invalidate-remote), what is on it alone has
// perhaps been answered: with protocols A and B, because it is there. So the peer confirms first what it was sent,
// and new writes wait until the disk is no longer the good one: before this node asks the peer, because the peer takes
// an answer that was heard for one that was carried out; or before this node answers.
//
// Before this node asks, the own disk has also ended the writes that it was given, and its cache is flushed. If it hung with them once the peer has consented, and
// were given up by force, their answers would be owed (owed.go), until the peer begins a generation; and that it does with the next write, which
// nobody may have to make.

// costsDisk reports whether a step takes a volume's good disk away.
func (e *Engine) costsDisk(v *volume, ev sm.Event) bool {
	next, _, err := v.state.Step(ev, e.rules(v))
	return err == nil && v.state.ReadsLocally() && !next.ReadsLocally()
}

// hurryConfirmation has the peer confirm what it has, and reports whether that is to be waited for.
func (e *Engine) hurryConfirmation(v *volume) bool {
	if e.confirmed(v) {
		return false
	}
	e.closeEpoch()
	e.unplug(v)
	return true
}

// giveUpLater reports whether a request to the peer has to wait, because this disk is given up when the peer agrees.
func (e *Engine) giveUpLater(v *volume, r *request) bool {
	if !r.quiet && e.costsDisk(v, sm.PeerReply{Change: r.change, Code: sm.CodeSuccess}) {
		r.quiet = true
		waits := e.hurryConfirmation(v)
		return !e.safeHere(v) || waits
	}
	return false
}

// safeHere reports whether the own disk has everything for good that the application has written; it is flushed for that. One that
// is lost has what it has.
func (e *Engine) safeHere(v *volume) bool {
	if !v.usable() {
		return true
	}
	for i := v.ios.first; i != 0; i = e.ios.slots[i-1].next {
		switch e.ios.slots[i-1].owner.(type) {
		case *write, *lastFlush:
			return false
		}
	}
	if !v.volatile() || !v.flush || v.cfg.Disk.NoFlush {
		return true
	}
	f := &lastFlush{vol: v}
	f.covers = e.flushDisk(v, f)
	return false
}

// lastFlush is the flush of a disk that is about to be given up.
type lastFlush struct {
	vol    *volume
	covers uint64
}

func (f *lastFlush) ioDone(e *Engine, err Errno) {
	if err == OK {
		f.vol.flushed(f.covers)
	} else {
		e.flushFailed(f.vol, err)
	}
	e.workEnds(f.vol)
}

// workEnds takes note that the own disk has ended a write or a flush: a change may have waited for that.
func (e *Engine) workEnds(v *volume) {
	if v.givesUp() {
		e.confirmationsAdvance()
	}
}

// givesUp reports whether a step that costs this disk waits until everything is confirmed: a request of the peer, or the
// own one. If the connection ends before, neither is made.
func (v *volume) givesUp() bool {
	return v.asked.stage == askWaits || v.request != nil && v.request.waits()
}

// sendLate asks the peer for what this node may still wish.
func (e *Engine) sendLate(v *volume, r *request) {
	if r == v.request && r.cmd != nil {
		if _, _, err := v.state.Step(r.cmd.ev, e.rules(v)); err != nil {
			v.request = nil
			e.answered(r, err)
			return
		}
	}
	e.sendRequest(v, r)
}

// holdsBack reports whether new writes wait: until a change is known to the peer, this disk is given up, or the peer is known to live.
func (e *Engine) holdsBack(v *volume) bool {
	return e.settling(v) || v.elsewhere == asking || v.asked.stage == askWaits || v.request != nil && v.request.quiet
}

// confirmed reports whether everything that the volume has written is known to be durable on the peer's disk.
func (e *Engine) confirmed(v *volume) bool {
	for range e.unconfirmed(v) {
		return false
	}
	return true
}

// confirmationsAdvance does the steps that waited for the epochs, or for the I/O, that have just ended.
func (e *Engine) confirmationsAdvance() {
	for _, v := range e.vols {
		if !v.givesUp() || !e.confirmed(v) {
			continue
		}
		if v.asked.stage == askWaits {
			e.answerAsked(v)
		}
		if r := v.request; r != nil && r.waits() && e.safeHere(v) {
			e.sendLate(v, r)
		}
		e.relaunch(v)
	}
}
