//go:build rig

package ublk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
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
func ram(size int) Handler {
	mem := make([]byte, size)
	return HandlerFunc(func(r *Request) {
		var err error
		switch p := mem[r.Off : r.Off+r.Len]; r.Op {
		case OpRead:
			err = r.CopyIn(p, 0)
		case OpWrite:
			err = r.CopyOut(p, 0)
		case OpDiscard, OpWriteZeroes:
			clear(p)
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
			h := ram(8 << 20)
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
				*d = Device{cfg: next.cfg, size: next.size, info: next.info, disk: next.disk, control: next.control, phase: next.phase, char: next.char}
				o = newOwner(t, d)
				o.serve(d, h)
			}
			waitTurns(t, turns, 20)
		})
	}
}

// A ring that is closed under a live device gives everything back; the disk waits, held requests are sent again.
func TestRingClosedUnderLiveDevice(t *testing.T) {
	for _, mode := range kernelModes(t) {
		t.Run(mode.String(), func(t *testing.T) {
			d := create(t, Config{Mode: mode, Recovery: RecoverReissue})
			o := newOwner(t, d)
			h := ram(8 << 20)
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
			if err := d.Abandon(bounded(t)); err != nil {
				t.Fatal(err)
			}
			next, err := Recover(bounded(t), d.ID(), Config{})
			if err != nil {
				t.Fatal(err)
			}
			*d = Device{cfg: next.cfg, size: next.size, info: next.info, disk: next.disk, control: next.control, phase: next.phase, char: next.char}
			newOwner(t, d).serve(d, h)
			waitTurns(t, turns, 20)
		})
	}
}

// Start ends with its context when the owner does not wait on its ring, and can be tried again.
func TestStartEndsWithItsContext(t *testing.T) {
	d := create(t, Config{})
	o := newOwner(t, d)
	asleep, wake := make(chan struct{}), make(chan struct{})
	var err error
	o.ring.Post(func() {
		err = d.Serve(o.ring, ram(8<<20))
		close(asleep)
		<-wake
	})
	<-asleep
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := d.Start(short); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrStuck) {
		t.Errorf("starting without a waiting ring: %v", err)
	}
	close(wake)
	if err := d.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(bounded(t)); !errors.Is(err, ErrState) {
		t.Errorf("starting twice: %v", err)
	}
}

// Kept memory survives the answer, later writes of the same tag, and the end of the device.
func TestKeep(t *testing.T) {
	d := create(t, Config{Depth: 1, Spare: 2})
	o := newOwner(t, d)
	var kept []*Buffer
	refused := 0
	o.serve(d, HandlerFunc(func(r *Request) {
		if b, ok := r.Keep(); ok {
			kept = append(kept, b)
		} else if r.Op == OpWrite {
			refused++
		}
		if r.Op == OpRead {
			clear(r.Bytes())
		}
		r.Complete(nil)
	}))
	fd, p := open(t, d), aligned(t, 4096)
	write := func(c byte) {
		for i := range p {
			p[i] = c
		}
		if _, err := unix.Pwrite(fd, p, 0); err != nil {
			t.Fatal(err)
		}
	}
	write('a')
	write('b')
	write('c')
	o.call(func() {
		if len(kept) != 2 || refused != 1 || kept[0].Bytes()[17] != 'a' || kept[1].Bytes()[4095] != 'b' {
			t.Fatalf("%d kept, %d refused", len(kept), refused)
		}
		kept[0].Release()
		kept = kept[1:]
	})
	write('d')
	unix.Close(fd)
	if err := d.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	o.call(func() {
		if len(kept) != 2 || kept[0].Bytes()[0] != 'b' || kept[1].Bytes()[0] != 'd' {
			t.Fatal("kept memory has changed")
		}
		for _, b := range kept {
			b.Release()
		}
	})
}

