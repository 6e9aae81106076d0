package ublk

import (
	"errors"
	"fmt"
	"sync"

	"github.com/urbd/urbd/ublk/uring"
)

// pool is the memory of one queue in ModeCopy: Depth buffers of MaxIO bytes, mapped once and registered with the ring as one
// buffer, and up to Spare more, which are made when they are needed. Every tag owns one; a Keep swaps it for a free one.
type pool struct {
	size  int
	limit int // buffers
	maps  []mapping
	bufs  []*Buffer // by index
	ring  *uring.Ring

	mu   sync.Mutex // leaf: guards what follows; contended only after Abandon
	free []uint32   // indices
	kept int        // buffers that somebody has without a request of the driver's
	over bool       // the queue has ended
}

// mapping is memory that is one entry of the ring's buffer table.
type mapping struct {
	mem  []byte
	slot int
}

// A Buffer is memory of a request that outlives it (Request.Keep). Its holder gives it back with Release on the ring's
// thread.
type Buffer struct {
	pool  *pool
	index uint32
	slot  int    // of the ring's buffer table
	mem   []byte // size bytes
	n     int
}

// newPool makes the pool of mem, which is as long as depth buffers, or of new memory if it is nil. It is the pool's also after
// an error.
func newPool(ring *uring.Ring, mem []byte, depth, spare, size int) (*pool, error) {
	p := &pool{size: size, limit: depth + spare, ring: ring}
	if mem == nil {
		return p, p.grow(depth)
	}
	return p, p.add(mem)
}

// grow adds n buffers.
func (p *pool) grow(n int) error {
	mem, err := uring.MapMemory(int64(n) * int64(p.size))
	if err != nil {
		return err
	}
	return p.add(mem)
}

// add cuts memory into buffers.
func (p *pool) add(mem []byte) error {
	slot, err := p.ring.AddBuffer(mem)
	if err != nil {
		uring.UnmapMemory(mem)
		return fmt.Errorf("buffers of the device: %w", err)
	}
	p.maps = append(p.maps, mapping{mem, slot})
	for off := 0; off < len(mem); off += p.size {
		p.bufs = append(p.bufs, &Buffer{pool: p, index: uint32(len(p.bufs)), slot: slot, mem: mem[off : off+p.size : off+p.size]})
	}
	return nil
}

func (p *pool) bytes(i uint32, n int) []byte { return p.bufs[i].mem[:n] }

// take swaps the buffer of a request for a free one.
func (p *pool) take(r *Request) (*Buffer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		if len(p.bufs) == p.limit || p.grow(1) != nil {
			return nil, false
		}
		p.free = append(p.free, uint32(len(p.bufs)-1))
	}
	last := len(p.free) - 1
	b := p.bufs[r.buf]
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
	var errs []error
	for _, m := range p.maps {
		errs = append(errs, p.ring.RemoveBuffer(m.slot), uring.UnmapMemory(m.mem))
	}
	p.maps, p.bufs = nil, nil
	return errors.Join(errs...)
}

// Bytes is the data.
func (b *Buffer) Bytes() []byte { return b.mem[:b.n] }

// Slot is the registered buffer that the bytes lie in, for uring.WriteFixed and its like.
func (b *Buffer) Slot() int { return b.slot }

// Release gives the memory back to its queue. Call it once, on the ring's thread. The device may have been stopped
// meanwhile.
func (b *Buffer) Release() { b.pool.release(b.index) }
