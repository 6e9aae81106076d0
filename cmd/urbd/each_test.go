package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

// What verbs print of several resources comes in the order of the targets, also beside a daemon that hangs: it costs its own answer.
func TestPrintBesideADaemonThatHangs(t *testing.T) {
	b := newBench(t)
	hangs := &fakeControl{}
	hangs.mu.Lock()
	t.Cleanup(hangs.mu.Unlock)
	b.listen("r0", hangs)
	const status = `"devices":[{"volume":0,"disk-state":"UpToDate"}]}`
	b.listen("r1", &fakeControl{status: `{"name":"r1","role":"Primary",` + status})
	for _, c := range []struct{ line, out, late string }{
		{"role --timeout 1 all", "Primary/Unknown\n", "r0: role"},
		{"role --timeout 1 r0 r1 r1", "Primary/Unknown\n", "r0: role"},
		{"cstate --timeout 1 all", "StandAlone\n", "r0/1: cstate"},
		{"dstate --timeout 1 all", "UpToDate/DUnknown\n", "r0/0: dstate"},
	} {
		got := b.urbd(c.line)
		if got.code != exitSystem || got.out != c.out || strings.Count(got.err, c.late+" has not ended in time") != 1 {
			t.Errorf("urbd %s: %+v, want %q", c.line, got, c.out)
		}
	}
}

// The order is that of the targets, whoever answers first.
func TestPrintInTheOrderOfTheTargets(t *testing.T) {
	b := newBench(t)
	slow := &fakeControl{status: `{"name":"r0","role":"Primary","devices":[]}`}
	slow.mu.Lock()
	b.listen("r0", slow)
	quick := &fakeControl{status: `{"name":"r1","role":"Secondary","devices":[]}`}
	b.listen("r1", quick)
	go func() {
		for quick.came.Load() == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		slow.mu.Unlock() // r1 was asked without its answer
	}()
	b.want("role all", 0, "Primary/Unknown\nSecondary/Unknown\n", "")
}

// A daemon that hangs keeps nobody from hearing that another one is connected or in sync.
func TestWaitBesideADaemonThatHangs(t *testing.T) {
	for _, verb := range []string{"wait-connect", "wait-sync"} {
		b := newBench(t)
		hangs := &fakeControl{}
		hangs.mu.Lock()
		b.listen("r0", hangs)
		asked := strings.ReplaceAll(statusLine("StandAlone", "Off", "UpToDate", "DUnknown", ""), `"r0"`, `"r1"`)
		b.listen("r1", &fakeControl{events: []string{asked}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		got := b.urbdContext(ctx, verb+" all")
		cancel()
		hangs.mu.Unlock()
		if !strings.Contains(got.err, "r1: it is StandAlone") {
			t.Errorf("urbd %s all: %+v", verb, got)
		}
	}
}
