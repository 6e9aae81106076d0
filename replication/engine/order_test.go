package engine

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// An order for a volume that does not exist is refused, and touches no other.
func TestOrderUnknownVolume(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	for _, c := range []Command{
		Attach{Vol: 7}, Detach{Vol: 7}, Detach{Vol: 7, Force: true}, Invalidate{Vol: 7}, InvalidateRemote{Vol: 7},
		PauseSync{Vol: 7, On: true}, NewCurrentUUID{Vol: 7},
	} {
		if err := p.do(p.a, c); err == nil {
			t.Errorf("%T of a volume that does not exist was carried out", c)
		}
	}
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
}

// A write that both disks have takes its bits off before the next write of the range
// begins: that one may be on this disk only.
func TestWriteAfterSyncedWrite(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{MaxEpochSize: 1})
	p.up()
	p.must(p.a, PauseSync{On: true})
	p.must(p.a, Promote{Force: true})
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary PausedSyncS UpToDate/Inconsistent user_isp")
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	first := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)}
	second := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{2}, 4096)}
	p.a.e.Submit(p.now, first)
	p.settle(time.Second)
	if known, _ := p.b.e.Marked(0, 0, 4096); known {
		t.Fatalf("the peer has not taken the write for synced\n%s", p.story())
	}
	p.hangup(p.a)
	p.a.e.Submit(p.now, second)
	p.settle(0)
	p.releaseWrites(p.a)
	if !p.a.done[second] || second.Err != OK {
		t.Fatalf("the write is not done\n%s", p.story())
	}
	if marked, _ := p.a.e.Marked(0, 0, 4096); !marked {
		t.Errorf("the peer lacks the write, and nothing is marked\n%s", p.story())
	}
}

// With protocols A and B a write whose own disk fails waits until the peer has it on
// disk: that it has received it is a promise only beside a copy here.
func TestReceivedIsNoCopy(t *testing.T) {
	for _, want := range []Errno{OK, EIO} {
		p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
		p.inSync()
		p.b.mute[DataSock] = true
		p.a.fail = func(io DiskIO) Errno {
			if io.Op == DiskWrite && !io.Meta {
				return EIO
			}
			return OK
		}
		if want != OK {
			p.b.fail = p.a.fail
		}
		r := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)}
		p.a.e.Submit(p.now, r)
		p.settle(time.Second)
		if p.a.done[r] {
			t.Fatalf("answered with errno %d, and it is nowhere\n%s", r.Err, p.story())
		}
		p.b.mute[DataSock] = false
		p.settle(time.Second)
		if !p.a.done[r] || r.Err != want {
			t.Errorf("done %v, errno %d, want %d\n%s", p.a.done[r], r.Err, want, p.story())
		}
	}
}

// A write that the peer's disk refused is marked once. Its epoch may end after a new disk
// there has got the block: a bit that is set then would never go.
func TestRefusedWriteIsMarkedOnce(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.b.fail = func(io DiskIO) Errno {
		if io.Op == DiskWrite && !io.Meta {
			return EIO
		}
		return OK
	}
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.b.fail = nil
	p.must(p.b, Attach{BackingSize: size, MetaSize: size})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
	if out := p.a.e.Status().Volumes[0].OutOfSync; out != 0 {
		t.Errorf("%d bytes are marked", out)
	}
}

// A write that only a disk has which is still being resynced has failed: when the good
// disk comes back, the resync overwrites it.
func TestWriteToTargetAlone(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.up()
	p.must(p.a, PauseSync{On: true})
	p.must(p.a, Promote{Force: true})
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary PausedSyncS UpToDate/Inconsistent user_isp")
	p.a.fail = func(io DiskIO) Errno {
		if io.Op == DiskWrite && !io.Meta {
			return EIO
		}
		return OK
	}
	r := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)}
	p.a.e.Submit(p.now, r)
	p.settle(time.Second)
	if !p.a.done[r] || r.Err != EIO {
		t.Errorf("done %v, errno %d\n%s", p.a.done[r], r.Err, p.story())
	}
}

