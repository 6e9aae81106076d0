package bitmap

import "math/rand/v2"

// model is the bitmap as nobody would ship it: one bool per bit.
type model struct {
	size  int64
	set   []bool
	saved [][]byte // what is on disk, per page
}

func newModel(size int64) *model {
	m := &model{size: size, set: make([]bool, blocks(size))}
	m.saved = make([][]byte, (len(m.set)+PageBits-1)/PageBits)
	for p := range m.saved {
		m.saved[p] = make([]byte, PageSize)
	}
	return m
}

func (m *model) page(p int) []byte {
	buf := make([]byte, PageSize)
	for i := range PageBits {
		if n := p*PageBits + i; n < len(m.set) && m.set[n] {
			buf[i/8] |= 1 << (i % 8)
		}
	}
	return buf
}

func (m *model) count(from, to int64) (n int64) {
	for i := max(from, 0); i < min(to, int64(len(m.set))); i++ {
		if m.set[i] {
			n++
		}
	}
	return n
}

func (m *model) assign(from, to int64, v bool) (changed int64) {
	for i := max(from, 0); i < min(to, int64(len(m.set))); i++ {
		if m.set[i] != v {
			m.set[i] = v
			changed++
		}
	}
	return changed
}

func (m *model) next(from int64, v bool) (int64, bool) {
	for i := max(from, 0); i < int64(len(m.set)); i++ {
		if m.set[i] == v {
			return i, true
		}
	}
	return 0, false
}

// scatter sets runs of random lengths: density 0 is sparse and long, larger is
// denser and shorter.
func scatter(b *Bitmap, rng *rand.Rand, runs int, longest int64) {
	for range runs {
		n := 1 + rng.Int64N(longest)
		b.SetRange(rng.Int64N(b.Bits())*BlockSize, n*BlockSize)
	}
}
