package ublktest

import (
	"bytes"
	"sync"
	"testing"

	"github.com/urbd/urbd/ublk"
)

// fullDepth keeps as many requests with the handler as the queue is deep, answers them last first from other goroutines, and
// looks at the data.
func fullDepth(t *testing.T, b *bench) {
	const depth, piece = 32, 8192
	d := b.start(ublk.Config{Depth: depth})
	if err := d.Tune("scheduler", "none"); err != nil { // a scheduler may keep some tags for later
		t.Fatal(err)
	}
	for _, write := range []bool{true, false} {
		op := ublk.OpRead
		if write {
			op = ublk.OpWrite
		}
		d.watch.set(func(w *watch) { w.hold = func(r *ublk.Request) bool { return r.Op == op } })
		var wg sync.WaitGroup
		for i := range depth {
			k := openDisk(t, d.Path(), 0)
			wg.Go(func() {
				want := make([]byte, piece)
				pattern(want, uint64(i))
				if write {
					if err := k.write(want, int64(i)*piece); err != nil {
						t.Errorf("write %d: %v", i, err)
					}
				} else if got, err := k.read(piece, int64(i)*piece); err != nil || !bytes.Equal(got, want) {
					t.Errorf("read %d: %v, or other data than was written", i, err)
				}
				k.close()
			})
		}
		eventually(t, "the queue's depth is not used", func() error { return d.watch.waitHeld(depth) })
		d.watch.release()
		wg.Wait()
	}
}
