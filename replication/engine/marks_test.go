package engine

import (
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// marked reports whether the first block counts as out of sync on a node.
func (n *node) marked() bool {
	n.t.Helper()
	marked, known := n.e.Marked(0, 0, 4096)
	if !known {
		n.t.Fatalf("%s does not know", n.name)
	}
	return marked
}

// A resync block stays marked on the Source until the Target has it on its disk.
func TestBlockIsMarkedUntilTargetHasIt(t *testing.T) {
	p := pausedResync(t, NetOptions{}, false)
	p.b.hold = dataWrite
	p.must(p.a, PauseSync{})
	if p.b.holds() != 1 || !p.a.marked() || !p.b.marked() {
		t.Fatalf("%d blocks are on their way to the disk, marked %v and %v\n%s", p.b.holds(), p.a.marked(), p.b.marked(), p.story())
	}
	p.releaseWrites(p.b)
	p.inSyncAgain()
}

// synced is a resync of which a hears nothing on meta: b has got every block, and its disk has failed after that. a goes on
// alone, and has written the first block.
func synced(t *testing.T) *pair {
	t.Helper()
	p := pausedResync(t, NetOptions{}, false)
	p.a.mute[MetaSock] = true
	p.must(p.a, PauseSync{})
	if p.b.marked() || !p.a.marked() {
		t.Fatalf("the Target has not got the block, or the Source has heard of it\n%s", p.story())
	}
	p.b.e.readFailed(p.b.e.vols[0], EIO)
	p.settle(0)
	p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
	p.write(p.a, 0, make([]byte, 4096))
	return p
}

// The acknowledgement of a resync block that comes after the range was written anew says nothing of what is there now.
func TestAckOfOldBlock(t *testing.T) {
	p := synced(t)
	p.a.mute[MetaSock] = false
	p.settle(0)
	if !p.a.marked() {
		t.Fatalf("the block is not marked\n%s", p.story())
	}
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// An acknowledgement does not tell for which of two resync blocks of one range it is: if the connection is lost before the
// other one comes, or that is negative, the range is marked.
func TestAckOfOneOfTwoBlocks(t *testing.T) {
	for _, refused := range []bool{false, true} {
		p := synced(t)
		p.b.hold = dataWrite
		p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.settle(0)
		if p.b.holds() != 1 {
			t.Fatalf("the second block is not on its way to the disk\n%s", p.story())
		}
		p.a.mute[MetaSock] = false
		p.settle(0)
		if refused {
			p.a.mute[DataSock] = true // the state of the disk comes later
			p.comesBack(p.b, EIO)
		} else {
			p.a.e.ConnDown(p.now, NetworkFailure, nil)
		}
		if !p.a.marked() {
			t.Errorf("refused %v: the Target lacks the block, and it is not marked\n%s", refused, p.story())
		}
		p.a.mute[DataSock] = false
		p.settle(0)
		if refused {
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		} else {
			p.releaseWrites(p.b)
		}
		p.inSyncAgain()
	}
}

// A write that this disk has refused is marked: the peer has it.
func TestFailedWriteIsMarked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.fail = func(io DiskIO) Errno {
		if dataWrite(io) {
			return EIO
		}
		return OK
	}
	r := p.begin(p.a, 1)
	p.settle(time.Second)
	if !p.a.done[r] || r.Err != OK || p.a.disk[0] != 0 {
		t.Fatalf("done %v, errno %d\n%s", p.a.done[r], r.Err, p.story())
	}
	if !p.a.onDisk(0) {
		t.Errorf("the bitmap of the disk that was let go does not have it\n%s", p.story())
	}
	p.a.fail = nil
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// A block that this disk cannot read is marked, so that the disk gets it back from the peer.
func TestUnreadableBlockIsMarked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.disk[0], p.b.disk[0] = 1, 1
	p.a.fail = func(io DiskIO) Errno {
		if dataRead(io) {
			return EIO
		}
		return OK
	}
	if r := p.read(p.a, 0); !p.a.done[r] || r.Err != OK {
		t.Fatalf("done %v, errno %d\n%s", p.a.done[r], r.Err, p.story())
	}
	p.a.fail = nil
	clear(p.a.disk[:4096]) // the sectors were replaced
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// A write that goes to this disk alone is marked.
func TestLoneWriteIsMarked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Disconnect{})
	p.write(p.a, 0, []byte(string(make([]byte, 4095))+"x"))
	if !p.a.marked() {
		t.Error("not marked")
	}
	p.must(p.a, Connect{})
	p.inSyncAgain()
}

