package engine

import (
	"testing"
	"time"
)

const logSlots = 67 // the smallest activity log

// logPair is a Primary that is alone, on a sparse disk with a volatile cache, whose log has few slots.
func logPair(t *testing.T, extents int64) *pair {
	t.Helper()
	size := (extents + 1) * 4 << 20
	p := newPair(t, size, NetOptions{})
	p.a.e.vols[0].cfg.Disk.ALExtents = logSlots
	p.must(p.a, Attach{BackingSize: size, MetaSize: size, Flush: true, MetaFlush: true})
	p.must(p.a, Promote{Force: true})
	return p
}

// submit writes a block of an extent, as far as it gets.
func (p *pair) submit(n *node, extent, block int64) *Request {
	r := &Request{Op: OpWrite, Off: extent<<22 + block%1024*4096, Len: 4096, Data: make([]byte, 4096)}
	n.e.Submit(p.now, r)
	for p.work(n) {
	}
	return r
}

// TestLogFlushesWhatItForgets: an extent leaves the log only after what was written
// to it is durable, and that costs a flush only if it is not.
func TestLogFlushesWhatItForgets(t *testing.T) {
	const extents, writes = 100, 1000
	p := logPair(t, extents)
	n := p.a
	flushes := 0
	n.fail = func(io DiskIO) Errno {
		if dataFlush(io) {
			flushes++
		}
		return OK
	}
	before := n.e.vols[0].alWrites
	for k := range int64(logSlots) {
		p.submit(n, k, 0)
	}
	if flushes != 0 {
		t.Fatalf("%d flushes while nothing was evicted", flushes)
	}
	n.hold = dataFlush
	r := p.submit(n, logSlots, 0)
	if n.done[r] || len(n.held) != 1 {
		t.Fatalf("written %v with %d flushes under way: an extent was forgotten that is not durable", n.done[r], len(n.held))
	}
	n.hold = nil
	n.e.DiskDone(p.now, n.held[0].Token, OK)
	for p.work(n) {
	}
	if !n.done[r] {
		t.Fatal("the write does not go on after the flush")
	}
	for k := range int64(writes) {
		p.submit(n, k*37%extents, 0)
	}
	if got := n.e.vols[0].alWrites - before; got < writes/2 || flushes > int(got)/20 {
		t.Fatalf("%d flushes of the data for %d transactions, want one for every log full of extents", flushes, got)
	}
}

// TestLogFlushesWhatItForgetsOfThePeer: so it is with the writes of a peer that has no disk.
func TestLogFlushesWhatItForgetsOfThePeer(t *testing.T) {
	const size = (logSlots + 2) * 4 << 20
	p := newPair(t, size, NetOptions{})
	p.b.e.vols[0].cfg.Disk.ALExtents = logSlots
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Attach{BackingSize: size, MetaSize: size, Flush: true})
		p.must(n, Connect{})
	}
	p.settle(time.Second)
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.must(p.a, Promote{})
	p.must(p.a, Detach{})
	write := func(extent int64) *Request {
		return p.give(p.a, &Request{Op: OpWrite, Off: extent << 22, Len: 4096, Data: filled(7, 4096)})
	}
	for range 2 { // the second time every block is marked already, on the disk, too
		for k := range int64(logSlots + 1) {
			p.ends(p.a, write(k), OK)
		}
		p.settle(time.Second)
	}
	for k := range int64(logSlots) {
		p.ends(p.a, write(k+1), OK)
	}
	p.b.hold = dataFlush
	if last := write(0); p.a.done[last] || len(p.b.held) != 1 {
		t.Fatalf("written %v with %d flushes under way: an extent was forgotten that is not durable\n%s", p.a.done[last], len(p.b.held), p.story())
	}
	p.comesBack(p.b, OK)
}

// TestLogStarves: writes to hot extents that never leave a slot of the log unused let
// one to a cold extent through in the end.
func TestLogStarves(t *testing.T) {
	p := logPair(t, logSlots+1)
	n := p.a
	n.hold = func(io DiskIO) bool { return !io.Meta && io.Op == DiskWrite }
	for k := range int64(logSlots) {
		p.submit(n, k, 0)
	}
	cold := p.submit(n, logSlots, 0)
	last := []*Request{}
	for round := int64(1); round < 100 && !n.done[cold]; round++ {
		old := n.held
		n.held, last = nil, last[:0]
		for k := range int64(logSlots) {
			last = append(last, p.submit(n, k, round)) // before the one of the last round ends
		}
		for _, io := range old {
			n.e.DiskDone(p.now, io.Token, OK)
		}
		for p.work(n) {
		}
		p.now += 10 * time.Millisecond
	}
	if !n.done[cold] {
		t.Fatalf("the write to the cold extent starves, also after %v", p.now)
	}
	for len(n.held) > 0 {
		old := n.held
		n.held = nil
		for _, io := range old {
			n.e.DiskDone(p.now, io.Token, OK)
		}
		for p.work(n) {
		}
	}
	for i, r := range last {
		if !n.done[r] || r.Err != OK {
			t.Fatalf("the write to extent %d, which waited behind it, is done %v with errno %d", i, n.done[r], r.Err)
		}
	}
}
