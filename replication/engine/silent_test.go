package engine

import (
	"testing"
	"time"
)

// A peer that falls silent without a word holds writes until a ping of it is missed: ping-int and ping-timeout after it was last
// heard, 10.5 seconds with their defaults. They go on alone then, and are out of sync.
func TestSilentPeerHoldsWrites(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.write(p.a, 0, make([]byte, 4096)) // the peer is heard
	p.a.mute, p.b.mute = [2]bool{true, true}, [2]bool{true, true}
	began := p.now
	r := &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: make([]byte, 4096)}
	p.a.e.Submit(p.now, r)
	p.settle(9 * time.Second)
	if p.a.done[r] {
		t.Fatalf("the write is answered before a ping is missed\n%s", p.story())
	}
	p.settle(began + Instant(10500*time.Millisecond) - p.now)
	if !p.a.done[r] || r.Err != OK {
		t.Fatalf("10.5 s after the peer fell silent: done %v, errno %d\n%s", p.a.done[r], r.Err, p.story())
	}
	if marked, known := p.a.e.Marked(0, 4096, 1); !known || !marked {
		t.Errorf("marked %v, known %v", marked, known)
	}
}
