package ublk

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// A queue is one hardware queue, served on one ring. Everything but remote belongs to the ring's thread.
//
// A tag is always in one of three places: with the driver (a FETCH or COMMIT_AND_FETCH is in flight), with the
// handler (Request.held), or dead (the driver has aborted it). The queue ends when all are dead.
type queue struct {
	dev     *Device
	ses     *session
	id      uint16
	ring    *uring.Ring
	handler Handler

	copying sync.RWMutex // leaf: guards char while it is used for a copy

	char  int        // descriptor of the character device; -1 when the queue has been abandoned
	file  uring.File // the same for the ring
	descs []byte     // mapped, written by the driver
	reqs  []Request
	alive int // tags not dead

	prepared []byte // for the pool, which has it then; see Device.Prepare

	pool *pool // ModeCopy
	auto int   // first slot that the driver fills by itself, -1 without zero copy
	base int   // first slot of the queue's own, where IORegisterBuf puts pages; equals auto

	remote struct {
		sync.Mutex // leaf
		answers    []answer
		over       bool // abandoned: answers are for nobody
	}
	spare  []answer // swapped with remote.answers
	signal *uring.Signal
}

// answer is a completion from another goroutine.
type answer struct {
	r     *Request
	errno unix.Errno
}

func (q *queue) slot(tag uint16) int { return q.base + int(tag) }

// fetchAll asks for the first request of every tag. The fetches go to the kernel in one system call, which ends before a signal kills: a server that
// dies between two of them leaves a queue that is half fetched, and 6.12 never lets go of its device then (docs/ublk.md 2.7).
func (q *queue) fetchAll() {
	q.ring.Reserve(len(q.reqs))
	for tag := range q.reqs {
		q.fetch(uapi.IOFetch, uint16(tag), 0)
	}
}

// fetch prepares FETCH or COMMIT_AND_FETCH for a tag.
func (q *queue) fetch(cmd uint32, tag uint16, result int32) {
	op := uring.Command(q.file, cmd)
	io := uapi.IOCmd{Queue: q.id, Tag: tag, Result: result}
	if q.pool != nil {
		// The address of a commit becomes the buffer of the tag's next write: it is always pool memory.
		r := &q.reqs[tag]
		io.Addr = uint64(uintptr(unsafe.Pointer(unsafe.SliceData(q.pool.bytes(r.buf, 0)))))
	}
	if q.auto >= 0 {
		op.Addr = uapi.AutoBuf(uint16(q.auto + int(tag)))
	}
	w := io.Words()
	op.Cmd[0], op.Cmd[1] = w[0], w[1]
	q.ring.Prep(op, q, uint64(tag))
}

// Complete is the end of a FETCH or COMMIT_AND_FETCH: the driver has a request, or the tag is dead.
func (q *queue) Complete(tag uint64, res int32, _ uint32) {
	if res == uapi.ResultOK {
		q.receive(uint16(tag))
		return
	}
	switch errno := unix.Errno(-res); errno {
	case unix.ENODEV, unix.ECANCELED: // the driver, or the ring, ends
	default:
		q.ses.fail(q.dev, fmt.Errorf("%w: queue %d tag %d: %w", ErrServerFailed, q.id, tag, errno))
	}
	q.dead()
}

// receive reads the descriptor of a tag and hands the request to the handler.
func (q *queue) receive(tag uint16) {
	d := (*uapi.IODesc)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(q.descs)), uintptr(tag)*unsafe.Sizeof(uapi.IODesc{})))
	r := &q.reqs[tag]
	r.decode(d)
	r.held = true
	if d.OpFlags&uapi.FlagNeedRegBuf != 0 {
		q.registerPages(r)
		return
	}
	q.handler.Handle(r)
}

// decode fills the request from its descriptor.
func (r *Request) decode(d *uapi.IODesc) {
	r.Op = Op(d.OpFlags & 0xff)
	r.Off, r.Len = int64(d.StartSector)<<uapi.SectorShift, int64(d.Sectors)<<uapi.SectorShift
	r.Flags = 0
	for _, f := range [...]struct {
		bit  uint32
		flag Flags
	}{{uapi.FlagFUA, FUA}, {uapi.FlagNoUnmap, NoUnmap}, {uapi.FlagMeta, Meta}, {uapi.FlagSwap, Swap}} {
		if d.OpFlags&f.bit != 0 {
			r.Flags |= f.flag
		}
	}
	if r.Op == OpFlush {
		r.Off, r.Len = 0, 0
	}
}

