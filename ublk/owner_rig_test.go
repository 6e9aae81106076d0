//go:build rig

package ublk

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Acquire does what a server does with the first queue of its device before the driver has the fetches.
func Acquire(d *Device, ring *uring.Ring) error {
	_, err := d.newQueue(0, newSession(d.cfg.Queues), d.char, ring, nil, nil)
	return err
}

// owner is a thread with a ring, as a program has that serves a device beside other things.
type owner struct {
	t    testing.TB
	ring *uring.Ring
	over bool
	done chan struct{}
}

func newOwner(t testing.TB, d *Device) *owner {
	t.Helper()
	o := &owner{t: t, done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer close(o.done)
		var err error
		o.ring, err = uring.New(d.RingConfig())
		ready <- err
		for err == nil && !o.over {
			_, err = o.ring.Wait(time.Time{})
		}
		if err = errors.Join(err, o.ring.Close(time.Now().Add(time.Minute))); err != nil {
			t.Error(err)
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	return o
}

func (o *owner) call(f func()) {
	done := make(chan struct{})
	if err := o.ring.Post(func() { f(); close(done) }); err != nil {
		o.t.Fatal(err)
	}
	<-done
}

func (o *owner) close() {
	o.ring.Post(func() { o.over = true })
	<-o.done
}

// serve serves d on the owner's ring and starts it.
func (o *owner) serve(d *Device, h Handler) {
	o.t.Helper()
	var err error
	o.call(func() { err = d.Serve(o.ring, h) })
	if err == nil {
		err = d.Start(bounded(o.t))
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

func create(t testing.TB, cfg Config) *Device {
	t.Helper()
	cfg.ID = AnyID
	if cfg.Size == 0 {
		cfg.Size = 8 << 20
	}
	d, err := Create(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Delete(bounded(t)); err != nil {
			t.Error(err)
		}
	})
	return d
}

// ram answers from memory in every mode.
func ram(t testing.TB, size int) Handler {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	// The device may outlive this, so the mapping stays; only its pages go.
	t.Cleanup(func() { unix.Madvise(mem, unix.MADV_DONTNEED) })
	return HandlerFunc(func(r *Request) {
		var err error
		switch p := mem[r.Off : r.Off+r.Len]; r.Op {
		case OpRead:
			err = r.CopyIn(p, 0)
		case OpWrite:
			err = r.CopyOut(p, 0)
		case OpDiscard, OpWriteZeroes:
			if (r.Off|r.Len)%int64(pageSize()) != 0 || unix.Madvise(p, unix.MADV_DONTNEED) != nil {
				clear(p)
			}
		}
		r.Complete(err)
	})
}

func open(t testing.TB, d *Device) int {
	t.Helper()
	fd, err := unix.Open(d.Path(), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func aligned(t testing.TB, n int64) []byte {
	t.Helper()
	p, err := uring.MapMemory(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { uring.UnmapMemory(p) })
	return p
}

// kernelModes are the modes of this kernel; the conformance tests check that they are those it must have.
func kernelModes(t testing.TB) []Mode {
	h, err := Probe(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if h.ZeroCopy() {
		return []Mode{ModeCopy, ModeUserCopy, ModeZeroCopy}
	}
	return []Mode{ModeCopy, ModeUserCopy}
}