// With protocols A and B, too, a write of a node without a good disk is answered when the peer has written it: that it is on
// the wire is a promise only beside a copy here. That it is durable there is a matter of the next FLUSH.
func TestWriteWithoutDiskIsStrict(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolA, ProtocolB} {
		p := cachedPair(t, NetOptions{Protocol: protocol})
		p.must(p.a, Detach{})
		p.write(p.a, 1<<20, make([]byte, 4096)) // begins a generation
		p.settle(time.Second)
		p.b.hold = func(io DiskIO) bool { return dataWrite(io) || dataFlush(io) }
		r := p.begin(p.a, 1)
		if p.a.done[r] || p.b.holds() != 1 {
			t.Fatalf("answered %v, %d writes are on their way to the disk\n%s", p.a.done[r], p.b.holds(), p.story())
		}
		write := p.b.held[0]
		p.b.held = nil
		copy(p.b.disk[write.Off:], write.Data)
		p.b.e.DiskDone(p.now, write.Token, OK)
		p.settle(0)
		if !p.a.done[r] || r.Err != OK {
			t.Fatalf("done %v, errno %d, %d flushes of the peer are held\n%s", p.a.done[r], r.Err, len(p.b.held), p.story())
		}
		p.releaseWrites(p.b)
	}
}

// A FUA request is one on both disks.
func TestFUAReachesBothDisks(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	var fua, plain [2]int
	for i, n := range []*node{p.a, p.b} {
		n.fail = func(io DiskIO) Errno {
			switch {
			case dataWrite(io) && io.FUA:
				fua[i]++
			case dataWrite(io):
				plain[i]++
			}
			return OK
		}
	}
	r := &Request{Op: OpWrite, Len: 4096, Data: make([]byte, 4096), FUA: true}
	p.a.e.Submit(p.now, r)
	p.settle(0)
	if !p.a.done[r] || fua != [2]int{1, 1} || plain != [2]int{} {
		t.Fatalf("done %v, writes with FUA %v, without %v\n%s", p.a.done[r], fua, plain, p.story())
	}
}

// A demotion waits until the peer has on its disk what was answered before that.
func TestDemotionWaitsForConfirmation(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
	p.inSync()
	p.b.hold = dataWrite
	if r := p.begin(p.a, 1); !p.a.done[r] {
		t.Fatalf("the write is not done\n%s", p.story())
	}
	p.a.e.Command(p.now, 100, Demote{})
	p.settle(time.Second)
	p.unanswered(p.a, 100)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.releaseWrites(p.b)
	p.settle(time.Second)
	p.succeeded(p.a, 100)
	p.want(p.a, "Secondary/Secondary Connected UpToDate/UpToDate")
}

