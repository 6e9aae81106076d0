package engine

import (
	"fmt"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// A disk that does not answer is given up in three steps, by disk-timeout or by --force.
//
//  1. Everybody who waits for one of its I/Os is told that it has failed, at once: applications, the peer, commands, metadata.
//     The disk is Failed, and the peer hears that there is none.
//  2. The memory of these I/Os stays out of use until the kernel gives it up, because the device may still read it or write
//     to it: buffers of the peer's blocks here, those of the application's requests with the owner (Request.Held),
//     the two for metadata by refusing another disk.
//  3. When the last of them has ended, the disk gets what has to be known of it, if it takes it: the blocks that were
//     under way, and that there is newer data elsewhere. Then it is given back.

// leaving says how far a disk is on its way out of use.
type leaving uint8

const (
	staying        leaving = iota
	leavingBusy            // I/O on it is in flight
	leavingFlushed         // its cache is being flushed
	leavingWritten         // what has to be known of it is being written, or is not to be
)

// lateIO is an I/O of a disk that was given up before it ended. It holds the memory that the device may still use.
type lateIO struct {
	vol   *volume
	token Token
	buf   []byte   // of the peer's block
	req   *Request // of the application; it may have been given back
}

func (l *lateIO) ioDone(e *Engine, _ Errno) {
	l.vol.late--
	if l.req != nil && l.req.Held == l.token {
		l.req.Held = 0
	}
	if l.buf != nil {
		e.giveBuffer(l.vol, l.buf)
		e.poolFreed()
	}
	e.commandsAdvance()
}

// abandon gives up every I/O in flight on a disk that has Failed.
func (e *Engine) abandon(v *volume) {
	if v.ios.first == 0 || v.state.Disk != sm.Failed {
		return
	}
	if v.late == 0 {
		v.lateSince = e.ios.oldest(v)
	}
	e.notice(v, Error, fmt.Sprintf("the disk is given up: %s; their memory is kept until the kernel has ended them", e.inFlight(v)))
	if v.leaving = leavingWritten; v.attached {
		v.leaving = leavingBusy // otherwise nothing is to be remembered of it, or that has been tried
	}
	v.attached = false
	e.emit(AbandonDisk{v.number})
	for v.ios.first != 0 {
		e.giveUpIO(v, v.ios.first-1)
	}
	e.proofAdvances(v)
}

// giveUpIO tells the owner of an I/O that it has failed, and keeps its memory.
func (e *Engine) giveUpIO(v *volume, i uint32) {
	s := &e.ios.slots[i]
	owner, late := s.owner, &lateIO{vol: v, token: e.ios.token(i)}
	e.ios.unlink(&v.ios, i)
	s.owner = late
	v.late++
	switch o := owner.(type) {
	case *peerReq:
		late.buf, o.buf = o.buf, nil
	case *write:
		late.hold(o.req)
	case *localRead:
		late.hold(o.req)
	}
	owner.ioDone(e, EIO)
}

// hold marks a request whose memory the device may still use.
func (l *lateIO) hold(r *Request) {
	if r.Op == OpRead || r.Op == OpWrite {
		l.req, r.Held = r, l.token
	}
}

// Abandoned is the number of I/Os that the kernel works on and nobody waits for.
func (e *Engine) Abandoned() int {
	n := 0
	for _, v := range e.vols {
		n += v.late
	}
	return n
}

// inFlight says in words what a disk has not answered.
func (e *Engine) inFlight(v *volume) string {
	since := v.waitingSince(&e.ios)
	if since == Never {
		return "no I/O is in flight"
	}
	return fmt.Sprintf("%d I/Os are in flight, the oldest for %v", v.diskPending, (e.now - since).Round(100*time.Millisecond))
}

// waitingSince is since when the disk has owed an answer, Never if it owes none.
func (v *volume) waitingSince(t *ioTable) Instant {
	at := t.oldest(v)
	if v.late > 0 {
		at = min(at, v.lateSince)
	}
	return at
}

// diskDeadline is when the disk has taken too long, Never if it may take any time.
func (e *Engine) diskDeadline(v *volume) Instant {
	if v.ios.first == 0 {
		return Never
	}
	if limit := e.diskLimit(v); limit != 0 {
		return e.ios.oldest(v) + limit
	}
	return Never
}

// checkDisks gives up the disks that have taken too long.
func (e *Engine) checkDisks() {
	for _, v := range e.vols {
		if e.now >= e.diskDeadline(v) {
			e.notice(v, Error, fmt.Sprintf("the disk has not answered within %v (disk-timeout, or an order with --force)", e.diskLimit(v)))
			e.hung(v)
		}
	}
}

// hung gives up a disk that does not answer.
func (e *Engine) hung(v *volume) {
	if v.state.Disk != sm.Failed {
		e.step(v, sm.DiskFailed{}, "the disk does not answer")
	}
	e.abandon(v)
}
