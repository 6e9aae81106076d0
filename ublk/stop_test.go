package ublk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

// device is a device of number 3 whose one queue is served by nobody in particular.
func (f *fakeDriver) device(t *testing.T) *Device {
	t.Helper()
	d, err := Create(t.Context(), Config{ID: 3, Depth: 1, Geometry: Geometry{Size: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.closeChar(); err != nil {
			t.Error(err)
		}
	})
	f.serve(d)
	return d
}

// serve makes a device a served one, until it is stopped.
func (f *fakeDriver) serve(d *Device) {
	ses := newSession(1)
	ses.queues[0] = &queue{dev: d, ses: ses, alive: 1, auto: -1, base: -1}
	d.serving = ses
	f.stop = sync.OnceFunc(ses.queues[0].end)
}

// during are the commands that do sends.
func (f *fakeDriver) during(do func()) []uint32 {
	f.sent = nil
	do()
	return f.sent
}

// A caller whose time is over when the device is deleted finds it added again all the same.
func TestStopIsNotLeftHalfDone(t *testing.T) {
	f := fakeHost(t)
	d := f.device(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.before = func(_ context.Context, op uint32) error {
		if op == uapi.CmdDelDev {
			cancel()
		}
		return nil
	}
	if err := d.Stop(ctx); err != nil || d.getPhase() != phaseAdded || f.devs[3] == nil {
		t.Errorf("the device is %v, %v", d.getPhase(), err)
	}
}

func TestStopGoesOnWhereItWas(t *testing.T) {
	f := fakeHost(t)
	d := f.device(t)
	refuse := func(_ context.Context, op uint32) error {
		if op == uapi.CmdAddDev {
			return unix.ENOMEM
		}
		return nil
	}
	f.before = refuse
	if err := d.Stop(t.Context()); !errors.Is(err, unix.ENOMEM) || d.getPhase() != phaseAway {
		t.Fatalf("the device is %v, %v", d.getPhase(), err)
	}
	f.before = nil
	sent := f.during(func() {
		if err := d.TryStop(t.Context()); err != nil || d.getPhase() != phaseAdded {
			t.Errorf("tried again: the device is %v, %v", d.getPhase(), err)
		}
	})
	if slices.Contains(sent, uapi.CmdStopDev) || slices.Contains(sent, uapi.CmdDelDev) {
		t.Errorf("what has been done is done again: %#x", sent)
	}
	f.serve(d)
	f.before = refuse
	if err := d.Stop(t.Context()); !errors.Is(err, unix.ENOMEM) {
		t.Fatal(err)
	}
	sent = f.during(func() {
		if err := d.Delete(t.Context()); err != nil || d.getPhase() != phaseGone {
			t.Errorf("deleted: the device is %v, %v", d.getPhase(), err)
		}
	})
	if len(sent) > 0 { // the number may be another's by now
		t.Errorf("a device that the driver has not is deleted: %#x", sent)
	}
	if err := d.Stop(t.Context()); !errors.Is(err, ErrState) {
		t.Errorf("stopping a deleted device: %v", err)
	}
}

// A Start that the driver does not answer says so, whatever made it end, and TryStop does not take its word for the disk.
func TestAfterAStuckStart(t *testing.T) {
	f := fakeHost(t)
	d := f.device(t)
	f.before = func(ctx context.Context, op uint32) error {
		if op != uapi.CmdStartDev {
			return nil
		}
		d.serving.fail(d, ErrServerFailed)
		<-ctx.Done()
		f.devs[3].info.State = uapi.StateLive // late, but done
		return fmt.Errorf("%w: %w", ErrStuck, ctx.Err())
	}
	if err := d.Start(t.Context()); !errors.Is(err, ErrStuck) || !errors.Is(err, ErrServerFailed) {
		t.Errorf("start: %v", err)
	}
	sent := f.during(func() {
		if err := d.TryStop(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if slices.Contains(sent, uapi.CmdStopDev) || !slices.Contains(sent, uapi.CmdTryStopDev) {
		t.Errorf("a disk that may be in use is stopped: %#x", sent)
	}
}
