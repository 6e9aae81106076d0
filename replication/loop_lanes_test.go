package replication

import (
	"sync"
	"testing"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// A disk that hangs has a bounded number of operations on the ring, whose threads are there for the other disks, too. When it is given
// up, what waits behind them is answered with them.
func TestHungDiskKeepsToItsLanes(t *testing.T) {
	nodes := hangingPair(t, 0)
	before := page(t, 4096)
	back := nodes[0].hang(true)
	const writes, zeroes = 300, 20
	var all sync.WaitGroup
	ask := func(r engine.Request) {
		all.Go(func() {
			if errno, err := nodes[0].devices.Volume(0).Do(t.Context(), r); err != nil || errno != 0 {
				t.Errorf("%v at %d: errno %d, %v", r.Op, r.Off, errno, err)
			}
		})
	}
	for i := range int64(writes) {
		ask(engine.Request{Op: engine.OpWrite, Off: i * 4096, Len: 4096, Data: before})
	}
	for i := range int64(zeroes) {
		ask(engine.Request{Op: engine.OpWriteZeroes, Off: 4<<20 + i*8192, Len: 8192})
	}
	nodes[0].shows("everything asked of the disk", func(v engine.VolumeStatus) bool { return v.LowerPending >= writes+zeroes })
	var got [lanes]lane
	if err := nodes[0].res.on(t.Context(), func(l *loop) { got = l.disks.stores[0].data.lanes }); err != nil {
		t.Fatal(err)
	}
	for of, all := range map[laneOf]int{quick: writes, slow: zeroes} {
		if l := got[of]; l.busy != dataWidth[of] || l.busy+l.waiting < all {
			t.Errorf("lane %d: %d on the ring, %d wait; at most %d of %d may be there", of, l.busy, l.waiting, dataWidth[of], all)
		}
	}
	nodes[0].must(engine.Detach{Force: true})
	all.Wait()
	nodes[0].shows("that the kernel has ended it all", func(v engine.VolumeStatus) bool {
		back()
		return v.State.Disk == statemachine.Diskless
	})
	nodes[0].reattach()
	nodes[0].must(engine.Demote{})
	sameDisks(t, nodes)
}

// What waits goes on in its order as places become free, and leaves none behind.
func TestLane(t *testing.T) {
	slab, l := make([]diskOp, 10), lane{width: 2}
	var order []uint32
	for i := range uint32(10) {
		if l.enter() {
			order = append(order, i)
		} else {
			l.wait(slab, i)
		}
	}
	for {
		next, ok := l.leave(slab)
		if !ok {
			break
		}
		order = append(order, next)
	}
	for i, got := range order {
		if got != uint32(i) || len(order) != 10 {
			t.Fatalf("order %v", order)
		}
	}
	if l.leave(slab); l.busy != 0 || l.waiting != 0 {
		t.Errorf("%+v is left", l)
	}
}
