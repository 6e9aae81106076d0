package ublktest

import (
	"errors"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// File is a Handler over a file or block device: every request becomes operations on the ring that serves the queue, straight
// between the file and the request's memory, whatever the mode (ModeUserCopy excepted). One File belongs to one queue.
type File struct {
	ring *uring.Ring
	file uring.File
	tags []transfer
}

// transfer is the progress of the request of one tag.
type transfer struct {
	f    *File
	r    *ublk.Request
	done int64 // bytes
}

// NewFile serves a queue of the given depth on ring with the open file fd.
func NewFile(ring *uring.Ring, fd, depth int) *File {
	f := &File{ring: ring, file: uring.FD(fd), tags: make([]transfer, depth)}
	for i := range f.tags {
		f.tags[i].f = f
	}
	return f
}

// Handle implements ublk.Handler.
func (f *File) Handle(r *ublk.Request) {
	t := &f.tags[r.Tag()]
	t.r, t.done = r, 0
	t.next()
}

// next prepares the operation that the request still needs.
func (t *transfer) next() {
	f, r := t.f, t.r
	var op uring.Op
	switch r.Op {
	case ublk.OpRead:
		op = r.ReadOp(f.file, t.done, r.Len-t.done, r.Off+t.done)
	case ublk.OpWrite:
		op = r.WriteOp(f.file, t.done, r.Len-t.done, r.Off+t.done)
		if r.Flags&ublk.FUA != 0 {
			op.OpFlags |= uring.WriteDSync
		}
	case ublk.OpFlush:
		op = uring.Fsync(f.file, true)
	case ublk.OpDiscard:
		op = uring.Fallocate(f.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.Off, r.Len)
	case ublk.OpWriteZeroes:
		mode := uint32(unix.FALLOC_FL_PUNCH_HOLE)
		if r.Flags&ublk.NoUnmap != 0 {
			mode = unix.FALLOC_FL_ZERO_RANGE
		}
		op = uring.Fallocate(f.file, mode|unix.FALLOC_FL_KEEP_SIZE, r.Off, r.Len)
	default:
		r.Complete(errors.ErrUnsupported)
		return
	}
	f.ring.Prep(op, t, 0)
}

// Complete is the end of an operation. Reads and writes may be short, and go on.
func (t *transfer) Complete(_ uint64, res int32, _ uint32) {
	moves := t.r.Op == ublk.OpRead || t.r.Op == ublk.OpWrite
	switch {
	case res == -int32(unix.EAGAIN) || res == -int32(unix.EINTR):
		t.next()
	case res < 0:
		t.r.Complete(unix.Errno(-res))
	case !moves:
		t.r.Complete(nil)
	case res == 0:
		t.r.Complete(unix.EIO) // the file ends before the disk
	default:
		if t.done += int64(res); t.done < t.r.Len {
			t.next()
			return
		}
		t.r.Complete(nil)
	}
}
