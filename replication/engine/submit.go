package engine

import (
	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/statemachine"
)

// Submit takes a request of the application. It comes back in Output.Done, at
// once if it is out of range (EINVAL), or cannot be served by any disk (EIO).
func (e *Engine) Submit(now Instant, r *Request) {
	e.at(now)
	v := e.volume(r.Vol)
	if v == nil || v.state.Role != statemachine.Primary {
		r.Err = ENODEV
		e.out.Done = append(e.out.Done, r)
		return
	}
	v.upper++
	r.lacks, r.Held = 0, 0
	if !v.fits(r) {
		r.Err = EINVAL
		e.done(v, r)
		return
	}
	e.admit(v, r)
}

// fits checks offset, length and memory of a request against the volume.
func (v *volume) fits(r *Request) bool {
	limit := int64(wire.MaxRequest)
	switch r.Op {
	case OpFlush:
		return true
	case OpRead, OpWrite:
		if int64(len(r.Data)) < r.Len {
			return false
		}
	case OpDiscard, OpWriteZeroes:
		limit = wire.MaxTrim
	default:
		return false
	}
	return (r.Off|r.Len)&511 == 0 && r.Len > 0 && r.Len <= limit && r.Off >= 0 && r.Off <= v.size-r.Len
}

// admit is the gate: what may not run now waits in order.
func (e *Engine) admit(v *volume, r *Request) {
	switch {
	case r.Op == OpRead:
		if v.heldReads.len() > 0 || v.state.HoldsReads() {
			v.heldReads.push(r)
			return
		}
		e.startRead(v, r)
	case v.heldWrites.len() > 0 || v.state.HoldsWrites():
		v.heldWrites.push(r)
	case r.Op == OpFlush:
		e.startFlush(v, r)
	default:
		e.startWrite(v, r)
	}
}

// openGate lets go what the volume's state does not hold any more.
func (e *Engine) openGate(v *volume) {
	for v.heldReads.len() > 0 && !v.state.HoldsReads() {
		e.startRead(v, v.heldReads.pop())
	}
	for v.heldWrites.len() > 0 && !v.state.HoldsWrites() {
		if r := v.heldWrites.pop(); r.Op == OpFlush {
			e.startFlush(v, r)
		} else {
			e.startWrite(v, r)
		}
	}
}

// done answers a request, unless answers have to wait until a new generation is durable.
func (e *Engine) done(v *volume, r *Request) {
	if v.ackGate > 0 {
		v.gated.push(r)
		return
	}
	e.answerOwed(v, r)
}

// finished gives a request back.
func (e *Engine) finished(v *volume, r *Request) {
	v.answeredAlone = v.answeredAlone || r.lacks&peerLacks != 0 && r.Err == OK && r.Op != OpFlush
	v.upper--
	e.out.Done = append(e.out.Done, r)
}

// holdAnswers keeps answers back until the returned function is called.
func (e *Engine) holdAnswers(v *volume) (release func()) {
	v.ackGate++
	return func() {
		if v.ackGate--; v.ackGate > 0 {
			return
		}
		for v.ackGate == 0 && v.gated.len() > 0 {
			r := v.gated.pop()
			switch lost := r.lacks&peerLacks != 0 && !v.state.ReadsLocally(); { // the disk, before anybody was told
			case lost && r.Op == OpFlush:
				e.admit(v, r) // the peer has what was written, perhaps
				continue
			case lost:
				r.Err = EIO
			}
			e.answerOwed(v, r)
		}
		e.quiesced(v)
	}
}

// dataReachable reports whether some UpToDate disk can be worked on.
func (e *Engine) dataReachable(v *volume) bool {
	return v.attached && v.state.ReadsLocally() || v.state.ReadsRemotely() && e.conn.up()
}
