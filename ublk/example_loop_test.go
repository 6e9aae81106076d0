package ublk_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"time"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// loopFile serves a file on the ring that serves the device. Nothing waits: a request becomes an operation, and its completion the
// answer. WriteOp and ReadOp fit the device's mode, zero copy where the kernel has it.
type loopFile struct {
	ring *uring.Ring
	file uring.File
	reqs []*ublk.Request // in flight, by tag
}

func (l *loopFile) Handle(r *ublk.Request) {
	var op uring.Op
	switch r.Op {
	case ublk.OpRead:
		op = r.ReadOp(l.file, 0, r.Len, r.Off)
	case ublk.OpWrite:
		op = r.WriteOp(l.file, 0, r.Len, r.Off)
	case ublk.OpFlush:
		op = uring.Fsync(l.file, true)
	default:
		r.Complete(errors.ErrUnsupported)
		return
	}
	l.reqs[r.Tag()] = r
	l.ring.Prep(op, l, uint64(r.Tag()))
}

// Complete implements uring.Completer.
func (l *loopFile) Complete(tag uint64, res int32, _ uint32) {
	r := l.reqs[tag]
	switch {
	case res < 0:
		r.Complete(unix.Errno(-res))
	case r.Op != ublk.OpFlush && int64(res) != r.Len:
		r.Complete(unix.EIO) // a complete server goes on where the file stopped
	default:
		r.Complete(nil)
	}
}

// A loop device on a ring of our own: the form for programs that have other things on the ring as well.
func Example_loop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	f, err := os.CreateTemp("", "disk")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(8 << 20); err != nil {
		log.Fatal(err)
	}
	dev, err := ublk.Create(ctx, ublk.Config{ID: ublk.AnyID, Mode: ublk.ModeAuto, Geometry: ublk.Geometry{Size: 8 << 20, Volatile: true}})
	if err != nil {
		log.Fatal(err)
	}

	served, stop, ended := make(chan error), make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread() // the ring belongs to this thread, and ends with it
		ring, err := uring.New(dev.RingConfig())
		if err == nil {
			err = dev.Serve(ring, &loopFile{ring: ring, file: uring.FD(int(f.Fd())), reqs: make([]*ublk.Request, dev.Config().Depth)})
		}
		served <- err
		if err != nil {
			return
		}
		over := false
		go func() { <-stop; ring.Post(func() { over = true }) }()
		for !over && err == nil {
			_, err = ring.Wait(time.Time{})
		}
		ended <- errors.Join(err, ring.Close(time.Now().Add(10*time.Second)))
	}()
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	if err := dev.Start(ctx); err != nil { // needs the thread above to wait on its ring
		log.Fatal(err)
	}
	if err := useDisk(dev.Path()); err != nil {
		log.Fatal(err)
	}
	if err := dev.Delete(ctx); err != nil { // as well
		log.Fatal(err)
	}
	close(stop)
	fmt.Println("the thread ended:", <-ended)
}
