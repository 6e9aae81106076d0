package ublk

import (
	"errors"
	"fmt"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// Serve serves all queues of the device on one ring: it gives the driver the fetches and returns. From then on requests come
// to h inside ring.Wait, until the device is stopped; the owner must go on waiting until Stop, Delete or
// Quiesce has returned. Call it on the ring's thread, after Create or Recover and before Start.
func (d *Device) Serve(ring *uring.Ring, h Handler) error {
	for i := range d.cfg.Queues {
		if err := d.ServeQueue(i, ring, h); err != nil {
			return err
		}
	}
	return nil
}

// ServeQueue serves one queue, as Serve does, so that queues can have rings and threads of their own.
// An error leaves the queue unserved.
func (d *Device) ServeQueue(i int, ring *uring.Ring, h Handler) error {
	d.mu.Lock()
	var err error
	switch {
	case i < 0 || i >= d.cfg.Queues:
		err = fmt.Errorf("there is no queue %d of %d", i, d.cfg.Queues)
	case d.phase != phaseAdded && d.phase != phaseRecover:
		err = fmt.Errorf("%w: %v", ErrState, d.phase)
	case d.serving != nil && d.serving.over:
		err = fmt.Errorf("%w: being stopped", ErrState)
	case d.serving != nil && d.serving.queues[i] != nil:
		err = fmt.Errorf("%w: queue %d is being served", ErrState, i)
	}
	if err == nil && d.serving == nil {
		d.serving = newSession(d.cfg.Queues)
	}
	ses, char := d.serving, d.char
	var mem []byte
	if err == nil {
		mem = d.prepared[i]
		delete(d.prepared, i)
	}
	d.mu.Unlock()
	if err != nil {
		return d.fail("serve", err)
	}
	q, err := d.newQueue(i, ses, char, ring, h, mem)
	if err != nil {
		return d.fail("serve", err)
	}
	d.mu.Lock()
	ses.queues[i] = q
	d.mu.Unlock()
	q.fetchAll()
	ring.Submit() // a Stop ends only what the driver has: fetches that come after it would wait for ever
	if err := q.mapDescriptors(); err != nil {
		ses.fail(d, fmt.Errorf("%w: %w", ErrServerFailed, err))
		return d.fail("serve", err)
	}
	return nil
}

// Failed tells whoever owns a served device that it cannot be served any more: the kernel has refused a command of a queue, so a
// request may stay unanswered for ever. The channel gets the reason, an ErrServerFailed, once, and is closed when this time
// of being served is over; another Serve has another channel. It is nil while no queue is served. The owner can Stop the
// device, or end the process: what a crash leaves, the next server recovers.
func (d *Device) Failed() <-chan error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving == nil {
		return nil
	}
	return d.serving.report
}

// RingConfig is what serving the device on one ring needs of it, at least. The owner adds what else it does there.
func (d *Device) RingConfig() uring.Config {
	tags := d.cfg.Queues * d.cfg.Depth
	c := uring.Config{Entries: tags, Completions: 4 * tags, Files: d.cfg.Queues}
	switch d.Mode() {
	case ModeCopy:
		c.Buffers = d.cfg.Queues * (1 + d.cfg.Spare)
	case ModeZeroCopy:
		c.Buffers = tags
	}
	return c
}

func (d *Device) newQueue(i int, ses *session, char int, ring *uring.Ring, h Handler, mem []byte) (*queue, error) {
	depth := d.cfg.Depth
	q := &queue{
		dev: d, ses: ses, id: uint16(i), ring: ring, handler: h,
		char: char, file: uring.FD(char), reqs: make([]Request, depth), alive: depth, auto: -1, base: -1,
		prepared: mem, spare: make([]answer, 0, depth),
	}
	q.remote.answers = make([]answer, 0, depth)
	q.signal = ring.NewSignal(q.answerRemote)
	for tag := range q.reqs {
		q.reqs[tag] = Request{q: q, tag: uint16(tag), buf: uint32(tag)}
	}
	if err := q.acquire(); err != nil {
		return nil, errors.Join(err, q.release())
	}
	return q, nil
}

// mapDescriptors makes what the driver says of requests readable. The queue is fetched before: who maps first is, on 6.12, the only one who may, until
// a recovery begins, and there none begins of a server that died before one of its queues was fetched. Before Start no request comes.
func (q *queue) mapDescriptors() (err error) {
	page := int64(pageSize())
	q.descs, err = unix.Mmap(q.char, uapi.DescOffset(int(q.id), page), int(uapi.DescLength(q.dev.cfg.Depth, page)),
		unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map the descriptors of queue %d: %w", q.id, err)
	}
	return nil
}

// acquire gets the memory and table slots of a queue.
func (q *queue) acquire() (err error) {
	d := q.dev
	if q.file, err = q.ring.AddFile(q.char); err != nil {
		if q.file = uring.FD(q.char); !errors.Is(err, uring.ErrTableFull) {
			return err
		}
	}
	switch d.Mode() {
	case ModeCopy:
		mem := q.prepared
		q.prepared = nil
		q.pool, err = newPool(q.ring, mem, d.cfg.Depth, d.cfg.Spare, d.cfg.MaxIO)
	case ModeZeroCopy:
		if q.base, err = q.ring.ReserveBuffers(d.cfg.Depth); err != nil {
			q.base = -1
			return fmt.Errorf("slots for the pages of requests: %w", err)
		}
		q.auto = q.base
	}
	return err
}
