package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// unheard orders what the peer consents to, and n does not hear the consent: the peer
// has answered, on meta, and nothing of that arrives.
func (p *pair) unheard(n *node, c Command, peerBecomes string) {
	p.t.Helper()
	n.mute[MetaSock] = true
	n.e.Command(p.now, 100, c)
	p.settle(0)
	p.want(n.peer, peerBecomes)
	if _, ok := n.reply[100]; ok {
		p.t.Fatalf("%s has heard the answer\n%s", n.name, p.story())
	}
}

// cut ends the connection for both, with what is on its way to n.
func (p *pair) cut(n *node) {
	n.e.ConnDown(p.now, NetworkFailure, nil)
	p.settle(0)
	n.mute[MetaSock] = false
}

// noGeneration fails if a node has begun a generation against its peer's data.
func (p *pair) noGeneration(n *node) {
	p.t.Helper()
	if u := n.e.vols[0].uuids; u.Bitmap != 0 {
		p.t.Fatalf("%s has the generations %v\n%s", n.name, u, p.story())
	}
}

// inSyncAgain fails unless both are connected, equal, and nothing is marked.
func (p *pair) inSyncAgain() {
	p.t.Helper()
	p.settle(10 * time.Second)
	for _, n := range []*node{p.a, p.b} {
		if v := n.e.Status().Volumes[0]; !v.State.Redundant() || v.OutOfSync != 0 {
			p.t.Fatalf("%s is %v with %d bytes out of sync\n%s", n.name, v.State, v.OutOfSync, p.story())
		}
	}
	p.equal()
}

// A Primary that asks to detach, and never hears the answer, goes on with its disk. Its
// writes meanwhile are on both disks: they are no reason for a generation on the other node, also if it says something else meanwhile.
func TestUnheardConsentToDetach(t *testing.T) {
	for _, speaks := range []bool{false, true} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.unheard(p.a, Detach{}, "Secondary/Primary Connected UpToDate/Failed")
		if speaks {
			word := p.a.e.State(0).Word()
			p.b.e.Receive(p.now, DataSock, framed(wire.CmdState, wire.State{Word: word}.Append(nil), 0))
			p.want(p.b, "Secondary/Primary Connected UpToDate/Failed")
		}
		p.a.e.vols[0].request.quiet = false // the kernel's driver does not hold writes back
		r := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)}
		p.a.e.Submit(p.now, r)
		p.settle(0)
		if p.b.disk[0] != 1 {
			t.Fatalf("the write is not on the other disk\n%s", p.story())
		}
		p.noGeneration(p.b)
		p.cut(p.a)
		p.inSyncAgain()
	}
}

// Once the peer has said that its disk is gone, its next write begins one.
func TestGenerationOfWritesWithoutDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.noGeneration(p.b)
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	if v := p.b.e.vols[0]; v.uuids.Bitmap == 0 || p.a.e.vols[0].exposed != v.uuids.Current {
		t.Fatalf("generations %v, known there: %016X\n%s", v.uuids, p.a.e.vols[0].exposed, p.story())
	}
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// A node that asks to be overwritten, and never hears the answer, has good data: newer data, if it is Primary and goes
// on alone, or becomes Primary. No generation and no bit of the other node's may stand against that.
func TestUnheardConsentToInvalidate(t *testing.T) {
	for _, primary := range []bool{true, false} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		if !primary {
			p.must(p.a, Demote{})
			p.unheard(p.a, Invalidate{}, "Secondary/Secondary StartingSyncS UpToDate/Consistent")
			p.noGeneration(p.b)
			p.cut(p.a)
			p.inSyncAgain()
			p.must(p.a, Disconnect{})
			p.must(p.a, Promote{})
			p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
			p.must(p.a, Connect{})
			p.inSyncAgain()
			continue
		}
		p.unheard(p.a, Invalidate{}, "Secondary/Primary StartingSyncS UpToDate/Consistent")
		p.noGeneration(p.b)
		p.cut(p.a)
		p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
		p.inSyncAgain()
	}
}

// When the answer is heard, the resync begins: with a generation that the Target's is behind.
func TestHeardConsentToInvalidate(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	before := p.b.e.vols[0].uuids.Current
	p.unheard(p.a, Invalidate{}, "Secondary/Primary StartingSyncS UpToDate/Consistent")
	p.a.mute[MetaSock] = false
	p.inSyncAgain()
	a, b := p.a.e.vols[0].uuids, p.b.e.vols[0].uuids
	differ := a.Current ^ b.Current | a.History[0] ^ b.History[0] | a.History[1] ^ before | b.History[1] ^ before
	if b.Current == before || differ&^1 != 0 {
		t.Fatalf("generations %v and %v, before %016X\n%s", a, b, before, p.story())
	}
}

