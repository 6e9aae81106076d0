package uring

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Wait submits everything prepared, waits until something completes, is posted, or the deadline passes, and delivers
// all there is: completions first, then signals and posted functions. It returns how much it delivered, 0 at
// the deadline, which is a time of Now. The zero time means no deadline; a past one means not to wait. Signals to the process do not end it.
func (r *Ring) Wait(deadline time.Time) (int, error) {
	if r.state != ringOpen {
		return 0, ErrClosed
	}
	for {
		r.clock.worked(time.Now())
		left := time.Duration(-1)
		if !deadline.IsZero() {
			left = max(0, deadline.Sub(r.clock.now))
		}
		if err := r.enterWait(left); err != nil {
			return 0, err
		}
		r.clock.waited(left, time.Now())
		n := r.deliver()
		passed := left >= 0 && !r.clock.now.Before(deadline)
		if passed {
			more, err := r.deliverRest()
			if n += more; err != nil {
				return n, err
			}
		}
		n += r.mail.run()
		if n > 0 || passed {
			return n, nil
		}
	}
}

// deliverRest delivers what had ended before the deadline and is not posted yet: with DEFER_TASKRUN one system call posts some 20
// completions. It ends when nothing comes, or as many came as there were operations in flight.
func (r *Ring) deliverRest() (n int, err error) {
	for left := r.slots.live; left > 0; {
		if err := r.entered(r.enter(0, -1)); err != nil {
			return n, err
		}
		before := r.cqHead
		n += r.deliver()
		if r.cqHead == before {
			break
		}
		left -= int(r.cqHead - before)
	}
	return n, nil
}

// Submit hands everything prepared to the kernel without waiting or delivering. Wait does it as well;
// Submit is for an owner that computes for long before it waits.
func (r *Ring) Submit() {
	if r.state == ringOpen {
		r.submit()
	}
}

// enterWait is the one system call of a turn. It waits for left at most (-1: for ever).
func (r *Ring) enterWait(left time.Duration) error {
	want := uint32(1)
	if left == 0 || len(r.backlog) > 0 || r.shared.ready() != r.cqHead || !r.mail.sleep() {
		want = 0
	}
	errno := r.enterPaced(want, left)
	r.mail.asleep.Store(0)
	return r.entered(errno)
}

// entered sorts the answers of a system call whose completions are delivered next.
func (r *Ring) entered(errno unix.Errno) error {
	switch errno {
	case 0, unix.EINTR, unix.ETIME, unix.EAGAIN, unix.EBUSY:
		return nil // whatever there is gets delivered, the rest is tried again
	case unix.EEXIST:
		panic("uring: the ring is used from another thread than the one that made it")
	}
	return fmt.Errorf("io_uring_enter: %w", errno)
}

const (
	// briefWait is how long a wait may look like computing to the Go runtime. What
	// completes within it costs no hand-over of the processor and no wake-up of the runtime's
	// monitor; stopping the world is late by as much at most. Nobody else runs on that processor
	// meanwhile, so a program that has only one (GOMAXPROCS when the ring is made) waits otherwise.
	briefWait = 3 * time.Millisecond
	// busyWaits in a row, each ended within idleWait, make a ring busy: only then waits are brief
	// at first, because a monitor that sees a thread compute looks at it again and again.
	busyWaits = 4
	idleWait  = 5 * time.Millisecond
)

// enterPaced is enter, with a brief wait first while the ring is busy.
func (r *Ring) enterPaced(want uint32, left time.Duration) unix.Errno {
	if want == 0 {
		return r.enter(want, left)
	}
	if !r.oneProc && r.busy >= busyWaits && (left < 0 || left > briefWait) {
		if errno := r.enterBriefly(want); errno != unix.ETIME {
			return errno
		}
		r.busy = 0
	}
	began := time.Now()
	errno := r.enter(want, left)
	if r.busy++; time.Since(began) > idleWait {
		r.busy = 0
	}
	return errno
}

