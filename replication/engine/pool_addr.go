package engine

import "unsafe"

// pageOf is the page number of a piece of the pool's region.
func (p *pool) pageOf(b []byte) int32 {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(p.mem)))
	if at%PageSize != 0 || at/PageSize >= uintptr(len(p.order)) {
		panic("engine: buffer does not belong to the pool")
	}
	return int32(at / PageSize)
}
