package ublk

import (
	"errors"
	"fmt"
	"sync"

	"github.com/urbd/urbd/ublk/uring"
)

// pool is the memory of one queue in ModeCopy: Depth+Spare buffers of MaxIO bytes, mapped once and
// registered with the ring as one buffer. Every tag owns one; a Keep swaps it for a free one.
type pool struct {
	mem  []byte
	size int
	slot int      // of the ring's buffer table
	bufs []Buffer // handles, by index
	ring *uring.Ring

	mu   sync.Mutex // leaf: guards what follows; contended only after Abandon
	free []uint32   // indices
	kept int        // buffers that somebody has without a request of the driver's
	over bool       // the queue has ended
}

// A Buffer is memory of a request that outlives it (Request.Keep). Its holder gives it back with Release on the ring's
// thread.
type Buffer struct {
	pool  *pool
	index uint32
	n     int
}

func newPool(ring *uring.Ring, depth, spare, size int) (*pool, error) {
	n := depth + spare
	mem, err := uring.MapMemory(int64(n) * int64(size))
	if err != nil {
		return nil, err
	}
	slot, err := ring.AddBuffer(mem)
	if err != nil {
		uring.UnmapMemory(mem)
		return nil, fmt.Errorf("buffers of the device: %w", err)
	}
	p := &pool{mem: mem, size: size, slot: slot, bufs: make([]Buffer, n), ring: ring}
	for i := range p.bufs {
		p.bufs[i] = Buffer{pool: p, index: uint32(i)}
	}
	for i := n - 1; i >= depth; i-- {
		p.free = append(p.free, uint32(i))
	}
	return p, nil
}

func (p *pool) bytes(i uint32, n int) []byte {
	off := int(i) * p.size
	return p.mem[off : off+n : off+p.size]
}

// take swaps the buffer of a request for a free one.
func (p *pool) take(r *Request) (*Buffer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.free) - 1
	if last < 0 {
		return nil, false
	}
	b := &p.bufs[r.buf]
	b.n = int(r.Len)
	r.buf, p.free = p.free[last], p.free[:last]
	p.kept++
	return b, true
}

// keep counts n buffers that the handler has of an abandoned queue.
func (p *pool) keep(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept += n
}

// end gives the memory back to the kernel, once nobody has any of it.
func (p *pool) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	return p.unmap()
}

// release takes back one buffer that somebody had.
func (p *pool) release(free ...uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, free...)
	p.kept--
	// An error leaves the pages pinned until the ring is closed; there is nobody to tell.
	_ = p.unmap()
}

func (p *pool) unmap() error {
	if !p.over || p.kept > 0 {
		return nil
	}
	mem := p.mem
	p.mem = nil
	return errors.Join(p.ring.RemoveBuffer(p.slot), uring.UnmapMemory(mem))
}

// Bytes is the data.
func (b *Buffer) Bytes() []byte { return b.pool.bytes(b.index, b.n) }

// Slot is the registered buffer that the bytes lie in, for uring.WriteFixed and its like.
func (b *Buffer) Slot() int { return b.pool.slot }

// Release gives the memory back to its queue. Call it once, on the ring's thread. The device may have been stopped
// meanwhile.
func (b *Buffer) Release() { b.pool.release(b.index) }
