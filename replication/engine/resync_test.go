package engine

import (
	"bytes"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// A block that a resync asked for which has ended since comes in, and before its last byte is there the next resync asks for the
// same one. It is not the answer to that, and nothing has failed: both nodes end the resync.
func TestBlockOfAnEarlierResync(t *testing.T) {
	const size = 8 << 20
	p := pausedResync(t, NetOptions{}, false)
	p.a.hold = dataRead
	p.must(p.a, PauseSync{})
	if p.a.holds() != 1 {
		t.Fatalf("the block is not being read\n%s", p.story())
	}
	p.must(p.b, Detach{})
	layout := p.b.e.vols[0].layout
	p.b.hold = func(io DiskIO) bool {
		return io.Op == DiskWrite && io.Meta && io.Off == layout.Superblock && p.b.e.vols[0].state.Conn.Running()
	}
	p.must(p.b, Attach{BackingSize: size, MetaSize: size})
	p.want(p.b, "Secondary/Primary SyncTarget Inconsistent/UpToDate")
	if len(p.b.held) != 1 || len(p.b.e.vols[0].resync.asks) != 0 {
		t.Fatalf("%d superblocks are being written, %d blocks are asked for\n%s", len(p.b.held), len(p.b.e.vols[0].resync.asks), p.story())
	}

	p.b.mute[DataSock] = true
	p.a.release()
	p.settle(0)
	const part = wire.HeaderLen100 + dataFixed + 4096
	coming := p.b.wire[DataSock]
	p.b.wire[DataSock] = coming[p.b.e.Receive(p.now, DataSock, coming[:part]):]
	p.a.hold = dataRead
	p.releaseWrites(p.b)
	ask := p.b.e.vols[0].resync.asks[0]
	if ask == nil {
		t.Fatalf("the block is not asked for again\n%s", p.story())
	}
	p.b.mute[DataSock] = false
	p.settle(0)
	if len(p.b.wire[DataSock]) != 0 || p.b.e.vols[0].resync.asks[0] != ask || ask.answered {
		t.Errorf("the block that nobody waited for is taken for the answer\n%s", p.story())
	}
	p.a.release()
	p.inSyncAgain()
}

// A block that has failed and is there all the same, because it was written or asked for again since, is no reason to call the
// Target's disk Inconsistent: no bit is left.
func TestFailedBlockIsThereAfterAll(t *testing.T) {
	p := pausedResync(t, NetOptions{}, false)
	p.b.hold = dataWrite
	p.must(p.a, PauseSync{})
	p.a.e.vols[0].resync.failed = 1
	p.releaseWrites(p.b)
	p.inSyncAgain()
}

// A block that the Source refuses is not asked for again and again: the resync ends without it, and the disk of the Target is not good.
func TestRefusedBlockEndsTheResync(t *testing.T) {
	p := pausedResync(t, NetOptions{}, false)
	p.a.hold = dataRead
	p.must(p.a, PauseSync{})
	v := p.b.e.vols[0]
	if len(v.resync.asks) == 0 {
		t.Fatalf("nothing is asked for\n%s", p.story())
	}
	p.a.conn = "away" // its packets are made here
	for range 5 {
		for _, off := range slices.Sorted(maps.Keys(v.resync.asks)) {
			refused := wire.BlockAck{Sector: wire.SectorOf(off), BlockID: wire.IDSyncer, Size: uint32(v.resync.asks[off].n)}
			p.b.e.Receive(p.now, MetaSock, framed(wire.CmdNegRSDReply, refused.Append(nil), 0))
		}
		p.now += 50 * time.Millisecond
		p.b.e.Tick(p.now)
		for p.work(p.b) {
		}
	}
	if !v.resync.fencing || len(v.resync.asks) != 0 {
		t.Fatalf("every block is refused, and %d are asked for: %v", len(v.resync.asks), v.state)
	}
	p.b.e.Receive(p.now, MetaSock, packets(int(p.b.e.conn.pings-p.b.e.conn.pongs), wire.CmdPingAck, nil))
	for p.work(p.b) {
	}
	p.want(p.b, "Secondary/Primary Connected Inconsistent/UpToDate")
	if v.bm.Count() != v.bm.Bits() {
		t.Errorf("%d of %d bits are left", v.bm.Count(), v.bm.Bits())
	}
}

// A resync ends while a block of it is on its way to the Target's disk, and the next one begins. The Source does not take the acknowledgement for good any more:
// so the Target keeps the bit, asks again, and both come to an end. What the block kept out of its range goes on.
func TestBlockComesToTheDiskInTheNextResync(t *testing.T) {
	for name, hold := range map[string]func(DiskIO) bool{
		"before it is asked for":  func(io DiskIO) bool { return dataWrite(io) || io.Op == DiskWrite && io.Len > PageSize },
		"while others are copied": dataWrite,
	} {
		t.Run(name, func(t *testing.T) {
			p := betweenResyncs(t, NetOptions{}, hold, func(p *pair) { p.must(p.a, Demote{}) })
			p.a.mute[DataSock] = true
			p.releaseWrites(p.b)
			r := &p.b.e.vols[0].resync
			left := r.inFlight
			for _, a := range r.asks {
				left -= a.n
			}
			if left != 0 || len(r.asks) == 0 {
				t.Errorf("of %d bytes in flight %d are not asked for\n%s", r.inFlight, left, p.story())
			}
			p.a.mute[DataSock] = false
			p.inSyncAgain()
			p.must(p.b, Promote{})
			p.write(p.b, 0, filled(5, 4096))
		})
	}
}

// It is the same with a write of the application, which may clear bits.
func TestWriteComesToTheDiskInTheNextResync(t *testing.T) {
	p := betweenResyncs(t, NetOptions{Protocol: ProtocolA}, dataWrite, func(p *pair) { p.write(p.a, 0, filled(5, 4096)) })
	p.releaseWrites(p.b)
	p.inSyncAgain()
}

// The own disk ends a write of the Target's application in the next resync. The peer acknowledged it in the one before, and has marked its range
// since: so the bit stays, the range is asked for, and both come to an end.
func TestOwnWriteEndsInTheNextResync(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskRead && io.Off >= 4<<20 }
	p.must(p.b, InvalidateRemote{})
	p.want(p.a, "Primary/Secondary SyncTarget Inconsistent/UpToDate")
	p.a.hold = func(io DiskIO) bool { return dataWrite(io) && io.Off == 0 }
	p.begin(p.a, 5)
	p.release(p.b)
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskRead && io.Off >= 4<<20 }
	p.must(p.b, InvalidateRemote{})
	p.want(p.a, "Primary/Secondary SyncTarget Inconsistent/UpToDate")
	if p.a.holds() == 0 {
		t.Fatalf("the write has ended before the second resync\n%s", p.story())
	}
	p.releaseWrites(p.a)
	p.release(p.b)
	p.inSyncAgain()
}

