package engine

import (
	"testing"
	"time"
)

// duo drives two connected engines without making garbage of its own: disks
// that are done at once, and sockets that are byte slices used again.
type duo struct {
	now  Instant
	a, b *node
	wire [2][2][]byte // by receiver and socket
	disk []DiskIO
	done int
}

func newDuo(t testing.TB) *duo {
	p := newPair(t, 8<<20, NetOptions{})
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk)), Flush: true, MetaFlush: true})
		p.must(n, Connect{})
	}
	p.settle(time.Second)
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.must(p.a, Promote{})
	p.settle(time.Second)
	return &duo{now: p.now, a: p.a, b: p.b}
}

// turn lets one node react to what came, and reports whether it had anything to do.
func (d *duo) turn(n, peer *node, mine, theirs *[2][]byte) bool {
	busy := false
	for s := DataSock; s <= MetaSock; s++ {
		if b := mine[s]; len(b) > 0 {
			n.e.Receive(d.now, s, b)
			mine[s], busy = b[:0], true
		}
	}
	if n.e.Deadline() <= d.now {
		n.e.Tick(d.now)
	}
	out := n.e.Drain()
	d.done += len(out.Done)
	d.disk = append(d.disk[:0], out.Disk...)
	busy = busy || len(out.Disk)+len(out.Done) > 0
	for i := range d.disk {
		n.e.DiskDone(d.now, d.disk[i].Token, OK)
	}
	for s := DataSock; s <= MetaSock; s++ {
		segments := n.e.NextSend(s)
		for _, g := range segments {
			theirs[s] = append(append(theirs[s], g.Head...), g.Body...)
		}
		if segments != nil {
			n.e.Sent(d.now, s)
			busy = true
		}
	}
	return busy
}

// settle runs both until nothing moves, also past the next barrier.
func (d *duo) settle() {
	for range 4 {
		for {
			a := d.turn(d.a, d.b, &d.wire[0], &d.wire[1])
			b := d.turn(d.b, d.a, &d.wire[1], &d.wire[0])
			if !a && !b {
				break
			}
		}
		d.now += 15 * time.Millisecond // a barrier, and its acknowledgement, wait for company
	}
}

// TestNoAllocations: a write, from Submit to the end of its epoch, costs no
// allocation on either node once the queues have grown.
func TestNoAllocations(t *testing.T) {
	d := newDuo(t)
	data := make([]byte, 4096)
	var r Request
	for _, tc := range []struct {
		name string
		req  Request
	}{
		{"write", Request{Op: OpWrite, Off: 64 << 10, Len: 4096, Data: data}},
		{"write with FUA", Request{Op: OpWrite, Off: 64 << 10, Len: 4096, Data: data, FUA: true}},
		{"read", Request{Op: OpRead, Off: 64 << 10, Len: 4096, Data: data}},
		{"discard", Request{Op: OpDiscard, Off: 64 << 10, Len: 4096}},
		{"flush", Request{Op: OpFlush}},
	} {
		one := func() {
			r = tc.req
			d.a.e.Submit(d.now, &r)
			d.settle()
		}
		for range 50 {
			one()
		}
		done := d.done
		if n := testing.AllocsPerRun(200, one); n != 0 {
			t.Errorf("%s: %v allocations on the way through both nodes, want 0", tc.name, n)
		}
		if d.done != done+201 {
			t.Errorf("%s: %d of 201 requests were answered", tc.name, d.done-done)
		}
	}
}

// BenchmarkWrite is one 4 KiB write through both engines, copies of the bytes
// between them included.
func BenchmarkWrite(b *testing.B) {
	d := newDuo(b)
	reqs := make([]Request, 32)
	data := make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		for i := range reqs {
			reqs[i] = Request{Op: OpWrite, Off: int64(i) * 4096, Len: 4096, Data: data}
			d.a.e.Submit(d.now, &reqs[i])
		}
		for d.turn(d.a, d.b, &d.wire[0], &d.wire[1]) || d.turn(d.b, d.a, &d.wire[1], &d.wire[0]) {
		}
		d.now += 100 * time.Microsecond
	}
	b.ReportMetric(float64(b.N*len(reqs))/b.Elapsed().Seconds(), "writes/s")
}
