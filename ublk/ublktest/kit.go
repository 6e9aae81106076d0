package ublktest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"
)

// A Subject is what is under test: handlers for devices of the kit's choosing.
type Subject struct {
	Modes []ublk.Mode // tested one after the other; those that the kernel lacks are an error

	// Make prepares an empty (all zeroes) backing store of size bytes and returns what makes the handler of each queue. The
	// store must keep its data when the device is stopped and served again, and go with t.Cleanup.
	Make func(t *testing.T, size int64) Handlers

	// Discard says that discarded bytes read as zeroes.
	Discard bool
}

// Handlers makes the handler of one queue of a device, on the queue's thread.
type Handlers func(d *ublk.Device, queue int, ring *uring.Ring) (ublk.Handler, error)

// Run runs every check of the kit on the subject.
func Run(t *testing.T, s Subject) {
	for _, mode := range s.Modes {
		t.Run(mode.String(), func(t *testing.T) {
			for _, c := range []struct {
				name string
				run  func(*testing.T, *bench)
			}{
				{"geometry", geometry}, {"read and write", readWrite}, {"several queues", severalQueues},
				{"flush", flush}, {"discard", discard}, {"errors", errorMapping},
				{"depth", fullDepth}, {"stop under load", stopUnderLoad}, {"open at delete", openAtDelete},
				{"try stop", tryStop}, {"resize", resize}, {"start fails", startFails}, {"read-only", readOnly},
			} {
				t.Run(c.name, func(t *testing.T) { c.run(t, &bench{t: t, subject: s, mode: mode}) })
			}
		})
	}
}

// bench makes devices for one check.
type bench struct {
	t       *testing.T
	subject Subject
	mode    ublk.Mode
}

const (
	limit    = 60 * time.Second // for one operation on a device, in an emulated machine
	diskSize = 12 << 20
)

// device is a device under test, with its handlers watched.
type device struct {
	*ublk.Device
	t        *testing.T
	handlers Handlers
	server   *ublk.Server
	watch    watch
}

func timeLimit(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// create makes a device that is not started. Missing parts of cfg are filled in.
func (b *bench) create(cfg ublk.Config) *device {
	b.t.Helper()
	cfg.ID, cfg.Mode = ublk.AnyID, b.mode
	if cfg.Size == 0 {
		cfg.Size = diskSize
	}
	d, err := ublk.Create(timeLimit(b.t), cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	dev := &device{Device: d, t: b.t, handlers: b.subject.Make(b.t, cfg.Size)}
	b.t.Cleanup(func() {
		dev.watch.release()
		if err := errors.Join(dev.stop(), d.Delete(timeLimit(b.t))); err != nil {
			b.t.Error(err)
		}
	})
	return dev
}

// start makes a device and its disk.
func (b *bench) start(cfg ublk.Config) *device {
	b.t.Helper()
	d := b.create(cfg)
	d.start()
	return d
}

func (d *device) start() {
	d.t.Helper()
	s, err := ublk.ListenAndServe(timeLimit(d.t), d.Device, func(queue int, ring *uring.Ring) (ublk.Handler, error) {
		h, err := d.handlers(d.Device, queue, ring)
		return &watched{watch: &d.watch, inner: h, ring: ring}, err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.server = s
}

// stop stops the disk, if there is one.
func (d *device) stop() error {
	s := d.server
	if s == nil {
		return nil
	}
	d.server = nil
	return s.Close(timeLimit(d.t))
}

// eventually waits until ok, which says otherwise what is missing.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// pattern fills p with bytes that differ by seed and position.
func pattern(p []byte, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x)
	}
}

func describe(off, n int64) string { return fmt.Sprintf("%d bytes at %d", n, off) }
