package bitmap

import "math/bits"

// pageSet is a set of page numbers in [0, n): one bit per page, so that 16 TiB
// of device is searched in 2048 words.
type pageSet struct {
	words []uint64
	n     int // pages that the set can hold
	count int // members
}

// resize changes the range to [0, n); members outside of it are dropped.
func (s *pageSet) resize(n int) {
	words := make([]uint64, (n+63)/64)
	copy(words, s.words)
	if n%64 != 0 {
		words[len(words)-1] &= 1<<(n%64) - 1
	}
	s.words, s.n, s.count = words, n, 0
	for _, w := range words {
		s.count += bits.OnesCount64(w)
	}
}

func (s *pageSet) has(p int) bool { return s.words[p/64]>>(p%64)&1 != 0 }

// put makes p a member or no member.
func (s *pageSet) put(p int, member bool) {
	bit := uint64(1) << (p % 64)
	switch was := s.words[p/64]&bit != 0; {
	case member && !was:
		s.count++
	case !member && was:
		s.count--
	}
	if member {
		s.words[p/64] |= bit
	} else {
		s.words[p/64] &^= bit
	}
}

// fill makes every page a member, or none.
func (s *pageSet) fill(member bool) {
	s.count = 0
	clear(s.words)
	if !member {
		return
	}
	for i := range s.words {
		s.words[i] = ^uint64(0)
	}
	if s.n%64 != 0 {
		s.words[len(s.words)-1] = 1<<(s.n%64) - 1
	}
	s.count = s.n
}

// next is the first member at or after from.
func (s *pageSet) next(from int) (p int, ok bool) {
	if s.count == 0 || from >= s.n {
		return 0, false
	}
	from = max(from, 0)
	w := s.words[from/64] &^ (1<<(from%64) - 1)
	for i := from / 64; ; w = s.words[i] {
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w), true
		}
		if i++; i == len(s.words) {
			return 0, false
		}
	}
}