// The target of a resync, Primary, loses its disk, and works on the source's from then on. Its acknowledgement of a block comes after that, and after a write
// of the same block: they are on different sockets. The write is on the source's disk alone, and stays marked until the target's has it.
func TestAckOfAnEndedResync(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta && io.Off < 1<<20 }
	p.a.e.Command(p.now, 100, Invalidate{})
	p.settle(3 * time.Second)
	p.want(p.a, "Primary/Secondary SyncTarget Inconsistent/UpToDate")
	p.b.mute[MetaSock] = true
	p.releaseWrites(p.a)
	p.a.e.readFailed(p.a.e.vols[0], EIO)
	p.settle(0)
	p.want(p.b, "Secondary/Primary Connected UpToDate/Diskless")
	r := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(7, 4096)})
	p.b.mute[MetaSock] = false
	p.settle(time.Second)
	p.ends(p.a, r, OK)
	if !p.b.e.vols[0].dirty(4096, 4096) {
		t.Errorf("the block is not marked\n%s", p.story())
	}
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// A write of the peer that says that it may clear bits does so only while there is a resync: until then nobody has copied what they stand for.
func TestWriteClearsBitsInAResyncOnly(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.e.vols[0].setOutOfSync(0, 4096)
	p.a.conn = "away" // its packets are made here
	d := wire.BlockData{BlockID: 1, Seq: 1, Flags: wire.DPRWSync | wire.DPMaySetInSync | wire.DPSendWriteAck}
	p.b.e.Receive(p.now, DataSock, framed(wire.CmdData, d.Append(nil), 4096))
	for p.work(p.b) {
	}
	if v := p.b.e.vols[0]; v.written != 4096 || !p.b.marked() {
		t.Errorf("%d bytes are written, marked %v\n%s", v.written, p.b.marked(), p.story())
	}
}

// A resync block that the target cannot write is missing there, and both nodes know.
func TestBlockThatTheTargetCannotWrite(t *testing.T) {
	p := pausedResync(t, NetOptions{}, false)
	p.b.hold = dataWrite
	p.must(p.a, PauseSync{})
	if p.b.holds() != 1 {
		t.Fatalf("%d blocks are on their way to the disk\n%s", p.b.holds(), p.story())
	}
	p.a.mute[DataSock] = true // the state of the disk comes later
	p.comesBack(p.b, EIO)
	if target := p.b.e.vols[0].dirty(0, 4096); !p.a.marked() || !target {
		t.Errorf("the block is marked %v at the source and %v at the target\n%s", p.a.marked(), target, p.story())
	}
	p.a.mute[DataSock] = false
	p.settle(time.Second)
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// The peer has a write, its epoch is over, and then the own disk fails at it: the range differs, although the peer has said that it does not.
func TestFailedWriteAfterItsEpoch(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{MaxEpochSize: 1})
	p.up()
	p.must(p.a, PauseSync{On: true})
	p.must(p.a, Promote{Force: true})
	p.settle(time.Second)
	p.a.hold = dataWrite
	p.give(p.a, &Request{Op: OpWrite, Len: 4096, Data: filled(7, 4096)})
	p.settle(time.Second)
	if p.b.marked() || !p.a.e.confirmed(p.a.e.vols[0]) {
		t.Fatalf("the peer has not taken the write for synced, or the epoch is open\n%s", p.story())
	}
	p.fails(p.a, takesAll)
	if !p.a.e.vols[0].dirty(0, 4096) {
		t.Errorf("the own disk lacks the write, and nothing is marked\n%s", p.story())
	}
}

// The peer takes a write, and fails at the next one of the range. The epoch of both ends before the word of the lost disk comes: it clears no bit.
func TestWriteFailsThereAfterOneThatCameThere(t *testing.T) {
	p := pausedResync(t, NetOptions{}, false)
	p.a.mute[DataSock] = true
	p.write(p.a, 0, filled(6, 4096))
	if p.a.e.confirmed(p.a.e.vols[0]) || p.b.marked() {
		t.Fatalf("the peer has not taken the write for synced, or its epoch is over\n%s", p.story())
	}
	p.b.fail = takesNothing
	p.write(p.a, 0, filled(7, 4096))
	p.settle(time.Second)
	if !p.a.e.confirmed(p.a.e.vols[0]) || !p.a.e.vols[0].dirty(0, 4096) {
		t.Errorf("the peer lacks the write, and nothing is marked, or its epoch is open\n%s", p.story())
	}
}

// The Target has dropped a block with the disk that it lost, and acknowledges it never. When a later resync is done, it is not missed.
func TestBlockWithoutAckBeforeADoneResync(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	v := p.a.e.vols[0]
	v.resync.served = append(v.resync.served, servedBlock{off: 0, n: 4096})
	p.must(p.b, Invalidate{})
	p.settle(10 * time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	if n := v.bm.Count(); n != 0 {
		t.Errorf("%d blocks are marked, and both disks are the same\n%s", n, p.story())
	}
}
