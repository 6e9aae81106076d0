package ublk

import (
	"errors"
	"fmt"
	"io"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// Op is what a request asks for.
type Op uint8

const (
	OpRead        = Op(uapi.OpRead)
	OpWrite       = Op(uapi.OpWrite)
	OpFlush       = Op(uapi.OpFlush)       // everything completed before must be durable
	OpDiscard     = Op(uapi.OpDiscard)     // the bytes are not needed any more
	OpWriteZeroes = Op(uapi.OpWriteZeroes) // the bytes must read as zeroes
)

// String returns "read", "write", "flush", "discard" or "write-zeroes".
func (o Op) String() string {
	switch o {
	case OpRead:
		return "read"
	case OpWrite:
		return "write"
	case OpFlush:
		return "flush"
	case OpDiscard:
		return "discard"
	case OpWriteZeroes:
		return "write-zeroes"
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// Flags qualify a request.
type Flags uint8

const (
	FUA     Flags = 1 << iota // the data of this write must be durable when it completes
	NoUnmap                   // write-zeroes must leave the blocks allocated
	Meta                      // metadata of a file system
	Swap                      // memory on its way out
)

// A Handler answers a device's requests. Handle is called on the thread of the ring and returns at once; the request is
// answered by one Complete, then or later.
type Handler interface{ Handle(*Request) }

// HandlerFunc makes a function a Handler.
type HandlerFunc func(*Request)

// Handle calls f.
func (f HandlerFunc) Handle(r *Request) { f(r) }

// A Request is one block I/O request. It belongs to the handler until it is completed; the memory is used
// again for later requests of the same tag.
type Request struct {
	Op    Op
	Flags Flags
	Off   int64 // bytes from the start of the disk
	Len   int64 // bytes; 0 for OpFlush

	q     *queue
	tag   uint16
	held  bool   // with the handler
	extra bool   // its pages were registered by a command of their own (fallback of zero copy)
	buf   uint32 // ModeCopy: index in the pool
	fake  *fake

	next *Request // list of a blocking handler
}

// hasData says that the request moves bytes.
func (r *Request) hasData() bool { return r.Op == OpRead || r.Op == OpWrite }

// Queue and Tag name the request among those in flight on its device.
func (r *Request) Queue() int {
	if r.fake != nil {
		return 0
	}
	return int(r.q.id)
}

// Tag is below the queue's depth and unique among the requests in flight on its queue.
func (r *Request) Tag() int { return int(r.tag) }

// Bytes is the memory of the data in ModeCopy: what a write brought, what a read fills. It is nil in
// the other modes and for requests without data.
func (r *Request) Bytes() []byte {
	switch {
	case !r.hasData():
		return nil
	case r.fake != nil:
		return r.fake.data
	case r.q.pool != nil:
		return r.q.pool.bytes(r.buf, int(r.Len))
	}
	return nil
}

// CopyOut copies the data of a write, from byte off of the request, into p. It works in every mode, from any goroutine,
// and blocks only for the copy.
func (r *Request) CopyOut(p []byte, off int64) error { return r.copy(OpWrite, p, off) }

// CopyIn copies p into the data of a read, at byte off of the request, as CopyOut does.
func (r *Request) CopyIn(p []byte, off int64) error { return r.copy(OpRead, p, off) }

func (r *Request) copy(op Op, p []byte, off int64) error {
	if r.Op != op || off < 0 || int64(len(p)) > r.Len-off {
		panic(fmt.Sprintf("ublk: copy of %d bytes at %d of a %v of %d bytes", len(p), off, r.Op, r.Len))
	}
	if b := r.Bytes(); b != nil {
		if op == OpWrite {
			copy(p, b[off:])
		} else {
			copy(b[off:], p)
		}
		return nil
	}
	r.q.copying.RLock()
	defer r.q.copying.RUnlock()
	if r.q.char < 0 {
		return fmt.Errorf("copy data of the request: %w: abandoned", ErrState)
	}
	pos := uapi.DataOffset(int(r.q.id), int(r.tag)) + off
	for len(p) > 0 {
		var n int
		var err error
		if op == OpWrite {
			n, err = unix.Pread(r.q.char, p, pos)
		} else {
			n, err = unix.Pwrite(r.q.char, p, pos)
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("copy data of the request: %w", err)
		}
		if n <= 0 {
			return io.ErrUnexpectedEOF
		}
		p, pos = p[n:], pos+int64(n)
	}
	return nil
}

// CopyOutOp is CopyOut as an operation for the ring of the queue, into p. Its result is the count. It is for the modes
// without Bytes.
func (r *Request) CopyOutOp(p []byte, off int64) uring.Op {
	return uring.Read(r.q.file, p, uapi.DataOffset(int(r.q.id), int(r.tag))+off)
}

// CopyInOp is CopyIn as an operation for the ring of the queue.
func (r *Request) CopyInOp(p []byte, off int64) uring.Op {
	return uring.Write(r.q.file, p, uapi.DataOffset(int(r.q.id), int(r.tag))+off)
}

// WriteOp is the operation that writes bytes [from, from+n) of the request's data to f at byte off, in whatever
// way the mode has (ModeUserCopy has none). Prepare it on the queue's ring; the result is a count and may be short.
func (r *Request) WriteOp(f uring.File, from, n, off int64) uring.Op {
	if r.fake != nil {
		return uring.Write(f, r.fake.data[from:from+n], off)
	}
	if p := r.q.pool; p != nil {
		return uring.WriteFixed(f, p.bufs[r.buf].slot, p.bytes(r.buf, int(r.Len))[from:from+n], off)
	}
	return uring.WriteKernel(f, r.pages(), from, int(n), off)
}

// ReadOp is the operation that reads from f at byte off into bytes [from, from+n) of the request's data,
// as WriteOp.
func (r *Request) ReadOp(f uring.File, from, n, off int64) uring.Op {
	if r.fake != nil {
		return uring.Read(f, r.fake.data[from:from+n], off)
	}
	if p := r.q.pool; p != nil {
		return uring.ReadFixed(f, p.bufs[r.buf].slot, p.bytes(r.buf, int(r.Len))[from:from+n], off)
	}
	return uring.ReadKernel(f, r.pages(), from, int(n), off)
}

// pages is the slot of the request's own pages.
func (r *Request) pages() int {
	if r.q.base < 0 {
		panic("ublk: requests of a user-copy device have no operations on their data")
	}
	return r.q.slot(r.tag)
}

// Keep takes the memory out of the request, so that it can still be used after Complete; the tag gets another buffer, which
// is the request's memory from then on: what a read is answered with has to be there. It is false when Config.Spare are
// kept, or there is no memory, and in other modes than ModeCopy. Ring's thread only.
func (r *Request) Keep() (*Buffer, bool) {
	if r.fake != nil || r.q.pool == nil || !r.hasData() {
		return nil, false
	}
	return r.q.pool.take(r)
}

// Complete answers the request: nil is success of the whole request, anything else becomes an errno by Errno. A
// handler that moved only a part must go on or fail. It is for the thread of the ring; the answer leaves with the
// ring's next submission. A second Complete is a bug and panics.
func (r *Request) Complete(err error) {
	if r.fake != nil {
		r.fake.complete(r, err)
		return
	}
	r.q.answer(r, Errno(err))
}

// CompleteRemote is Complete for every other goroutine. It does not block.
func (r *Request) CompleteRemote(err error) {
	if r.fake != nil {
		r.fake.complete(r, err)
		return
	}
	r.q.answerLater(r, Errno(err))
}

// result is what the driver is told: the full length, zero for what moves no data, or an errno.
func (r *Request) result(errno unix.Errno) int32 {
	switch {
	case errno != 0:
		return -int32(errno)
	case r.hasData():
		return int32(r.Len)
	}
	return 0
}

// fake stands for the queue of a request that no kernel sent.
type fake struct {
	data []byte
	done func(error)
	over bool
}

func (f *fake) complete(_ *Request, err error) {
	if f.over {
		panic("ublk: a request is completed twice")
	}
	f.over = true
	f.done(err)
}

// FakeRequest makes a request for tests of a Handler: data is its memory and done gets its answer, on whatever
// goroutine completes it.
func FakeRequest(op Op, flags Flags, off int64, data []byte, length int64, done func(error)) *Request {
	return &Request{Op: op, Flags: flags, Off: off, Len: length, fake: &fake{data: data, done: done}}
}
