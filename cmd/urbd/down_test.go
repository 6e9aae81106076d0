package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

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

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	got := b.urbdContext(ctx, "down --when-unused r1")
	if got.code == 0 || !strings.Contains(got.err, "/mnt") || orders() < 3 {
		t.Errorf("while it is in use: code %d after %d orders: %s", got.code, orders(), got.err)
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
