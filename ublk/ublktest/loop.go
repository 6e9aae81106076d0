package ublktest

import (
	"runtime"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk/uring"
)

// loop is a ring with a thread that waits on it, as the owner of a device has.
type loop struct {
	t    testing.TB
	ring *uring.Ring
	done chan struct{}
	over bool
}

func newLoop(t testing.TB, cfg uring.Config) *loop {
	t.Helper()
	cfg.Files += 8
	cfg.Buffers += 8
	l := &loop{t: t, done: make(chan struct{})}
	ready := make(chan error)
	go l.run(cfg, ready)
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func (l *loop) run(cfg uring.Config, ready chan<- error) {
	runtime.LockOSThread() // the thread ends with its ring
	defer close(l.done)
	var err error
	l.ring, err = uring.New(cfg)
	ready <- err
	if err != nil {
		return
	}
	for !l.over {
		if _, err := l.ring.Wait(time.Time{}); err != nil {
			l.t.Error(err)
			break
		}
	}
	if err := l.ring.Close(time.Now().Add(limit)); err != nil {
		l.t.Error(err)
	}
}

// call runs f on the ring's thread and waits for it.
func (l *loop) call(f func(*uring.Ring)) {
	done := make(chan struct{})
	if err := l.ring.Post(func() { f(l.ring); close(done) }); err != nil {
		l.t.Fatal(err)
	}
	<-done
}

func (l *loop) close() {
	l.ring.Post(func() { l.over = true }) // a closed ring is closed already
	<-l.done
}
