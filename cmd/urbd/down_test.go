package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// expiring is a context whose time is up when done is closed.
type expiring struct {
	context.Context
	done chan struct{}
}

func (e *expiring) Done() <-chan struct{} { return e.done }

func (e *expiring) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A daemon whose device is in use refuses, until it is not; without --when-unused that is the end.
func TestDownWaitsUntilNobodyUsesTheDevice(t *testing.T) {
	b := newBench(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	d := &fakeControl{status: fmt.Sprintf(`{"name":"r1","role":"Primary","pid":%d}`, gone.Process.Pid)}
	d.reply("down", 409, `{"refused":"/dev/ublkb2 is in use by the mount at /mnt","code":-12}`)
	b.listen("r1", d)
	b.want("down r1", 11, "", "in use by the mount at /mnt")
	orders := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.orders)
	}

	// Its time is up between two tries, or in the middle of one.
	for _, answers := range []bool{true, false} {
		ctx := &expiring{t.Context(), make(chan struct{})}
		before, done := orders(), make(chan result, 1)
		go func() { done <- b.urbdContext(ctx, "down --when-unused r1") }()
		for orders() < before+2 {
			time.Sleep(time.Millisecond)
		}
		if !answers {
			d.mu.Lock()
			for came := d.came.Load(); d.came.Load() == came; {
				time.Sleep(time.Millisecond)
			}
		}
		close(ctx.done)
		got := <-done
		if !answers {
			d.mu.Unlock()
		}
		if got.code == 0 || !strings.Contains(got.err, "in use by the mount at /mnt") {
			t.Errorf("while it is in use (the daemon answers: %v): code %d: %s", answers, got.code, got.err)
		}
	}

	before, done := orders(), make(chan result, 1)
	go func() { done <- b.urbd("down --when-unused r1") }()
	for orders() < before+2 {
		time.Sleep(time.Millisecond)
	}
	d.mu.Lock()
	delete(d.answer, "down")
	d.mu.Unlock()
	if got := <-done; got.code != 0 || got.err != "" {
		t.Errorf("when it is not: code %d, %s", got.code, got.err)
	}
}

// A down that was carried out and lacks something waits for the end of the daemon, says what, and is no success.
func TestDownThatLacksSomething(t *testing.T) {
	b := newBench(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	d := &fakeControl{status: fmt.Sprintf(`{"name":"r1","role":"Secondary","pid":%d}`, gone.Process.Pid)}
	d.reply("down", 500, `{"error":"the nodes are disconnected, and more","carried-out":true}`)
	b.listen("r1", d)
	b.want("down r1", 20, "", "urbd: r1: the nodes are disconnected, and more\n")
}

// A daemon that hangs, or several, keep no other one up.
func TestDownBesideADaemonThatHangs(t *testing.T) {
	b := newBench(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	hangs := &fakeControl{}
	hangs.mu.Lock()
	t.Cleanup(hangs.mu.Unlock)
	b.listen("r0", hangs)
	for _, line := range []string{"down --timeout 1 all", "down --timeout 1 r0 r1"} {
		d := &fakeControl{status: fmt.Sprintf(`{"name":"r1","role":"Secondary","pid":%d}`, gone.Process.Pid)}
		stop := b.listen("r1", d)
		b.want(line, exitSystem, "", "urbd: r0: down has not ended in time")
		if len(d.orders) != 1 {
			t.Errorf("urbd %s: r1 got %v", line, d.orders)
		}
		stop()
	}
}