// A write that both disks had before they agreed on a bitmap is confirmed after it: its
// bits stay until the resync has been there, on both nodes.
func TestSyncedWriteBeforeBitmap(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.up()
	p.must(p.b, PauseSync{On: true})
	p.must(p.a, Promote{Force: true})
	p.settle(time.Second)
	p.must(p.a, Demote{})
	p.must(p.b, Promote{})
	p.settle(time.Second)
	p.want(p.b, "Primary/Secondary PausedSyncT Inconsistent/UpToDate user_isp")
	p.write(p.b, 0, bytes.Repeat([]byte{1}, 4096))
	p.b.e.Command(p.now, 98, Detach{})
	p.settle(0)
	p.b.e.Command(p.now, 99, Attach{BackingSize: size, MetaSize: size})
	p.settle(time.Second)
	p.succeeded(p.b, 99)
	p.must(p.b, PauseSync{})
	p.settle(5 * time.Second)
	p.want(p.b, "Primary/Secondary Connected UpToDate/UpToDate")
	p.want(p.a, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
}

// A node that is leaving takes no more writes: of a peer without a disk it would have to
// remember them.
func TestWriteToLeavingNode(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.write(p.a, 1<<20, bytes.Repeat([]byte{1}, 4096))
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && io.Meta }
	p.b.e.Command(p.now, 100, Disconnect{Force: true})
	p.settle(0)
	p.want(p.b, "Secondary/Unknown Disconnecting UpToDate/DUnknown")
	r := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{2}, 4096)}
	p.a.e.Submit(p.now, r)
	p.settle(0)
	if marked, _ := p.b.e.Marked(0, 0, 4096); p.b.disk[0] == 2 && !marked {
		t.Errorf("written, and not remembered\n%s", p.story())
	}
	p.releaseWrites(p.b)
	p.settle(5 * time.Second)
	p.succeeded(p.b, 100)
	if !p.a.done[r] || r.Err != EIO {
		t.Errorf("done %v, errno %d", p.a.done[r], r.Err)
	}
}

// Protocols A and B: the own disk is lost under a write, and the peer's has refused it. That the peer confirms the epoch then does not say that the write is
// anywhere.
func TestWriteThatBothDisksRefuse(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolA, ProtocolB} {
		p := newPair(t, 8<<20, NetOptions{Protocol: protocol})
		p.inSync()
		p.settle(time.Second)
		for _, n := range []*node{p.a, p.b} {
			n.fail = func(io DiskIO) Errno {
				if dataWrite(io) {
					return EIO
				}
				return OK
			}
		}
		p.a.mute[DataSock] = true // the state of the peer's disk comes last
		r := p.give(p.a, &Request{Op: OpWrite, Len: 4096, Data: filled(1, 4096)})
		p.settle(5 * time.Second)
		p.ends(p.a, r, EIO)
	}
}

// A write was answered because it was on the own disk, too, which fails at a read after it: the peer is to have done the write before it reads. A
// barrier between the two says so to those that do not order what they read by its place.
func TestReadAtThePeerAfterAWrite(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
	p.inSync()
	p.settle(time.Second)
	p.b.mute[DataSock] = true
	p.ends(p.a, p.begin(p.a, 1), OK)
	p.a.fail = failsReads
	p.a.e.Submit(p.now, &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)})
	p.settle(0)
	var sent []wire.Cmd
	for b := p.b.wire[DataSock]; len(b) > 0; {
		h, err := wire.DecodeHeader100(b)
		if err != nil {
			t.Fatal(err)
		}
		if b = b[wire.HeaderLen100+int(h.Length):]; h.Cmd == wire.CmdData || h.Cmd == wire.CmdBarrier || h.Cmd == wire.CmdDataRequest {
			sent = append(sent, h.Cmd)
		}
	}
	if !slices.Equal(sent, []wire.Cmd{wire.CmdData, wire.CmdBarrier, wire.CmdDataRequest}) {
		t.Errorf("sent: %v\n%s", sent, p.story())
	}
}

// A Primary whose write the peer's disk has refused, and that has not heard yet what that disk has become, on the other socket, is demoted and goes down only
// after it has: otherwise both disks have one generation, one lacks the write, and nothing is copied.
func TestDemotionWaitsForTheWordOfTheLostDisk(t *testing.T) {
	for _, order := range []Command{Demote{}, Down{}} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.a.mute[DataSock] = true
		p.must(p.b, Detach{Force: true})
		p.write(p.a, 0, filled(7, 4096))
		p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
		p.a.e.Command(p.now, 100, order)
		p.settle(time.Second)
		p.unanswered(p.a, 100)
		p.a.mute[DataSock] = false
		p.settle(time.Second)
		p.succeeded(p.a, 100)
		for _, n := range []*node{p.a, p.b} {
			if n.e.State(0).Conn == sm.StandAlone {
				p.must(n, Connect{})
			}
			if n.e.State(0).Disk == sm.Diskless {
				p.must(n, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			}
		}
		p.inSyncAgain()
	}
}

// A peer that refuses a write, and does not say what its disk has become, owes an answer.
func TestRefusalWithoutAWordOfTheDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.mute[DataSock] = true
	p.must(p.b, Detach{Force: true})
	p.write(p.a, 0, filled(7, 4096))
	p.a.e.Command(p.now, 100, Demote{})
	p.settle(2 * time.Minute)
	p.succeeded(p.a, 100)
	if p.a.e.vols[0].uuids.Bitmap == 0 {
		t.Errorf("no generation\n%s", p.story())
	}
}
