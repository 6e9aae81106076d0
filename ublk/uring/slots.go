package uring

import "unsafe"

// A Completer gets the results of the operations it was given to Prep with. res is the
// operation's result: a count or a negative errno. flags holds More, Notify and, in its upper half, a buffer id.
// It runs on the ring's thread and must not block.
type Completer interface {
	Complete(arg uint64, res int32, flags uint32)
}

// CompleterFunc makes a function a Completer.
type CompleterFunc func(arg uint64, res int32, flags uint32)

// Complete calls f.
func (f CompleterFunc) Complete(arg uint64, res int32, flags uint32) { f(arg, res, flags) }

// A Token names an operation in flight, for Cancel. It is never used again for another one
// before 2^32 operations have gone through the same slot.
type Token uint64

// slot remembers who gets the completion of one operation in flight.
type slot struct {
	who  Completer
	arg  uint64
	mem  unsafe.Pointer // keeps the operation's Go memory reachable
	gen  uint32
	next uint32 // free list
	busy bool
	cmd  bool // a driver's command: only the end of the ring cancels it
}

// slots is the table that user_data points into: generation<<32 | index.
type slots struct {
	tab  []slot
	free uint32 // head of the free list, noSlot when empty
	live int
	cmds int // of live, driver's commands
}

const noSlot = ^uint32(0)

func newSlots(n int) slots {
	s := slots{free: noSlot}
	s.grow(n)
	return s
}

func (s *slots) grow(n int) {
	first := len(s.tab)
	s.tab = append(s.tab, make([]slot, n)...)
	for i := len(s.tab) - 1; i >= first; i-- {
		s.tab[i].next, s.free = s.free, uint32(i)
	}
}

// take uses a free slot. A full table means that the owner has more in flight than it said; it doubles.
func (s *slots) take(who Completer, arg uint64, mem unsafe.Pointer, cmd bool) Token {
	if s.free == noSlot {
		s.grow(len(s.tab))
	}
	i := s.free
	e := &s.tab[i]
	s.free = e.next
	e.who, e.arg, e.mem, e.busy, e.cmd = who, arg, mem, true, cmd
	s.live++
	if cmd {
		s.cmds++
	}
	return Token(uint64(e.gen)<<32 | uint64(i))
}

// find returns the slot that t names, or nil when its operation has completed.
func (s *slots) find(t Token) *slot {
	i := uint32(t)
	if int(i) >= len(s.tab) {
		return nil
	}
	if e := &s.tab[i]; e.busy && e.gen == uint32(t>>32) {
		return e
	}
	return nil
}

func (s *slots) release(i uint32) {
	e := &s.tab[i]
	s.live--
	if e.cmd {
		s.cmds--
	}
	*e = slot{gen: e.gen + 1, next: s.free}
	s.free = i
}
