package bitmap

import "math/bits"

const wordsPerPage = PageBits / 64

// page is one on-disk page of the bitmap: bit n of the page is bit n%64 of word
// n/64. Source: docs/drbd-metadata.md 3.1.
type page [wordsPerPage]uint64

// allSet stands for every page with all of its 32768 bits set. It is never
// written to: own copies it first.
var allSet = func() *page {
	var pg page
	for i := range pg {
		pg[i] = ^uint64(0)
	}
	return &pg
}()

// mask has the bits of word w that lie in [lo, hi) of the page.
func mask(w, lo, hi int) uint64 {
	m := ^uint64(0)
	if lo > w*64 {
		m <<= lo - w*64
	}
	if hi < w*64+64 {
		m &= 1<<(hi-w*64) - 1
	}
	return m
}

// set sets [lo, hi) and returns how many bits changed.
func (pg *page) set(lo, hi int) (changed int) {
	for w := lo / 64; w*64 < hi; w++ {
		m := mask(w, lo, hi)
		changed += bits.OnesCount64(m &^ pg[w])
		pg[w] |= m
	}
	return changed
}

// clear clears [lo, hi) and returns how many bits changed.
func (pg *page) clear(lo, hi int) (changed int) {
	for w := lo / 64; w*64 < hi; w++ {
		m := mask(w, lo, hi)
		changed += bits.OnesCount64(m & pg[w])
		pg[w] &^= m
	}
	return changed
}

// ones counts the set bits in [lo, hi).
func (pg *page) ones(lo, hi int) (n int) {
	for w := lo / 64; w*64 < hi; w++ {
		n += bits.OnesCount64(pg[w] & mask(w, lo, hi))
	}
	return n
}

// next is the first bit in [lo, hi) that is set (flip 0) or clear (flip all
// ones), or hi.
func (pg *page) next(lo, hi int, flip uint64) int {
	for w := lo / 64; w*64 < hi; w++ {
		if v := (pg[w] ^ flip) & mask(w, lo, hi); v != 0 {
			return w*64 + bits.TrailingZeros64(v)
		}
	}
	return hi
}
