package engine

// direction says where a block of the peer goes.
type direction uint8

const (
	received direction = iota // from it to the disk
	served                    // from the disk to it
)

// reserve is memory of one volume, a piece as large as the largest request for each direction. The volumes share a pool, and a disk that was given
// up holds what it had of it until the kernel has ended its I/O, which may be never: that may be all there is. The others go on with
// their own then; what is read for the peer cannot keep what it sends waiting, or two nodes may wait for each other.
type reserve [2]*pool

const reserveSize = PageSize << maxOrder // bytes

// bufferSize is what n bytes take of the pool.
func bufferSize(n int64) int64 { return PageSize << orderOf(int(n)) }

// buffer returns n bytes for a block of the peer, at most 1 MiB, or nil if there is no room now.
func (e *Engine) buffer(v *volume, d direction, n int) []byte {
	if b := e.pool.get(n); b != nil {
		return b
	}
	return v.reserve[d].get(n)
}

// giveBuffer takes back what buffer returned.
func (e *Engine) giveBuffer(v *volume, b []byte) {
	for _, p := range v.reserve {
		if p.owns(b) {
			p.put(b)
			return
		}
	}
	e.pool.put(b)
}
