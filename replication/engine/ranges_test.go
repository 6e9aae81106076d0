package engine

import (
	"bytes"
	"testing"
	"time"
)

func dataRead(io DiskIO) bool  { return io.Op == DiskRead && !io.Meta }
func dataWrite(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }

// holds counts the I/Os that a node holds back and that touch the first block.
func (n *node) holds() (count int) {
	for _, io := range n.held {
		if io.Off == 0 {
			count++
		}
	}
	return count
}

// begin is a write of one block full of b, at 0, as far as it gets.
func (p *pair) begin(n *node, b byte) *Request {
	r := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{b}, 4096)}
	n.e.Submit(p.now, r)
	p.settle(0)
	return r
}

// pausedResync is a pair whose resync from a to b, of everything, is paused on a. If target, b is the Primary.
func pausedResync(t *testing.T, net NetOptions, target bool) *pair {
	t.Helper()
	p := newPair(t, 8<<20, net)
	p.up()
	p.must(p.a, PauseSync{On: true})
	p.must(p.a, Promote{Force: true})
	p.settle(time.Second)
	if target {
		p.must(p.a, Demote{})
		p.must(p.b, Promote{})
		p.settle(time.Second)
		p.want(p.b, "Primary/Secondary PausedSyncT Inconsistent/UpToDate peer_isp")
		return p
	}
	p.want(p.a, "Primary/Secondary PausedSyncS UpToDate/Inconsistent user_isp")
	return p
}

// finish lets everything go that was held, and fails unless r is done and both disks hold b in the first block.
func (p *pair) finish(r *Request, b byte) {
	p.t.Helper()
	for _, n := range []*node{p.a, p.b} {
		if len(n.held) > 0 && n.held[0].Op == DiskRead {
			n.release()
		}
		p.releaseWrites(n)
	}
	p.settle(10 * time.Second)
	if !p.a.done[r] && !p.b.done[r] || r.Err != OK || p.a.disk[0] != b || p.b.disk[0] != b {
		p.t.Fatalf("errno %d, the disks have %d and %d\n%s", r.Err, p.a.disk[0], p.b.disk[0], p.story())
	}
	p.inSyncAgain()
}

// A write on the Source waits for a resync block that is being read: the Target gets the block first.
func TestWriteWaitsForBlockBeingRead(t *testing.T) {
	p := pausedResync(t, NetOptions{}, false)
	p.a.hold = dataRead
	p.must(p.a, PauseSync{})
	if p.a.holds() != 1 {
		t.Fatalf("the block is not being read\n%s", p.story())
	}
	r := p.begin(p.a, 1)
	if p.a.disk[0] != 0 || p.b.disk[0] != 0 {
		t.Fatalf("written below the read\n%s", p.story())
	}
	p.finish(r, 1)
}

// A write on the Target waits for a block that was asked for: what comes is older.
func TestWriteWaitsForBlockAskedFor(t *testing.T) {
	p := pausedResync(t, NetOptions{}, true)
	p.a.hold = dataRead
	p.must(p.a, PauseSync{})
	if p.a.holds() != 1 {
		t.Fatalf("the block is not asked for\n%s", p.story())
	}
	r := p.begin(p.b, 1)
	if p.b.disk[0] != 0 || p.a.disk[0] != 0 {
		t.Fatalf("written below a block that is on its way\n%s", p.story())
	}
	p.finish(r, 1)
}

// The Target asks for no block that it is writing to itself.
func TestBlockBeingWrittenIsNotAskedFor(t *testing.T) {
	p := pausedResync(t, NetOptions{}, true)
	p.b.hold = dataWrite
	r := p.begin(p.b, 1)
	asked := false
	p.a.fail = func(io DiskIO) Errno {
		asked = asked || dataRead(io) && io.Off == 0
		return OK
	}
	p.must(p.a, PauseSync{})
	if asked || p.b.holds() != 1 {
		t.Fatalf("asked for %v, %d writes are held\n%s", asked, p.b.holds(), p.story())
	}
	p.finish(r, 1)
	if !asked {
		t.Error("nor afterwards")
	}
}

// On the Target a write of the peer waits for the resync block on its way to the disk, which came before it.
func TestPeerWriteWaitsForResyncBlock(t *testing.T) {
	p := pausedResync(t, NetOptions{}, false)
	p.b.hold = dataWrite
	p.must(p.a, PauseSync{})
	r := p.begin(p.a, 1)
	if p.a.disk[0] != 1 || p.b.holds() != 1 {
		t.Fatalf("the Source has %d, %d writes of the Target's disk are under way at once\n%s", p.a.disk[0], p.b.holds(), p.story())
	}
	p.finish(r, 1)
}

// On the Target a resync block waits for a write of the peer that came before it.
func TestResyncBlockWaitsForPeerWrite(t *testing.T) {
	p := pausedResync(t, NetOptions{Protocol: ProtocolA}, false)
	p.b.hold = dataWrite
	r := p.begin(p.a, 1)
	if !p.a.done[r] {
		t.Fatalf("the write is not done\n%s", p.story())
	}
	p.must(p.a, PauseSync{})
	if len(p.b.held) < 2 || p.b.holds() != 1 {
		t.Fatalf("%d writes of one block are under way at once, %d in all\n%s", p.b.holds(), len(p.b.held), p.story())
	}
	p.finish(r, 1)
}

// Writes of one block are carried out in their order, on both disks.
func TestWritesInOrder(t *testing.T) {
	t.Run("own", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.a.hold = dataWrite
		p.begin(p.a, 1)
		r := p.begin(p.a, 2)
		if p.a.holds() != 1 {
			t.Fatalf("%d writes of one block are under way at once", p.a.holds())
		}
		p.finish(r, 2)
	})
	t.Run("the peer's", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
		p.inSync()
		p.b.hold = dataWrite
		p.begin(p.a, 1)
		r := p.begin(p.a, 2)
		if !p.a.done[r] || p.b.holds() != 1 {
			t.Fatalf("done %v, %d writes of one block are under way at once", p.a.done[r], p.b.holds())
		}
		p.finish(r, 2)
	})
}

// A write that overlaps two others waits for both.
func TestWriteWaitsForAll(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.hold = dataWrite
	p.begin(p.a, 1)
	p.a.e.Submit(p.now, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: make([]byte, 4096)})
	r := &Request{Op: OpWrite, Len: 8192, Data: bytes.Repeat([]byte{2}, 8192)}
	p.a.e.Submit(p.now, r)
	p.settle(0)
	first := p.a.held[0]
	p.a.held = p.a.held[1:]
	copy(p.a.disk[first.Off:], first.Data)
	p.a.e.DiskDone(p.now, first.Token, OK)
	p.settle(0)
	if len(p.a.held) != 1 {
		t.Fatalf("%d writes are under way, want the second alone", len(p.a.held))
	}
	p.finish(r, 2)
	if p.a.disk[4096] != 2 {
		t.Error("the third has come before the second")
	}
}

// A read of the peer's application waits for what the same application has written.
func TestPeerReadsWhatItWrote(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.b.hold = dataWrite
	w := p.begin(p.a, 1)
	r := p.read(p.a, 0)
	p.settle(0)
	if p.a.done[r] {
		t.Fatalf("read %d before the write is on the disk\n%s", r.Data[0], p.story())
	}
	p.releaseWrites(p.b)
	if !p.a.done[w] || !p.a.done[r] || r.Err != OK || r.Data[0] != 1 {
		t.Fatalf("read: done %v, errno %d, data %d\n%s", p.a.done[r], r.Err, r.Data[0], p.story())
	}
}
