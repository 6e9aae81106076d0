package ublktest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// stopUnderLoad stops the disk while it is written, starts it again, and looks for every write that was acknowledged.
func stopUnderLoad(t *testing.T, b *bench) {
	d := b.start(ublk.Config{})
	path := d.Path()
	const writers, piece = 6, 4096
	var last [writers]uint64 // what the writer's block holds at least
	for range 2 {
		var wg sync.WaitGroup
		var begun sync.WaitGroup
		begun.Add(writers)
		for w := range writers {
			k := openDisk(t, path, 0)
			wg.Go(func() {
				p := make([]byte, piece)
				goal := last[w] + 20
				for i := last[w] + 1; ; i++ {
					pattern(p, i)
					if err := k.write(p, int64(w)*piece); err != nil {
						break // the disk has gone
					}
					if last[w]++; last[w] == goal {
						begun.Done()
					}
				}
				k.close()
			})
		}
		begun.Wait()
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is there after Stop: %v", path, err)
		}
		d.start()
		if d.Path() != path {
			t.Fatalf("the disk comes back as %s", d.Path())
		}
		k := openDisk(t, path, 0)
		for w, n := range last {
			got, err := k.read(piece, int64(w)*piece)
			if err != nil {
				t.Fatal(err)
			}
			want, next := make([]byte, piece), make([]byte, piece)
			pattern(want, n)
			pattern(next, n+1)
			// A write that failed for its user may still have happened.
			if string(got) != string(want) && string(got) != string(next) {
				t.Errorf("writer %d: an acknowledged write is lost", w)
			}
		}
		k.close()
	}
}

// openAtDelete deletes while the disk is open: it waits, says so, and can be tried again.
func openAtDelete(t *testing.T, b *bench) {
	d := b.start(ublk.Config{})
	k := openDisk(t, d.Path(), 0)
	short, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := d.server.Close(short)
	if !errors.Is(err, ublk.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("stopping with an open disk answers %v", err)
	}
	d.server = nil
	if err := k.write(make([]byte, 4096), 0); err == nil {
		t.Error("a disk that has gone takes a write")
	}
	k.close()
	if err := d.Delete(timeLimit(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := ublk.Lookup(timeLimit(t), d.ID()); !errors.Is(err, ublk.ErrNotExist) {
		t.Errorf("the deleted device: %v", err)
	}
}

// tryStop refuses while another process has the disk open, and names it.
func tryStop(t *testing.T, b *bench) {
	d := b.start(ublk.Config{})
	f, err := os.OpenFile(d.Path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("sleep", "1000")
	holder.ExtraFiles = []*os.File{f}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	kill := sync.OnceFunc(func() { holder.Process.Kill(); holder.Wait() })
	defer kill()
	var busy *ublk.BusyError
	err = d.TryStop(timeLimit(t))
	if !errors.As(err, &busy) || !errors.Is(err, ublk.ErrBusy) {
		t.Fatalf("an open disk is stopped: %v", err)
	}
	if len(busy.Holders) != 1 || busy.Holders[0].PID != holder.Process.Pid || !strings.Contains(err.Error(), "sleep") {
		t.Errorf("the holder is not named: %v", err)
	}
	k := openDisk(t, d.Path(), 0)
	k.mustWrite(make([]byte, 4096), 0) // nothing has changed
	k.close()
	kill()
	eventually(t, "an unused disk is not stopped", func() error { return d.TryStop(timeLimit(t)) })
	if _, err := os.Stat(d.Path()); !os.IsNotExist(err) {
		t.Errorf("the disk is there after TryStop: %v", err)
	}
}

// resize changes the size before the start, and while the disk is there where the kernel can.
func resize(t *testing.T, b *bench) {
	d := b.create(ublk.Config{})
	if err := d.Resize(timeLimit(t), diskSize/2); err != nil {
		t.Fatal(err)
	}
	if err := d.Resize(timeLimit(t), 1000); err == nil {
		t.Error("a size that is no multiple of a block is taken")
	}
	d.start()
	size := func() int64 {
		fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		return (&disk{t: t, fd: fd}).intIoctl(unix.BLKGETSIZE64)
	}
	if n := size(); n != diskSize/2 {
		t.Errorf("size %d after Resize before the start", n)
	}
	host, err := ublk.Probe(timeLimit(t))
	if err != nil {
		t.Fatal(err)
	}
	err = d.Resize(timeLimit(t), diskSize)
	if !host.Features.Has(ublk.FeatureResize) {
		if !errors.Is(err, ublk.ErrUnsupported) {
			t.Errorf("resizing without the kernel's help: %v", err)
		}
		return
	}
	if n := size(); err != nil || n != diskSize {
		t.Errorf("size %d after Resize; %v", n, err)
	}
	k := openDisk(t, d.Path(), 0)
	p := make([]byte, 4096)
	pattern(p, 9)
	k.mustWrite(p, diskSize-4096)
	k.wantData(p, diskSize-4096)
	k.close()
	// The size outlives the next stop.
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	d.start()
	if n := size(); n != diskSize {
		t.Errorf("size %d after stop and start", n)
	}
}

// startFails starts with a queue that nobody serves, and then for good.
func startFails(t *testing.T, b *bench) {
	d := b.create(ublk.Config{Queues: 2})
	if err := d.Start(timeLimit(t)); !errors.Is(err, ublk.ErrState) {
		t.Fatalf("starting a device that is not served: %v", err)
	}
	ring := newLoop(t, d.RingConfig())
	serve := func(r *uring.Ring) {
		h, err := d.handlers(d.Device, 0, r)
		if err == nil {
			err = d.ServeQueue(0, r, h)
		}
		if err != nil {
			t.Error(err)
		}
		if err := d.ServeQueue(0, r, h); !errors.Is(err, ublk.ErrState) {
			t.Errorf("serving a queue twice: %v", err)
		}
	}
	ring.call(serve)
	if err := d.Start(timeLimit(t)); !errors.Is(err, ublk.ErrState) {
		t.Fatalf("starting a device of which one queue is not served: %v", err)
	}
	// Stop takes the half-served device back to the beginning.
	if err := d.Stop(timeLimit(t)); err != nil {
		t.Fatal(err)
	}
	// Also before the ring's thread has waited: the driver has the fetches, and gives them back as soon as it does.
	var ended <-chan error
	ring.call(func(r *uring.Ring) {
		serve(r)
		ended = d.Failed()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stopping while the ring's thread is held: %v", err)
		}
	})
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the stopped device has failed: %v", err)
		}
	case <-timeLimit(t).Done():
		t.Error("the fetches of the stopped device have not ended")
	}
	if err := d.Stop(timeLimit(t)); err != nil {
		t.Fatal(err)
	}
	ring.close()
	d.start()
	openDisk(t, d.Path(), 0).mustWrite(make([]byte, 4096), 0)
}
