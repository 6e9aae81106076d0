package ublk

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// recorder is a Backend of 1 MiB that writes down what it is asked.
type recorder struct {
	mu   sync.Mutex
	data [1 << 20]byte
	log  []string
	err  error
}

func (b *recorder) note(s string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, s)
	return b.err
}

func (b *recorder) ReadAt(p []byte, off int64) (int, error) {
	if err := b.note("read"); err != nil {
		return 0, err
	}
	n := copy(p, b.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b *recorder) WriteAt(p []byte, off int64) (int, error) {
	if err := b.note("write"); err != nil {
		return 0, err
	}
	return copy(b.data[off:], p), nil
}

// full has every ability.
type full struct{ recorder }

func (b *full) Flush() error               { return b.note("flush") }
func (b *full) Discard(off, n int64) error { clear(b.data[off : off+n]); return b.note("discard") }
func (b *full) WriteZeroes(off, n int64, unmap bool) error {
	clear(b.data[off : off+n])
	if unmap {
		return b.note("zero+unmap")
	}
	return b.note("zero")
}

// ask sends one request through a Blocking handler and returns its answer.
func ask(t *testing.T, h Handler, op Op, flags Flags, off int64, data []byte, n int64) error {
	t.Helper()
	done := make(chan error, 1)
	h.Handle(FakeRequest(op, flags, off, data, n, func(err error) { done <- err }))
	return <-done
}

func TestBlocking(t *testing.T) {
	b := new(full)
	h := NewBlocking(b, 3)
	defer h.Close()
	out, in := bytes.Repeat([]byte{7}, 4096), make([]byte, 4096)
	for _, c := range []struct {
		op    Op
		flags Flags
		off   int64
		data  []byte
		n     int64
		log   []string
	}{
		{OpWrite, 0, 8192, out, 4096, []string{"write"}},
		{OpRead, 0, 8192, in, 4096, []string{"read"}},
		{OpWrite, FUA, 0, out, 4096, []string{"write", "flush"}},
		{OpFlush, 0, 0, nil, 0, []string{"flush"}},
		{OpDiscard, 0, 0, nil, 4096, []string{"discard"}},
		{OpWriteZeroes, 0, 0, nil, 4096, []string{"zero+unmap"}},
		{OpWriteZeroes, NoUnmap, 0, nil, 4096, []string{"zero"}},
	} {
		b.log = nil
		if err := ask(t, h, c.op, c.flags, c.off, c.data, c.n); err != nil || !slices.Equal(b.log, c.log) {
			t.Errorf("%v: %v, the backend sees %v", c.op, err, b.log)
		}
	}
	if !bytes.Equal(in, out) {
		t.Error("other bytes read than written")
	}
	b.err = unix.ENOSPC
	for _, op := range []Op{OpRead, OpWrite, OpFlush, OpDiscard, OpWriteZeroes} {
		if err := ask(t, h, op, 0, 0, in, 4096); Errno(err) != unix.ENOSPC {
			t.Errorf("%v over a failing backend: %v", op, err)
		}
	}
	b.err = nil
	if err := ask(t, h, OpRead, 0, 1<<20-512, in, 4096); Errno(err) != unix.EIO {
		t.Errorf("a short read: %v", err)
	}
	if err := ask(t, h, OpWrite, 0, 1<<20-512, out, 4096); Errno(err) != unix.ENOSPC {
		t.Errorf("a short write: %v", err)
	}
}

// What a backend cannot do is refused, never passed over.
func TestBlockingWithoutAbilities(t *testing.T) {
	h := NewBlocking(new(recorder), 1)
	defer h.Close()
	p := make([]byte, 4096)
	for _, c := range []struct {
		op    Op
		flags Flags
	}{{OpFlush, 0}, {OpDiscard, 0}, {OpWriteZeroes, 0}, {OpWrite, FUA}, {Op(99), 0}} {
		if err := ask(t, h, c.op, c.flags, 0, p, 4096); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v: %v", c.op, err)
		}
	}
}

// Many requests at once are all answered, and Close waits for them.
func TestBlockingAnswersAll(t *testing.T) {
	const n = 2000
	h := NewBlocking(new(full), 4)
	var wg sync.WaitGroup
	wg.Add(n)
	p := make([]byte, 512)
	for range n {
		h.Handle(FakeRequest(OpRead, 0, 0, slices.Clone(p), 512, func(err error) {
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		}))
	}
	h.Close()
	wg.Wait()
}

func TestCompletingTwiceIsABug(t *testing.T) {
	r := FakeRequest(OpFlush, 0, 0, nil, 0, func(error) {})
	r.Complete(nil)
	defer func() {
		if recover() == nil {
			t.Error("a second answer is taken")
		}
	}()
	r.CompleteRemote(nil)
}
