package ublk

import (
	"fmt"

	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// fillPiece is how much memory is got from the kernel at a time: Serve waits for no more than that.
const fillPiece = 1 << 20

// Prepare gets the memory of the queues from the kernel (ModeCopy; the other modes have none), so that Serve need not do that on the
// ring's thread: clearing it takes most of Serve's time. Call it from any goroutine after Create or Recover. Serve may
// come at any time: it takes what there is, and gets the rest itself, as it does after an error of Prepare. What no Serve has taken goes
// with the device.
func (d *Device) Prepare() error {
	if d.Mode() != ModeCopy {
		return nil
	}
	for i := range d.cfg.Queues {
		mem, err := uring.MapMemory(int64(d.cfg.Depth) * int64(d.cfg.MaxIO))
		if err != nil {
			return d.fail("prepare", err)
		}
		if !d.prepare(i, mem) {
			if err := uring.UnmapMemory(mem); err != nil {
				return d.fail("prepare", err)
			}
			continue
		}
		for off, more := 0, true; more; off += fillPiece {
			if more, err = d.fill(i, off); err != nil {
				return d.fail("prepare", err)
			}
		}
	}
	return nil
}

// prepare keeps memory for a queue. False: it has some, or is served, or the device has gone.
func (d *Device) prepare(i int, mem []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.char < 0, d.prepared[i] != nil, d.serving != nil && (d.serving.over || d.serving.queues[i] != nil):
		return false
	case d.prepared == nil:
		d.prepared = make(map[int][]byte)
	}
	d.prepared[i] = mem
	return true
}

// fill has the kernel put pages behind a piece of a queue's memory. False: it was the last one, or the memory is not ours any more.
func (d *Device) fill(i, off int) (more bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	mem := d.prepared[i]
	if off >= len(mem) {
		return false, nil
	}
	piece := mem[off:min(off+fillPiece, len(mem))]
	if err := unix.Madvise(piece, unix.MADV_POPULATE_WRITE); err != nil {
		return false, fmt.Errorf("%d bytes of memory: %w", len(piece), err)
	}
	return true, nil
}