// When the driver cannot register a request's pages by itself, the library does it.
func TestAutomaticBufferFallback(t *testing.T) {
	h, err := Probe(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if !h.ZeroCopy() {
		if _, err := Create(bounded(t), Config{ID: AnyID, Mode: ModeZeroCopy}); !errors.Is(err, ErrUnsupported) {
			t.Errorf("zero copy without the kernel's help: %v", err)
		}
		return
	}
	file, err := os.OpenFile(t.TempDir()+"/disk", os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
	d := create(t, Config{Mode: ModeZeroCopy})
	o := newOwner(t, d)
	fallbacks := 0
	var q *queue
	handler := HandlerFunc(func(r *Request) {
		if r.extra {
			fallbacks++
		}
		done := uring.CompleterFunc(func(_ uint64, res int32, _ uint32) {
			if res != int32(r.Len) {
				r.Complete(fmt.Errorf("result %d: %w", res, unix.EIO))
				return
			}
			r.Complete(nil)
		})
		if r.Op == OpRead {
			o.ring.Prep(r.ReadOp(uring.FD(int(file.Fd())), 0, r.Len, r.Off), done, 0)
		} else {
			o.ring.Prep(r.WriteOp(uring.FD(int(file.Fd())), 0, r.Len, r.Off), done, 0)
		}
	})
	o.call(func() {
		if q, err = d.newQueue(0, newSession(1), d.char, o.ring, handler); err == nil {
			q.auto = 60000 // outside the table
			d.serving = q.ses
			q.ses.queues[0] = q
			q.fetchAll()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	fd, p := open(t, d), aligned(t, 8192)
	for i := range 20 {
		p[0], p[8191] = byte(i), byte(i)
		if _, err := unix.Pwrite(fd, p, 8192); err != nil {
			t.Fatal(err)
		}
		clear(p)
		if _, err := unix.Pread(fd, p, 8192); err != nil || p[0] != byte(i) || p[8191] != byte(i) {
			t.Fatalf("read %d, %d instead of %d; %v", p[0], p[8191], i, err)
		}
	}
	unix.Close(fd)
	o.call(func() {
		if fallbacks < 40 {
			t.Errorf("%d requests came by the fallback", fallbacks)
		}
	})
}

// Serving costs no memory per request.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	for _, mode := range kernelModes(t) {
		t.Run(mode.String(), func(t *testing.T) {
			d := create(t, Config{Mode: mode})
			newOwner(t, d).serve(d, ram(8<<20))
			fd, p := open(t, d), aligned(t, 4096)
			defer unix.Close(fd)
			run := func(n int64) uint64 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for i := range n {
					if _, err := unix.Pwrite(fd, p, i*4096); err != nil {
						t.Fatal(err)
					}
					if _, err := unix.Pread(fd, p, i*4096); err != nil {
						t.Fatal(err)
					}
				}
				runtime.ReadMemStats(&after)
				return after.Mallocs - before.Mallocs
			}
			run(100)
			if n := run(1000); n > 100 { // the runtime itself makes some
				t.Errorf("%d allocations in 2000 requests", n)
			}
		})
	}
}

// Many lives leave no descriptor and no mapping.
func TestManyLives(t *testing.T) {
	d := create(t, Config{Queues: 2, Depth: 8})
	handlers := func(int, *uring.Ring) (Handler, error) { return ram(8 << 20), nil }
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

// A discard through io_uring reaches a block device.
func TestDiscardOperation(t *testing.T) {
	d := create(t, Config{Geometry: Geometry{MaxDiscard: 1 << 20}})
	seen := make(chan [2]int64, 10)
	o := newOwner(t, d)
	h := ram(8 << 20)
	o.serve(d, HandlerFunc(func(r *Request) {
		if r.Op == OpDiscard {
			seen <- [2]int64{r.Off, r.Len}
		}
		h.Handle(r)
	}))
	fd := open(t, d)
	defer unix.Close(fd)
	client := newOwner(t, d)
	res := make(chan int32, 1)
	client.call(func() {
		client.ring.Prep(uring.Discard(uring.FD(fd), 64<<10, 128<<10), uring.CompleterFunc(func(_ uint64, r int32, _ uint32) { res <- r }), 0)
	})
	if r := <-res; r != 0 {
		t.Fatal(unix.Errno(-r))
	}
	if got := <-seen; got != [2]int64{64 << 10, 128 << 10} {
		t.Errorf("the discard arrives as %v", got)
	}
}

// File systems work, and a mounted disk is not stopped.
func TestFileSystems(t *testing.T) {
	sh := func(script string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	for _, mode := range kernelModes(t) {
		for _, fs := range []struct{ name, make, check string }{
			{"ext4", "mkfs.ext4 -q -F", "fsck.ext4 -fn"}, {"xfs", "mkfs.xfs -q -f", "xfs_repair -n"},
		} {
			t.Run(mode.String()+" "+fs.name, func(t *testing.T) {
				d := create(t, Config{Mode: mode, Geometry: Geometry{Size: 320 << 20, Volatile: true, FUA: true, MaxDiscard: 64 << 20, MaxWriteZeroes: 64 << 20}})
				newOwner(t, d).serve(d, ram(320<<20))
				dir := t.TempDir()
				sh("modprobe " + fs.name + "; " + fs.make + " " + d.Path() + "; mount -t " + fs.name + " " + d.Path() + " " + dir)
				sh("cd " + dir + "; dd if=/dev/urandom of=a bs=64k count=200 2>/dev/null; cp a b; sync; rm a; md5sum b >sum")
				var busy *BusyError
				if err := d.TryStop(bounded(t)); !errors.As(err, &busy) || !strings.Contains(err.Error(), "mounted on "+dir) {
					t.Errorf("stopping a mounted disk: %v", err)
				}
				sh("umount " + dir + "; echo 3 >/proc/sys/vm/drop_caches; " + fs.check + " " + d.Path())
				sh("mount -t " + fs.name + " " + d.Path() + " " + dir + "; cd " + dir + "; md5sum -c sum; cd /; umount " + dir)
			})
		}
	}
}

// The numbers that the driver accepts without a word are read back.
func TestParametersAreReadBack(t *testing.T) {
	d := create(t, Config{Geometry: Geometry{MaxWriteZeroes: 1 << 20, DiscardUnit: 4096}})
	p, err := d.getParams(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := geometryOf(&p); got != d.cfg.Geometry {
		t.Errorf("%+v instead of %+v", got, d.cfg.Geometry)
	}
	if p.Types&uapi.ParamDevt == 0 {
		t.Error("the driver does not tell the device numbers")
	}
}