// betweenResyncs is a pair that has begun a resync for the second time, because the Source has let its disk go and has it again. Blocks of the first one are held on
// their way to the Target's disk.
func betweenResyncs(t *testing.T, net NetOptions, hold func(DiskIO) bool, first func(*pair)) *pair {
	t.Helper()
	p := pausedResync(t, net, false)
	p.b.hold = dataWrite
	p.must(p.a, PauseSync{})
	first(p)
	p.b.hold = hold
	p.must(p.a, Detach{Force: true})
	p.want(p.b, p.b.e.State(0).Role.String()+"/"+p.a.e.State(0).Role.String()+" Connected Inconsistent/Diskless")
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	if st := p.b.e.State(0); st.Conn != sm.SyncTarget || p.b.holds() == 0 {
		t.Fatalf("%v, %d blocks are held\n%s", st, p.b.holds(), p.story())
	}
	return p
}

// The Target's word that it is done may overtake the last acknowledgements, on the other socket: the Source is done when no bit is left.
func TestTargetIsDoneBeforeItsAcks(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.settle(time.Second)
	p.write(p.a, 1<<20, bytes.Repeat([]byte{1}, 64<<10))
	p.a.mute[MetaSock] = true
	p.b.e.Command(p.now, 100, Connect{})
	p.settle(300 * time.Millisecond)
	word := p.b.e.State(0)
	word.Conn, word.Disk = sm.Connected, sm.UpToDate
	p.a.e.Receive(p.now, DataSock, framed(wire.CmdState, wire.State{Word: word.Word()}.Append(nil), 0))
	p.want(p.a, "Primary/Secondary SyncSource UpToDate/Inconsistent")
	p.a.mute[MetaSock] = false
	p.settle(0)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
}

// A pause and its end are told by the order that caused them.
func TestPauseIsToldFromItsEnd(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	for _, on := range []bool{true, false} {
		p.a.events = nil
		p.must(p.a, PauseSync{On: on})
		want := map[bool]string{true: "pause-sync", false: "resume-sync"}[on]
		var causes []string
		for _, ev := range p.a.events {
			if c, ok := ev.(StateChange); ok {
				causes = append(causes, c.Cause)
			}
		}
		if !slices.Equal(causes, []string{want}) {
			t.Errorf("%s: the causes are %q", want, causes)
		}
	}
}
