package ublk

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// abandoned is a device of two requests, which the handler has, after its ring was closed and it was abandoned.
func abandoned(t *testing.T, mode Mode, char int) []*Request {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f := fakeHost(t)
	driver.open = func(int) (int, error) { return char, nil }
	d, err := Create(t.Context(), Config{ID: 3, Depth: 2, MaxIO: 64 << 10, Mode: mode, Geometry: Geometry{Size: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	f.serve(d)
	q := d.serving.queues[0]
	if q.ring, err = uring.New(d.RingConfig()); err != nil {
		t.Fatal(err)
	}
	q.char, q.signal, q.reqs, q.alive = char, q.ring.NewSignal(q.answerRemote), make([]Request, 2), 2
	if mode == ModeCopy {
		if q.pool, err = newPool(q.ring, nil, 2, 0, d.cfg.MaxIO); err != nil {
			t.Fatal(err)
		}
	}
	for i := range q.reqs {
		q.reqs[i] = Request{Op: OpWrite, Len: 4096, q: q, tag: uint16(i), buf: uint32(i), held: true}
	}
	if err := q.ring.Close(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := d.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	return []*Request{&q.reqs[0], &q.reqs[1]}
}

// The handler of an abandoned device goes on with the memory of its requests until it answers them.
func TestAbandonedRequestsKeepTheirMemory(t *testing.T) {
	char, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	held := abandoned(t, ModeCopy, char)
	pool := held[0].q.pool
	for i, r := range held {
		p := r.Bytes()
		for j := range p {
			p[j] = byte(i)
		}
		if i == 0 {
			r.CompleteRemote(nil)
		} else {
			r.Complete(nil)
		}
	}
	if pool.maps != nil || pool.kept != 0 {
		t.Errorf("%d buffers are kept after the last answer", pool.kept)
	}
}

// What has the number of the character device by now is not taken for it.
func TestAbandonedRequestsCopyNothing(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	char, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), uapi.DataOffset(0, 0)); err != nil {
		t.Fatal(err)
	}
	held := abandoned(t, ModeUserCopy, char)
	if err := unix.Dup3(int(f.Fd()), char, unix.O_CLOEXEC); err != nil { // the number is another file's
		t.Fatal(err)
	}
	defer unix.Close(char)
	if err := held[0].CopyOut(make([]byte, 4096), 0); !errors.Is(err, ErrState) {
		t.Errorf("copied: %v", err)
	}
	held[0].CompleteRemote(nil)
}