// A node that the Primary lets detach begins no generation when the Primary's disk fails after that: the Primary has begun
// one, and nothing has been answered since that is not on its disk. If it fails before, that disk is old.
func TestDiskFailsAfterConsentToDetach(t *testing.T) {
	for _, consented := range []bool{true, false} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		if consented {
			p.b.mute[MetaSock] = true
		} else {
			p.a.mute[DataSock] = true
		}
		p.b.e.Command(p.now, 100, Detach{})
		p.settle(0)
		p.a.fail = func(io DiskIO) Errno { return EIO }
		p.read(p.a, 0)
		p.settle(0)
		p.want(p.b, "Secondary/Primary Connected UpToDate/Diskless")
		p.unanswered(p.b, 100)
		if !consented {
			if p.b.e.vols[0].uuids.Bitmap == 0 {
				t.Fatalf("no generation\n%s", p.story())
			}
			continue
		}
		p.noGeneration(p.b)
		p.b.mute[MetaSock] = false
		p.settle(time.Second)
		p.succeeded(p.b, 100)
		p.want(p.b, "Secondary/Primary Connected Diskless/Diskless")
		p.a.fail = nil
		for _, n := range []*node{p.a, p.b} {
			p.must(n, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		}
		p.inSyncAgain()
	}
}

// A Primary that asks to detach, and hears that the peer's disk has failed before it hears the consent, keeps its disk. It
// goes on alone, and begins a generation: the other disk may come back, and be written to by others.
func TestPeerDiskFailsAfterConsentToDetach(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.unheard(p.a, Detach{}, "Secondary/Primary Connected UpToDate/Failed")
	p.b.e.readFailed(p.b.e.vols[0], EIO)
	p.settle(0)
	p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
	p.must(p.b, Disconnect{Force: true})
	p.a.wire[MetaSock], p.a.mute[MetaSock] = nil, false
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.must(p.a, Demote{})
	p.must(p.a, Disconnect{})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.b, Promote{})
	p.write(p.b, 1<<20, bytes.Repeat([]byte{2}, 4096))
	p.must(p.a, Connect{})
	p.must(p.b, Connect{})
	p.settle(10 * time.Second)
	if a, b := p.a.e.vols[0].state.Conn, p.b.e.vols[0].state.Conn; a != sm.StandAlone || b != sm.StandAlone || p.a.disk[0] != 1 {
		t.Fatalf("a is %v, b is %v, a has %d\n%s", a, b, p.a.disk[0], p.story())
	}
}

// A node that asked to be overwritten, and that the peer has asked to disconnect, may have left, and forgotten what it had asked for,
// although it still answers pings. If it refuses to disconnect, because it has no good disk any more, the resync begins.
func TestConsentBesideDisconnect(t *testing.T) {
	for _, heard := range []bool{false, true} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.unheard(p.a, Invalidate{}, "Secondary/Primary StartingSyncS UpToDate/Consistent")
		p.a.mute[DataSock] = true
		p.b.e.Command(p.now, 100, Disconnect{})
		p.settle(0)
		if heard {
			p.a.mute[MetaSock] = false
			p.settle(0)
		} else {
			p.b.e.pingAck()
			p.settle(0)
		}
		p.noGeneration(p.b)
		p.a.mute[DataSock] = false
		p.settle(0)
		if p.a.mute[MetaSock] = false; !heard {
			p.settle(time.Second)
			p.succeeded(p.b, 100)
			p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
			p.must(p.b, Connect{})
		}
		p.inSyncAgain()
	}
}

// A disk that was to be overwritten by order is given up before it says so. It says so when the kernel gives it back, and is overwritten then: the order was
// answered.
func TestDiskHangsWhileItIsInvalidated(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.write(p.a, 0, filled(7, 4096))
	p.must(p.a, Demote{})
	clear(p.b.disk[:4096])
	p.b.hold = func(io DiskIO) bool { return io.Op != DiskRead }
	p.b.e.writeSuper(p.b.e.vols[0], noPages, nil)
	p.settle(0)
	p.a.e.Command(p.now, 100, InvalidateRemote{})
	p.settle(0)
	p.want(p.b, "Secondary/Secondary StartingSyncT Inconsistent/UpToDate")
	p.must(p.b, Detach{Force: true})
	p.comesBack(p.b, OK)
	p.want(p.b, "Secondary/Secondary Connected Diskless/UpToDate")
	p.succeeded(p.a, 100)
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}