// enterBriefly is enter for at most briefWait.
func (r *Ring) enterBriefly(want uint32) unix.Errno {
	atomic.StoreUint32(r.shared.sqTail, r.sqTail)
	todo := r.sqTail - atomic.LoadUint32(r.shared.sqHead)
	s := r.scratch
	s.ts = timespec{Nsec: int64(briefWait)}
	s.arg = geteventsArg{TS: uint64(uintptr(unsafe.Pointer(&s.ts)))}
	flags := enterGetEvents | r.enterReg | r.noIOWait | enterExtArg
	_, _, errno := unix.RawSyscall6(sysEnter, uintptr(r.enterFD), uintptr(todo), uintptr(want), uintptr(flags),
		uintptr(unsafe.Pointer(&s.arg)), unsafe.Sizeof(s.arg))
	return errno
}

// enter publishes the prepared entries, submits them and waits for want completions, at most left (-1: for ever).
func (r *Ring) enter(want uint32, left time.Duration) unix.Errno {
	atomic.StoreUint32(r.shared.sqTail, r.sqTail)
	todo := r.sqTail - atomic.LoadUint32(r.shared.sqHead)
	flags := enterGetEvents | r.enterReg
	var arg, size uintptr
	if want > 0 {
		flags |= r.noIOWait
		if left >= 0 {
			s := r.scratch
			s.ts = timespec{Sec: int64(left / time.Second), Nsec: int64(left % time.Second)}
			s.arg = geteventsArg{TS: uint64(uintptr(unsafe.Pointer(&s.ts)))}
			flags |= enterExtArg
			arg, size = uintptr(unsafe.Pointer(&s.arg)), unsafe.Sizeof(s.arg)
		}
	}
	// Not RawSyscall6: the runtime would take a thread that sleeps here for one that computes, and stop the world for it.
	_, _, errno := unix.Syscall6(sysEnter, uintptr(r.enterFD), uintptr(todo), uintptr(want), uintptr(flags), arg, size)
	return errno
}

// submit hands over everything prepared in the middle of a turn. Completions that are in the way move to the
// backlog, because they may only be delivered by Wait.
func (r *Ring) submit() {
	for {
		atomic.StoreUint32(r.shared.sqTail, r.sqTail)
		todo := r.sqTail - atomic.LoadUint32(r.shared.sqHead)
		if todo == 0 {
			return
		}
		_, _, errno := unix.Syscall6(sysEnter, uintptr(r.enterFD), uintptr(todo), 0, uintptr(r.enterReg), 0, 0)
		switch errno {
		case 0, unix.EINTR:
		case unix.EBUSY, unix.EAGAIN:
			r.spill()
			r.enter(0, -1) // flushes completions that the queue had no room for
			runtime.Gosched()
		case unix.EEXIST:
			panic("uring: the ring is used from another thread than the one that made it")
		default:
			panic(fmt.Sprintf("uring: io_uring_enter refuses a submission: %v", errno))
		}
	}
}

// spill empties the completion queue into the backlog.
func (r *Ring) spill() {
	for tail := r.shared.ready(); r.cqHead != tail; r.cqHead++ {
		r.backlog = append(r.backlog, *r.shared.completion(r.cqHead))
	}
	atomic.StoreUint32(r.shared.cqHead, r.cqHead)
}

// deliver gives every completion that is there to its Completer and says how many there were.
func (r *Ring) deliver() int {
	n := 0
	if len(r.backlog) > 0 {
		taken := r.backlog
		r.backlog = nil
		for _, c := range taken {
			n += r.finish(c)
		}
	}
	tail := r.shared.ready()
	// A Completer may make submit spill, which moves cqHead past tail.
	for int32(tail-r.cqHead) > 0 {
		c := *r.shared.completion(r.cqHead)
		r.cqHead++
		n += r.finish(c)
	}
	atomic.StoreUint32(r.shared.cqHead, r.cqHead)
	return n
}

// finish delivers one completion. The ring's own are not counted.
func (r *Ring) finish(c cqe) int {
	t := Token(c.UserData)
	s := r.slots.find(t)
	if s == nil {
		panic("uring: completion of an operation that is not in flight")
	}
	who, arg := s.who, s.arg
	if c.Flags&More == 0 {
		r.slots.release(uint32(t))
	}
	if who == nil {
		return 0
	}
	who.Complete(arg, c.Res, c.Flags)
	if _, own := who.(waker); own {
		return 0
	}
	return 1
}
