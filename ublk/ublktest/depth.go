package ublktest

import (
	"bytes"
	"sync"
	"testing"

	"github.com/urbd/urbd/ublk"

	"golang.org/x/sys/unix"
)

// fullDepth keeps as many requests with the handler as the queue is deep, answers them last first from other goroutines, and
// looks at the data.
func fullDepth(t *testing.T, b *bench) {
	for _, depth := range []int{1, 32, 128} {
		t.Run(itoa(int64(depth)), func(t *testing.T) {
			b := &bench{t: t, subject: b.subject, mode: b.mode}
			atDepth(t, b.start(ublk.Config{Depth: depth, MaxIO: 64 << 10}), depth)
		})
	}
}

func atDepth(t *testing.T, d *device, depth int) {
	const piece = 8192
	if err := d.Tune("scheduler", "none"); err != nil { // a scheduler may keep some tags for later
		t.Fatal(err)
	}
	k := openDisk(t, d.Path(), 0)
	mem := k.mem[:depth*piece]
	want := make([]byte, len(mem))
	for i := range depth {
		pattern(want[i*piece:(i+1)*piece], uint64(i))
	}
	copy(mem, want)
	for _, op := range []ublk.Op{ublk.OpWrite, ublk.OpRead} {
		move := unix.Pwrite
		if op == ublk.OpRead {
			move = unix.Pread
			clear(mem)
		}
		d.watch.set(func(w *watch) { w.hold = func(r *ublk.Request) bool { return r.Op == op } })
		var wg sync.WaitGroup
		for i := range depth {
			wg.Go(func() {
				if n, err := move(k.fd, mem[i*piece:(i+1)*piece], int64(i)*piece); err != nil || n < piece {
					t.Errorf("%v %d: %d bytes, %v", op, i, n, err)
				}
			})
		}
		eventually(t, "the queue's depth is not used", func() error { return d.watch.waitHeld(depth) })
		d.watch.release()
		wg.Wait()
		if !bytes.Equal(mem, want) {
			t.Error("other data is read than was written")
		}
	}
}
