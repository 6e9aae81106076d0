package ublktest

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"
)

// ask sends one request to a handler and turns the ring, if there is one, until it is answered.
func ask(t *testing.T, h ublk.Handler, ring *uring.Ring, op ublk.Op, fl ublk.Flags, off int64, data []byte, n int64) error {
	t.Helper()
	var answer error
	done := false
	h.Handle(ublk.FakeRequest(op, fl, off, data, n, func(err error) { answer, done = err, true }))
	for end := time.Now().Add(limit); !done; {
		if ring == nil || time.Now().After(end) {
			t.Fatal("no answer")
		}
		if _, err := ring.Wait(end); err != nil {
			t.Fatal(err)
		}
	}
	return answer
}

// script writes, reads back, punches holes, and runs into the end of the store.
func script(t *testing.T, h ublk.Handler, ring *uring.Ring, size int64) {
	t.Helper()
	want, got := make([]byte, 64<<10), make([]byte, 64<<10)
	pattern(want, 1)
	n := int64(len(want))
	ok := func(op ublk.Op, fl ublk.Flags, off int64, data []byte, n int64) {
		t.Helper()
		if err := ask(t, h, ring, op, fl, off, data, n); err != nil {
			t.Fatalf("%v: %v", op, err)
		}
	}
	ok(ublk.OpWrite, 0, size-n, want, n)
	ok(ublk.OpWrite, ublk.FUA, 4096, want[:4096], 4096)
	ok(ublk.OpFlush, 0, 0, nil, 0)
	ok(ublk.OpRead, 0, size-n, got, n)
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes read than written")
	}
	ok(ublk.OpDiscard, 0, size-n, nil, 8192)
	ok(ublk.OpWriteZeroes, 0, size-8192, nil, 4096)
	clear(want[:8192])
	clear(want[n-8192 : n-4096])
	ok(ublk.OpRead, 0, size-n, got, n)
	if !bytes.Equal(got, want) {
		t.Fatal("discarded bytes do not read as zeroes")
	}
	if err := ask(t, h, ring, ublk.OpRead, 0, size, got, 4096); err == nil {
		t.Error("a read behind the end brings data")
	}
}

func TestMemory(t *testing.T) {
	script(t, &Memory{Data: make([]byte, 1<<20)}, nil, 1<<20)
}

func TestFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ring, err := uring.New(uring.Config{})
	if err != nil {
		t.Fatalf("these tests need io_uring, and this host does not give it: %v", err)
	}
	defer ring.Close(time.Now().Add(limit))
	script(t, NewFile(ring, int(f.Fd()), 1), ring, 1<<20)
	if err := ask(t, NewFile(ring, -1, 1), ring, ublk.OpWrite, 0, 0, make([]byte, 512), 512); err == nil {
		t.Error("a bad descriptor takes a write")
	}
}
