package main

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk"
)

// TestRequestBothWays: a request reaches the engine with all that qualifies it, and the kernel gets the engine's answer.
func TestRequestBothWays(t *testing.T) {
	for _, want := range []engine.Errno{engine.OK, engine.EIO} {
		var got error
		var r *engine.Request
		answered := false
		d := &device{volume: 3, slots: make([]slot, 1), submit: func(e *engine.Request) { r = e }}
		d.Handle(ublk.FakeRequest(ublk.OpWriteZeroes, ublk.FUA|ublk.NoUnmap, 8192, nil, 4096, func(err error) { got, answered = err, true }))
		if r == nil || r.Vol != 3 || r.Op != engine.OpWriteZeroes || r.Off != 8192 || r.Len != 4096 || !r.FUA || !r.NoUnmap {
			t.Fatalf("the engine gets %+v", r)
		}
		r.Err = want
		d.Complete(r)
		if !answered || (want == engine.OK) != (got == nil) || want != engine.OK && !errors.Is(got, unix.EIO) {
			t.Errorf("%v: answered %v, %v", want, answered, got)
		}
	}
}
