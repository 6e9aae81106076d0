package uring

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Cancel asks the kernel to cancel one operation, which then completes with -ECANCELED, or as if nothing had happened when
// it was too late. Disk operations that have started, and drivers' commands, cannot be cancelled.
func (r *Ring) Cancel(t Token) {
	r.Prep(Op{Code: OpAsyncCancel, FD: -1, Addr: uint64(t)}, nil, 0)
}

// CancelFile cancels every operation on f, as Cancel does.
func (r *Ring) CancelFile(f File) {
	flags := cancelAll | cancelFD
	if f.fixed {
		flags |= cancelFixed
	}
	r.Prep(Op{Code: OpAsyncCancel, FD: f.n, OpFlags: flags}, nil, 0)
}

// CancelAll cancels every operation, the ring's own included, as Cancel does.
func (r *Ring) CancelAll() {
	r.Prep(cancelEverything, nil, 0)
}

var cancelEverything = Op{Code: OpAsyncCancel, FD: -1, OpFlags: cancelAll | cancelAny}

// stuck holds rings that were closed while the kernel still worked on their operations: their Go memory must not be collected.
var stuck struct {
	sync.Mutex
	rings []*Ring
}

// An InFlightError says that a ring was drained or closed while the kernel still worked on operations. Their memory
// must never be used again; MapMemory's must stay mapped.
type InFlightError struct{ Count int }

func (e *InFlightError) Error() string {
	return fmt.Sprintf("the ring ends with %d operations in flight", e.Count)
}

// Drain ends a ring but does not give it back: it cancels everything and waits for what cannot be cancelled, until the deadline
// (zero: for ever); then it returns an *InFlightError. What is prepared afterwards is refused, and what is posted is not run.
// Left are the commands of drivers, which only the end of the ring cancels, or that of the process. Close may follow. A process that
// ends at once does not need it, and must not close a ring with commands of ublk: Linux 6.12 may crash when it cancels them while the
// thread that gave them lives on.
func (r *Ring) Drain(deadline time.Time) (commands int, err error) {
	switch r.state {
	case ringOpen:
		r.mail.mu.Lock()
		r.mail.closed = true
		r.mail.mu.Unlock()
		r.mail.run() // what was posted before the end is not lost
		r.state = ringClosing
	case ringClosed:
		return 0, nil
	}
	err = r.drain(deadline)
	if left := r.slots.live - r.slots.cmds; left > 0 {
		err = errors.Join(err, &InFlightError{left})
	}
	return r.slots.cmds, err
}

// Close cancels everything, waits for what cannot be cancelled, and gives the ring back to the kernel. Every
// operation completes, mostly with -ECANCELED, before it returns. Commands of drivers are an exception in one way: only
// the end of the ring cancels them, so they complete with -ECANCELED when the ring is gone, and their own driver decides when
// it lets go of their memory.
//
// A disk that never answers holds Close until the deadline (zero: for ever); then it returns an *InFlightError.
// Close again does nothing. Completers must not prepare operations for ever while it runs.
func (r *Ring) Close(deadline time.Time) error {
	if r.state == ringClosed {
		return nil
	}
	_, err := r.Drain(deadline)
	r.state = ringClosed
	left := r.slots.live - r.slots.cmds
	if left > 0 {
		stuck.Lock()
		stuck.rings = append(stuck.rings, r)
		stuck.Unlock()
	}
	err = errors.Join(err, r.free(left == 0))
	r.abandon()
	r.closed.Store(true)
	return err
}

// drain waits until only drivers' commands are in flight.
func (r *Ring) drain(deadline time.Time) error {
	const again = 100 * time.Millisecond // an operation that was linked behind another one starts after the first cancel
	for r.slots.live > r.slots.cmds {
		r.queue(cancelEverything, nil, 0)
		if err := r.drainFor(again, deadline); err != nil {
			return err
		}
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			return nil
		}
	}
	return nil
}

// drainFor delivers until everything is done, or the time has come for another round of cancels.
func (r *Ring) drainFor(d time.Duration, deadline time.Time) error {
	end := time.Now().Add(d)
	if !deadline.IsZero() && deadline.Before(end) {
		end = deadline
	}
	for r.slots.live > r.slots.cmds {
		if err := r.enterWait(max(0, time.Until(end))); err != nil {
			return err
		}
		if r.deliver()+r.deliverRefused() == 0 && !time.Now().Before(end) {
			return nil
		}
	}
	return nil
}

// refuse takes an operation that will not be started any more.
func (r *Ring) refuse(op Op, who Completer, arg uint64) Token {
	t := r.slots.take(who, arg, op.Mem, false)
	r.refused = append(r.refused, t)
	return t
}

func (r *Ring) deliverRefused() int {
	taken := r.refused
	r.refused = nil
	for _, t := range taken {
		r.finish(cqe{UserData: uint64(t), Res: -int32(unix.ECANCELED)})
	}
	return len(taken)
}

// abandon completes the commands that went with the ring, and whatever their owners still prepare.
func (r *Ring) abandon() {
	for i := range r.slots.tab {
		if s := &r.slots.tab[i]; s.busy && s.cmd {
			r.finish(cqe{UserData: uint64(s.gen)<<32 | uint64(i), Res: -int32(unix.ECANCELED)})
		}
	}
	for len(r.refused) > 0 {
		r.deliverRefused()
	}
}

// free unmaps and closes what New got. Unmapping matters: a mapping keeps the ring, and with it everything
// that waits in it, alive (docs/ublk.md 2.6).
func (r *Ring) free(idle bool) error {
	var errs []error
	r.unregisterSelf()
	if r.shared.ring != nil {
		errs = append(errs, r.shared.unmap())
	}
	errs = append(errs, unix.Close(r.fd))
	if r.page != nil && idle {
		errs = append(errs, UnmapMemory(r.page))
	}
	if r.times != nil && idle {
		errs = append(errs, UnmapMemory(r.times))
	}
	r.mail.mu.Lock()
	defer r.mail.mu.Unlock()
	r.mail.closed = true
	if r.mail.event >= 0 {
		errs = append(errs, unix.Close(r.mail.event))
	}
	return errors.Join(errs...)
}
