package disktest

// pageSize is the unit of memory, in bytes.
const pageSize = 4096

// pages is content by pages; one that is not there is zero.
type pages map[int64]*[pageSize]byte

// read copies the content at off into b.
func (p pages) read(off int64, b []byte) {
	for len(b) > 0 {
		at := off % pageSize
		n := min(pageSize-at, int64(len(b)))
		if pg := p[off/pageSize]; pg != nil {
			copy(b[:n], pg[at:])
		} else {
			clear(b[:n])
		}
		off, b = off+n, b[n:]
	}
}

// write replaces n bytes at off by data, or by zeroes if data is nil.
func (p pages) write(off, n int64, data []byte) {
	for n > 0 {
		at := off % pageSize
		k := min(pageSize-at, n)
		var part []byte
		if data != nil {
			part, data = data[:k], data[k:]
		}
		p.writePage(off/pageSize, at, k, part)
		off, n = off+k, n-k
	}
}

func (p pages) writePage(i, at, n int64, data []byte) {
	pg := p[i]
	switch {
	case data == nil || zero(data):
		if n == pageSize {
			delete(p, i)
		} else if pg != nil {
			clear(pg[at : at+n])
		}
		return
	case pg == nil:
		pg = new([pageSize]byte)
		p[i] = pg
	}
	copy(pg[at:], data)
}

func (p pages) clone() pages {
	c := make(pages, len(p))
	for i, pg := range p {
		own := *pg
		c[i] = &own
	}
	return c
}

var zeroPage [pageSize]byte

// zero reports whether up to a page of b is zero.
func zero(b []byte) bool { return string(b) == string(zeroPage[:len(b)]) }

func allZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), pageSize)
		if !zero(b[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
