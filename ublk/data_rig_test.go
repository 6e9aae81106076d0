//go:build rig

package ublk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// Kept memory survives the answer, later writes of the same tag, and the end of the device.
func TestKeep(t *testing.T) {
	d := create(t, Config{Depth: 1, Spare: 2})
	o := newOwner(t, d)
	var kept []*Buffer
	refused := 0
	o.serve(d, HandlerFunc(func(r *Request) {
		switch r.Op {
		case OpWrite:
			if b, ok := r.Keep(); ok {
				kept = append(kept, b)
			} else {
				refused++
			}
		case OpRead: // the kernel's own, too, which looks for partitions
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
			t.Errorf("%d kept, %d refused", len(kept), refused)
			return
		}
		kept[0].Release()
		kept = kept[1:]
	})
	if t.Failed() {
		unix.Close(fd)
		return
	}
	write('d')
	unix.Close(fd)
	if err := d.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	o.call(func() {
		if len(kept) != 2 || kept[0].Bytes()[0] != 'b' || kept[1].Bytes()[0] != 'd' {
			t.Error("kept memory has changed")
		}
		for _, b := range kept {
			b.Release()
		}
	})
}

func directFile(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.OpenFile(t.TempDir()+"/disk", os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
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
	file := directFile(t, 8<<20)
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
		if q, err = d.newQueue(0, newSession(1), d.char, o.ring, handler, nil); err == nil {
			q.auto = 60000 // outside the table
			d.serving = q.ses
			q.ses.queues[0] = q
			q.fetchAll()
			err = q.mapDescriptors()
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
			newOwner(t, d).serve(d, ram(t, 8<<20))
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

// A discard through io_uring reaches a block device.
func TestDiscardOperation(t *testing.T) {
	d := create(t, Config{Geometry: Geometry{MaxDiscard: 1 << 20}})
	seen := make(chan [2]int64, 10)
	o := newOwner(t, d)
	h := ram(t, 8<<20)
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
				newOwner(t, d).serve(d, ram(t, 320<<20))
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
