package engine

import "unsafe"

// owns reports whether a piece is one of the pool's region.
func (p *pool) owns(b []byte) bool { return p.at(b) < uintptr(len(p.order))*PageSize }

// at is where in the region a piece starts, in bytes; past its end if it is none of it.
func (p *pool) at(b []byte) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(p.mem)))
}

// pageOf is the page number of a piece of the pool's region.
func (p *pool) pageOf(b []byte) int32 {
	at := p.at(b)
	if at%PageSize != 0 || !p.owns(b) {
		panic("engine: buffer does not belong to the pool")
	}
	return int32(at / PageSize)
}
