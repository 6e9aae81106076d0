package engine

import (
	"bytes"
	"testing"

	sm "github.com/urbd/urbd/statemachine"
	"time"
)

// missedEnd has b finish a resync whose end a, its Source and Primary, does not hear of, and a go on alone.
func (p *pair) missedEnd() {
	p.t.Helper()
	p.inSync()
	p.must(p.b, Disconnect{})
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	p.must(p.b, Connect{})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary SyncTarget Inconsistent/UpToDate")
	p.a.mute[DataSock] = true
	p.releaseWrites(p.b)
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.want(p.a, "Primary/Secondary SyncSource UpToDate/Inconsistent")
	p.must(p.b, Disconnect{Force: true})
	p.a.mute[DataSock] = false
	p.write(p.a, 1<<20, bytes.Repeat([]byte{2}, 4096))
}

// A Source that missed the end of a resync learns of it from the peer's generations. If the connection breaks again before
// the bitmaps are exchanged, it still has blocks that the peer lacks, and the next handshake has to see that: also
// when the Source's daemon has been restarted, also when it has gone on writing.
func TestMissedEndOfResync(t *testing.T) {
	for _, tc := range []struct {
		name    string
		primary bool
		between func(p *pair)
	}{
		{"Secondary", false, func(*pair) {}},
		{"Secondary, restarted", false, func(p *pair) {
			p.restart(p.a)
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.must(p.a, Connect{})
		}},
		{"Secondary, promoted alone", false, func(p *pair) { p.must(p.a, Promote{}); p.generationOfItsOwn(p.a) }},
		{"Primary", true, func(p *pair) { p.generationOfItsOwn(p.a) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.missedEnd()
			if !tc.primary {
				p.must(p.a, Demote{})
			}
			p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && io.Meta }
			p.must(p.b, Connect{})
			p.settle(time.Second)
			if a, b := p.a.e.vols[0].state, p.b.e.vols[0].state; !a.Conn.BitmapExchange() || !b.Conn.BitmapExchange() {
				t.Fatalf("a is %v, b is %v\n%s", a, b, p.story())
			}
			p.a.e.ConnDown(p.now, NetworkFailure, nil)
			p.b.e.Command(p.now, 100, Disconnect{Force: true})
			p.releaseWrites(p.b)
			p.settle(time.Second)
			p.want(p.b, "Secondary/Unknown StandAlone Outdated/DUnknown")
			tc.between(p)
			p.must(p.b, Connect{})
			p.inSyncAgain()
		})
	}
}

// generationOfItsOwn fails unless a node has begun a generation against the peer's.
func (p *pair) generationOfItsOwn(n *node) {
	p.t.Helper()
	if u, peer := n.e.vols[0].uuids, n.peer.e.vols[0].uuids; (u.Bitmap^peer.Current)&^1 != 0 {
		p.t.Fatalf("%s has the generations %v, the peer %v\n%s", n.name, u, peer, p.story())
	}
}

// Who has declared two disks equal knows what the peer's is called from then on, as the peer does: later decisions go by it.
func TestDeclaredEqualIsKnown(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	for _, n := range []*node{p.a, p.b} {
		if v := n.e.vols[0]; (v.peerUUIDs.Current^v.uuids.Current)&^sm.RoleBit != 0 || v.peerUUIDs.Bitmap != 0 || !v.peerIsCurrent() {
			t.Errorf("%s has %v, and believes that the peer has %v", n.name, v.uuids, v.peerUUIDs)
		}
	}
}

// The parameters of a node wait for its superblock, and the peer's have come: it decides that its own data is discarded, as it was ordered to. The peer has to
// hear of that order, too.
func TestDiscardIsSaidLate(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.part()
	p.must(p.a, Demote{})
	p.used(p.a, 0, 1)
	p.used(p.b, 0, 2)
	p.meet()
	p.want(p.a, "Secondary/Unknown StandAlone UpToDate/DUnknown")
	p.want(p.b, "Secondary/Unknown StandAlone UpToDate/DUnknown")
	p.must(p.a, Connect{DiscardMyData: true})
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskWrite && io.Meta }
	p.a.e.writeSuper(p.a.e.vols[0], noPages, nil)
	p.must(p.b, Connect{})
	p.want(p.a, "Secondary/Secondary WFBitMapT Outdated/UpToDate")
	p.releaseWrites(p.a)
	p.inSyncAgain()
	if p.a.e.conn.discardMyData {
		t.Error("what comes later is discarded, too")
	}
	if p.a.disk[0] != 2 {
		t.Errorf("a has %d\n%s", p.a.disk[0], p.story())
	}
}
