package uring

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Answers of Post.
var (
	ErrClosed = errors.New("ring is closed")
	ErrFull   = errors.New("ring's mailbox is full")
)

// mailbox carries work from other goroutines to the ring's thread. The owner says when it is about
// to sleep; only then does a sender pay for a write to the eventfd.
type mailbox struct {
	event  int
	asleep atomic.Uint32
	full   atomic.Uint32 // 1 when something lies in funcs or signals

	mu      sync.Mutex // leaf: guards what follows, and event against being closed
	funcs   []func()
	signals []*Signal
	limit   int
	closed  bool

	// Used by the owner alone: the slices that are being run, swapped with those above.
	spareFuncs   []func()
	spareSignals []*Signal
}

// sleep is called before the owner waits; false means that something has arrived and it must not.
func (m *mailbox) sleep() bool {
	m.asleep.Store(1)
	if m.full.Load() != 0 {
		m.asleep.Store(0)
		return false
	}
	return true
}

// wake is called with mu held.
func (m *mailbox) wake() {
	m.full.Store(1)
	if m.asleep.Swap(0) == 1 {
		one := uint64(1)
		// The counter cannot overflow: one write per sleep. EINTR does not happen to an eventfd that has room.
		unix.RawSyscall(unix.SYS_WRITE, uintptr(m.event), uintptr(unsafe.Pointer(&one)), 8)
	}
}

// run runs everything that lies in the mailbox and says how much it was.
func (m *mailbox) run() int {
	if m.full.Load() == 0 {
		return 0
	}
	m.mu.Lock()
	funcs, signals := m.funcs, m.signals
	m.funcs, m.signals = m.spareFuncs[:0], m.spareSignals[:0]
	m.full.Store(0)
	m.mu.Unlock()
	for _, s := range signals {
		s.raised.Store(false) // before the call: what is raised during it is seen by the next turn
		s.f()
	}
	for _, f := range funcs {
		f()
	}
	clear(funcs)
	clear(signals)
	m.spareFuncs, m.spareSignals = funcs, signals
	return len(funcs) + len(signals)
}

// Post runs f on the ring's thread, inside Wait, after everything posted before. It is safe from any goroutine and
// never blocks: a mailbox that holds Config.Mailbox functions answers ErrFull, a closed ring ErrClosed.
func (r *Ring) Post(f func()) error {
	m := &r.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if len(m.funcs) >= m.limit {
		return ErrFull
	}
	m.funcs = append(m.funcs, f)
	m.wake()
	return nil
}

// A Signal is a wake-up that can be raised any number of times without memory: the ring's thread runs its function
// once for all raises since the last run.
type Signal struct {
	ring   *Ring
	f      func()
	raised atomic.Bool
}

// NewSignal returns a Signal that runs f on the ring's thread.
func (r *Ring) NewSignal(f func()) *Signal { return &Signal{ring: r, f: f} }

// Raise makes the ring run the function soon. It is safe from any goroutine. After the ring has been closed it does nothing.
func (s *Signal) Raise() {
	if s.raised.Swap(true) {
		return
	}
	m := &s.ring.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.signals = append(m.signals, s)
	m.wake()
}
