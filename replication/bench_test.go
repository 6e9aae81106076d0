package replication

import (
	"testing"

	"github.com/urbd/urbd/replication/engine"
)

// BenchmarkWrite is a 4 KiB write of a Primary that both disks (files) have, both nodes in this process. The
// allocations are of both nodes together; "requests" go through the loop without a goroutine of their own.
func BenchmarkWrite(b *testing.B) {
	for _, depth := range []int{1, 32} {
		b.Run(map[int]string{1: "depth1", 32: "depth32"}[depth], func(b *testing.B) { benchWrite(b, depth) })
	}
}

func benchWrite(b *testing.B, depth int) {
	nodes := connectedPair(b)
	d := nodes[0].devices.Volume(0)
	done := make(chan struct{})
	reqs := make([]engine.Request, depth)
	left, flying, offset := b.N, 0, int64(0)
	next := func(r *engine.Request) {
		if left == 0 {
			if flying == 0 {
				close(done)
			}
			return
		}
		left--
		flying++
		offset = (offset + 8192) % (8 << 20)
		r.Op, r.Off, r.Len = engine.OpWrite, offset, 4096
		d.submit(r)
	}
	d.complete = func(r *engine.Request) { flying--; next(r) }
	data := page(b, int64(depth)*4096)
	b.ReportAllocs()
	b.ResetTimer()
	d.ring.Post(func() {
		for i := range reqs {
			reqs[i].Data = data[i*4096:][:4096]
			next(&reqs[i])
		}
	})
	<-done
	b.StopTimer()
	d.ring.Post(func() { d.complete = nil })
}
