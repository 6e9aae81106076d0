package ublk

import (
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// The kernel refuses a command of a started device: its owner is told, once, and the log says it.
func TestAFailureWhileServingIsTold(t *testing.T) {
	f := fakeHost(t)
	d := f.device(t)
	log := new(strings.Builder)
	d.cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	q := d.serving.queues[0]
	q.alive = 2
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed := d.Failed()
	q.Complete(0, -int32(unix.EINVAL), 0)
	if err := <-failed; !errors.Is(err, ErrServerFailed) || !errors.Is(err, unix.EINVAL) {
		t.Errorf("told: %v", err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "queue 0 tag 0") {
		t.Errorf("the log has %d errors: %s", n, log)
	}
	q.Complete(1, -int32(unix.EINVAL), 0) // the queue ends
	if err, open := <-failed; open {
		t.Errorf("told again: %v", err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("the log has %d errors: %s", n, log)
	}
	f.stop = nil
	if err := d.Stop(t.Context()); err != nil || d.Failed() != nil {
		t.Errorf("after Stop: %v", err)
	}
}

// Nothing goes to the kernel between two fetches of a queue, also where the ring has operations of others, and not room enough for all.
func TestFetchesGoTogether(t *testing.T) {
	const entries, depth = 64, 48
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ring, err := uring.New(uring.Config{Entries: entries})
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close(time.Now().Add(time.Minute))
	for ring.Room() > depth/2 {
		ring.Prep(uring.Op{Code: uring.OpNop}, ignored{}, 0)
	}
	d := &Device{cfg: Config{Logger: slog.New(slog.DiscardHandler)}}
	q := &queue{dev: d, ses: newSession(1), ring: ring, file: uring.FD(-1), reqs: make([]Request, depth), alive: depth, auto: -1, base: -1}
	q.fetchAll()
	if waiting := entries - ring.Room(); waiting != depth {
		t.Errorf("%d of %d fetches wait to be submitted", waiting, depth)
	}
}

type ignored struct{}

func (ignored) Complete(uint64, int32, uint32) {}

// What the driver answers to the last commands of a device that is being stopped is no failure.
func TestTheEndIsNoFailure(t *testing.T) {
	f := fakeHost(t)
	d := f.device(t)
	q, failed := d.serving.queues[0], d.Failed()
	f.stop = nil
	stopped := make(chan error)
	go func() { stopped <- d.Stop(t.Context()) }()
	for over := false; !over; runtime.Gosched() {
		d.mu.Lock()
		over = q.ses.over
		d.mu.Unlock()
	}
	q.Complete(0, -int32(unix.EINVAL), 0)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err, open := <-failed; open {
		t.Errorf("told: %v", err)
	}
}