// registrar gets the end of IORegisterBuf: the same queue under another method.
type registrar queue

// registerPages puts a request's pages into its slot, after the driver could not do it by itself.
func (q *queue) registerPages(r *Request) {
	q.ring.Prep(q.pages(uapi.IORegisterBuf, r), (*registrar)(q), uint64(r.tag))
}

func (q *queue) pages(cmd uint32, r *Request) uring.Op {
	op := uring.Command(q.file, cmd)
	io := uapi.IOCmd{Queue: q.id, Tag: r.tag, Addr: uint64(q.slot(r.tag))}
	w := io.Words()
	op.Cmd[0], op.Cmd[1] = w[0], w[1]
	return op
}

func (p *registrar) Complete(tag uint64, res int32, _ uint32) {
	q := (*queue)(p)
	r := &q.reqs[tag]
	if res < 0 {
		r.Complete(fmt.Errorf("register pages: %w", unix.Errno(-res)))
		return
	}
	r.extra = true
	q.handler.Handle(r)
}

// answer commits a request and asks for the tag's next one, in the ring's next submission.
func (q *queue) answer(r *Request, errno unix.Errno) {
	if !r.held {
		panic(fmt.Sprintf("ublk: request of queue %d tag %d is completed twice", q.id, r.tag))
	}
	r.held = false
	if q.ring.Closed() {
		q.answerLater(r, errno)
		return
	}
	if r.extra {
		r.extra = false
		q.ring.Prep(q.pages(uapi.IOUnregisterBuf, r), nil, 0)
	}
	q.fetch(uapi.IOCommitAndFetch, r.tag, r.result(errno))
}

// answerLater queues an answer from another goroutine. There is room for one per tag. When the queue has been abandoned, it
// only gives up the request's memory.
func (q *queue) answerLater(r *Request, errno unix.Errno) {
	q.remote.Lock()
	over := q.remote.over
	if !over {
		q.remote.answers = append(q.remote.answers, answer{r, errno})
	}
	q.remote.Unlock()
	if !over {
		q.signal.Raise()
	} else if q.pool != nil {
		q.pool.release()
	}
}

func (q *queue) answerRemote() {
	q.remote.Lock()
	todo := q.remote.answers
	q.remote.answers = q.spare[:0]
	q.remote.Unlock()
	for _, a := range todo {
		q.answer(a.r, a.errno)
	}
	q.spare = todo
}

// dead counts a tag that the driver has aborted; with the last one the queue ends.
func (q *queue) dead() {
	if q.alive--; q.alive == 0 {
		q.end()
	}
}

// end lets go of everything that holds the device, so that it can be deleted.
func (q *queue) end() {
	if err := q.release(); err != nil {
		q.dev.cfg.Logger.Warn("what a queue had is not given back", "device", q.dev.Path(), "queue", q.id, "err", err)
	}
	q.dev.mu.Lock()
	q.ses.queueEnded()
	q.dev.mu.Unlock()
}

func (q *queue) release() error {
	var errs []error
	if q.descs != nil {
		errs = append(errs, unix.Munmap(q.descs))
		q.descs = nil
	}
	if q.prepared != nil {
		errs = append(errs, uring.UnmapMemory(q.prepared))
		q.prepared = nil
	}
	errs = append(errs, q.ring.RemoveFile(q.file))
	if q.pool != nil {
		errs = append(errs, q.pool.end())
	}
	if q.base >= 0 {
		q.ring.ReleaseBuffers(q.base, len(q.reqs))
	}
	return errors.Join(errs...)
}

// fail takes note of the first failure. What the driver says to a session that is being ended is none.
func (s *session) fail(d *Device, err error) {
	d.mu.Lock()
	first := s.err == nil && !s.over
	if first {
		s.err = err
		close(s.failed)
		s.report <- err
	}
	d.mu.Unlock()
	if first {
		d.cfg.Logger.Error("the device cannot be served any more", "device", d.Path(), "err", err)
	}
}

// queueEnded is called with the device's mu held.
func (s *session) queueEnded() {
	if s.left--; s.left == 0 {
		close(s.ended)
		close(s.report)
	}
}
