package uring

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain ends at once on a host where no ring can be made, and says why: nothing here means anything without one.
func TestMain(m *testing.M) {
	if _, err := Probe(); err != nil {
		fmt.Fprintf(os.Stderr, "FAIL: these tests need io_uring, and this host does not give it: %v\n", err)
		os.Exit(1)
	}
	// The runtime's own poller opens two descriptors with the first pipe and keeps them.
	p, q, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	p.Close()
	q.Close()
	before := descriptors()
	code := m.Run()
	if after := descriptors(); code == 0 && after > before {
		fmt.Fprintf(os.Stderr, "FAIL: %d descriptors before the tests, %d after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

// descriptors counts the open descriptors after the kernel has closed what it closes late.
func descriptors() int {
	runtime.GC()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(e)
}

// result records completions.
type result struct {
	n     int
	arg   uint64
	res   int32
	flags uint32
}

func (r *result) Complete(arg uint64, res int32, flags uint32) {
	r.n++
	r.arg, r.res, r.flags = arg, res, flags
}

// each runs f with a ring of every flavour, on its locked thread, and closes it.
func each(t *testing.T, cfg Config, f func(t *testing.T, r *Ring)) {
	t.Helper()
	for _, plain := range []bool{false, true} {
		cfg.Plain = plain
		t.Run(fmt.Sprintf("plain=%v", plain), func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			r, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.Close(soon()); err != nil {
					t.Error(err)
				}
				if n := r.slots.live; n != 0 {
					t.Errorf("%d operations never completed", n)
				}
			}()
			f(t, r)
		})
	}
}

func soon() time.Time { return time.Now().Add(20 * time.Second) }

// await waits until done, at most 20 seconds.
func await(t *testing.T, r *Ring, done func() bool) {
	t.Helper()
	end := soon()
	for !done() {
		if _, err := r.Wait(end); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatal("nothing completes")
		}
	}
}

// do runs one operation and returns its result.
func do(t *testing.T, r *Ring, op Op) int32 {
	t.Helper()
	var got result
	r.Prep(op, &got, 0)
	await(t, r, func() bool { return got.n > 0 && got.flags&More == 0 })
	return got.res
}

func want(t *testing.T, what string, got, want int32) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: result %d, want %d", what, got, want)
	}
}
