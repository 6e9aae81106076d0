package main

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk"
)

func TestRequestsAreTranslated(t *testing.T) {
	var got []*engine.Request
	d := &device{volume: 3, slots: make([]slot, 1), submit: func(r *engine.Request) { got = append(got, r) }}
	data := make([]byte, 4096)
	for _, tt := range []struct {
		op    ublk.Op
		flags ublk.Flags
		data  []byte
		n     int64
		want  engine.Request
		err   engine.Errno
		errno error
	}{
		{ublk.OpRead, 0, data, 4096, engine.Request{Op: engine.OpRead}, engine.OK, nil},
		{ublk.OpWrite, ublk.FUA | ublk.Meta, data, 4096, engine.Request{Op: engine.OpWrite, FUA: true}, engine.EIO, unix.EIO},
		{ublk.OpFlush, 0, nil, 0, engine.Request{Op: engine.OpFlush}, engine.OK, nil},
		{ublk.OpDiscard, 0, nil, 1 << 20, engine.Request{Op: engine.OpDiscard}, engine.OK, nil},
		{ublk.OpWriteZeroes, ublk.NoUnmap, nil, 1 << 20, engine.Request{Op: engine.OpWriteZeroes, NoUnmap: true}, engine.ENOSPC, unix.ENOSPC},
	} {
		got = nil
		answers := 0
		var answer error
		d.Handle(ublk.FakeRequest(tt.op, tt.flags, 8192, tt.data, tt.n, func(err error) { answers++; answer = err }))
		if len(got) != 1 {
			t.Fatalf("%v: %d requests", tt.op, len(got))
		}
		r := got[0]
		if r.Vol != 3 || r.Op != tt.want.Op || r.Off != 8192 || r.Len != tt.n || r.FUA != tt.want.FUA || r.NoUnmap != tt.want.NoUnmap || len(r.Data) != len(tt.data) {
			t.Errorf("%v became %+v", tt.op, r)
		}
		r.Err = tt.err
		d.Complete(r)
		if answers != 1 || !errors.Is(answer, tt.errno) || (answer == nil) != (tt.errno == nil) {
			t.Errorf("%v: answered %d times, %v", tt.op, answers, answer)
		}
	}
}

func TestAnOperationThatNobodyKnowsIsRefused(t *testing.T) {
	d := &device{slots: make([]slot, 1), submit: func(*engine.Request) { t.Error("it reached the engine") }}
	var answer error
	d.Handle(ublk.FakeRequest(ublk.Op(14), 0, 0, nil, 0, func(err error) { answer = err }))
	if !errors.Is(answer, unix.EOPNOTSUPP) {
		t.Errorf("answer %v", answer)
	}
}

func TestOwnerTagsDiffer(t *testing.T) {
	seen := map[uint64]string{ownerTag("beta", "r0", 0): "beta's r0"}
	for _, v := range []target{{resource: "r0"}, {resource: "r0", volume: 1}, {resource: "r1"}, {resource: "r01"}} {
		tag := ownerTag("alpha", v.resource, v.volume)
		if tag == 0 || seen[tag] != "" {
			t.Errorf("%v has the tag %x of %q", v, tag, seen[tag])
		}
		seen[tag] = v.String()
	}
}

func TestMemoryOfADevice(t *testing.T) {
	if got := 2 * deviceDepth * deviceMaxIO; got != replication.DeviceMemory {
		t.Errorf("a device takes %d bytes, and %d are reckoned with", got, replication.DeviceMemory)
	}
}
