package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"
)

// A device is the block device of one volume. It implements replication.Device and ublk.Handler.
type device struct {
	resource string
	volume   int
	names    deviceNames
	logger   *slog.Logger
	failed   func(error) // ends the daemon
	dev      blockDevice
	adopted  bool     // Add found it with users that wait for a server
	adoption adoption // how far they are

	ring   *uring.Ring // set by Serve
	submit func(*engine.Request)
	slots  []slot      // by tag; the loop's
	served atomic.Bool // the fetches are on the ring
}

// A blockDevice is what is needed of a *ublk.Device; tests have one without a kernel.
type blockDevice interface {
	ID() int
	Path() string
	Config() ublk.Config
	Holders() ([]ublk.Holder, error)
	Prepare() error
	Serve(*uring.Ring, ublk.Handler) error
	Failed() <-chan error
	Start(context.Context) error
	Tune(name, value string) error
	Resize(ctx context.Context, size int64) error
	SetBlockSize(ctx context.Context, block int) error
	TryStop(context.Context) error
	Abandon(context.Context) error
	Delete(context.Context) error
}

// A slot is one request in both languages.
type slot struct {
	engine engine.Request
	kernel *ublk.Request
}

// Adopted says that Add took over the device of a dead predecessor.
func (d *device) Adopted() bool { return d.adopted }

// Prepare gets the memory that Serve needs.
func (d *device) Prepare() {
	if err := d.dev.Prepare(); err != nil {
		d.logger.Debug("Serve has to get its memory itself", "device", d.Path(), "err", err)
	}
}

// Path is the block device.
func (d *device) Path() string { return d.dev.Path() }

// Serve puts the fetches on the loop's ring. The users of an adopted device go on then: the kernel has to be told, and that
// may not be done on this thread. Serve may be repeated when that has failed.
func (d *device) Serve(ring *uring.Ring, submit func(*engine.Request)) error {
	d.ring, d.submit = ring, submit
	if !d.served.Load() {
		if err := d.dev.Serve(ring, d); err != nil {
			return err
		}
		d.served.Store(true)
		go d.watch(d.dev.Failed())
	}
	if d.adoption.begin() {
		go d.letGo()
	}
	return nil
}

// watch tells the daemon when the device cannot be served any more. It ends when this time of being served does.
func (d *device) watch(failed <-chan error) {
	for err := range failed {
		d.failed(fmt.Errorf("%s cannot be served any more: %w", d.Path(), err))
	}
}

// engineOp is an operation of the block layer in the engine's words.
func engineOp(op ublk.Op) (engine.Op, bool) {
	switch op {
	case ublk.OpRead:
		return engine.OpRead, true
	case ublk.OpWrite:
		return engine.OpWrite, true
	case ublk.OpFlush:
		return engine.OpFlush, true
	case ublk.OpDiscard:
		return engine.OpDiscard, true
	case ublk.OpWriteZeroes:
		return engine.OpWriteZeroes, true
	}
	return 0, false
}

// Handle passes a request of the kernel to the engine.
func (d *device) Handle(r *ublk.Request) {
	op, ok := engineOp(r.Op)
	if !ok {
		r.Complete(unix.EOPNOTSUPP)
		return
	}
	s := &d.slots[r.Tag()]
	s.kernel = r
	s.engine = engine.Request{
		Vol: d.volume, Op: op, Off: r.Off, Len: r.Len, Data: r.Bytes(), Handle: uint64(r.Tag()),
		FUA: r.Flags&ublk.FUA != 0, NoUnmap: r.Flags&ublk.NoUnmap != 0,
	}
	d.submit(&s.engine)
}

// Keep gives a request other memory.
func (d *device) Keep(r *engine.Request) (release func(), ok bool) {
	kernel := d.slots[r.Handle].kernel
	b, ok := kernel.Keep()
	if !ok {
		return nil, false
	}
	r.Data = kernel.Bytes()
	return b.Release, true
}

// Complete answers a request.
func (d *device) Complete(r *engine.Request) {
	kernel := d.slots[r.Handle].kernel
	d.slots[r.Handle].kernel = nil
	if r.Err != engine.OK {
		kernel.Complete(unix.Errno(r.Err))
		return
	}
	kernel.Complete(nil)
}
