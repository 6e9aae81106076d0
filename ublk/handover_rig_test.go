//go:build rig

package ublk

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// writer writes blocks until it is stopped and accepts no error.
func writer(t *testing.T, d *Device) (turns *atomic.Int64, stop func()) {
	fd, p := open(t, d), aligned(t, 4096)
	turns = new(atomic.Int64)
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer unix.Close(fd)
		for i := int64(0); !over.Load(); i++ {
			if _, err := unix.Pwrite(fd, p, i%100*4096); err != nil {
				t.Errorf("write %d: %v", i, err)
				return
			}
			turns.Add(1)
		}
	})
	stop = func() { over.Store(true); wg.Wait() }
	return turns, stop
}

func waitTurns(t *testing.T, turns *atomic.Int64, n int64) {
	t.Helper()
	goal, end := turns.Load()+n, time.Now().Add(time.Minute)
	for turns.Load() < goal {
		if time.Now().After(end) || t.Failed() {
			t.Fatalf("%d of %d writes", turns.Load(), goal)
		}
		runtime.Gosched()
	}
}

// The server changes in order, with an application that writes on.
func TestQuiesceHandsOver(t *testing.T) {
	for _, mode := range kernelModes(t) {
		t.Run(mode.String(), func(t *testing.T) {
			d := create(t, Config{Mode: mode, Recovery: RecoverReissue})
			h := ram(t, 8<<20)
			o := newOwner(t, d)
			o.serve(d, h)
			if !Features(d.info.Flags).Has(FeatureQuiesce) {
				if err := d.Quiesce(bounded(t)); !errors.Is(err, ErrUnsupported) {
					t.Errorf("quiescing without the kernel's help: %v", err)
				}
				return
			}
			turns, stop := writer(t, d)
			defer stop()
			for range 3 {
				waitTurns(t, turns, 20)
				if err := d.Quiesce(bounded(t)); err != nil {
					t.Fatal(err)
				}
				o.close()
				next, err := Recover(bounded(t), d.ID(), Config{})
				if err != nil {
					t.Fatal(err)
				}
				if a, b := next.Config(), d.Config(); a.Geometry != b.Geometry || a.Mode != b.Mode || a.Recovery != b.Recovery {
					t.Errorf("recovered as %+v instead of %+v", a, b)
				}
				*d = Device{cfg: next.cfg, size: next.size, info: next.info, control: next.control, phase: next.phase, char: next.char}
				o = newOwner(t, d)
				o.serve(d, h)
			}
			waitTurns(t, turns, 20)
		})
	}
}

// A ring that is closed under a live device gives everything back; the disk waits, held requests are sent again, also when a server
// has recovered the device meanwhile and has ended before it served.
func TestRingClosedUnderLiveDevice(t *testing.T) {
	for _, mode := range kernelModes(t) {
		t.Run(mode.String(), func(t *testing.T) {
			d := create(t, Config{Mode: mode, Recovery: RecoverReissue})
			o := newOwner(t, d)
			h := ram(t, 8<<20)
			held := make(chan struct{}, 100)
			holding := true // on the ring's thread
			o.serve(d, HandlerFunc(func(r *Request) {
				if r.Op == OpWrite && holding {
					held <- struct{}{}
					return
				}
				h.Handle(r)
			}))
			turns, stop := writer(t, d)
			defer stop()
			<-held
			o.close()
			for range 3 { // but for the last, they end before they have served
				if err := d.Abandon(bounded(t)); err != nil {
					t.Fatal(err)
				}
				next, err := Recover(bounded(t), d.ID(), Config{})
				if err != nil {
					t.Fatal(err)
				}
				*d = Device{cfg: next.cfg, size: next.size, info: next.info, control: next.control, phase: next.phase, char: next.char}
			}
			newOwner(t, d).serve(d, h)
			waitTurns(t, turns, 20)
		})
	}
}

// Start ends with its context when the owner does not wait on its ring, unless it ends by itself, as on kernels that read the
// partitions later. The next one finds the disk started, or starts it.
func TestStartEndsWithItsContext(t *testing.T) {
	d := create(t, Config{})
	o := newOwner(t, d)
	asleep, wake := make(chan struct{}), make(chan struct{})
	var err error
	o.ring.Post(func() {
		err = d.Serve(o.ring, ram(t, 8<<20))
		close(asleep)
		<-wake
	})
	<-asleep
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	first := d.Start(short)
	close(wake)
	if first != nil {
		if !errors.Is(first, context.DeadlineExceeded) {
			t.Errorf("starting without a waiting ring: %v", first)
		}
		if err := d.Start(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Start(bounded(t)); !errors.Is(err, ErrState) {
		t.Errorf("starting twice: %v", err)
	}
}

// Many lives leave no descriptor and no mapping.
func TestManyLives(t *testing.T) {
	d := create(t, Config{Queues: 2, Depth: 8})
	handlers := func(int, *uring.Ring) (Handler, error) { return ram(t, 8<<20), nil }
	life := func() {
		s, err := ListenAndServe(bounded(t), d, handlers)
		if err == nil {
			err = s.Close(bounded(t))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	count := func() (fds, maps int) {
		e, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return len(e), strings.Count(string(b), "io_uring") + strings.Count(string(b), "ublk")
	}
	life()
	fds, maps := count()
	for range 15 {
		life()
	}
	if f, m := count(); f > fds || m > maps {
		t.Errorf("%d descriptors and %d mappings became %d and %d", fds, maps, f, m)
	}
}
