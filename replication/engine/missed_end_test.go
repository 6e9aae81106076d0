package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// missedEnd has a resync from a end on b, and a never hears of it: the link breaks. b has the data of a until then.
func missedEnd(t *testing.T, primary bool) *pair {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{})
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	if !primary {
		p.must(p.a, Demote{})
	}
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	p.must(p.b, Connect{})
	p.settle(2 * time.Second)
	if c := p.a.e.State(0).Conn; c != sm.SyncSource {
		t.Fatalf("a is %v\n%s", p.a.e.State(0), p.story())
	}
	p.a.mute[DataSock] = true
	p.releaseWrites(p.b)
	p.settle(time.Second)
	if st := p.b.e.State(0); st.Conn != sm.Connected || st.Disk != sm.UpToDate {
		t.Fatalf("b is %v\n%s", st, p.story())
	}
	p.part()
	return p
}

// part breaks the link. The nodes do not find each other until meet.
func (p *pair) part() {
	for _, n := range []*node{p.a, p.b} {
		n.conn, n.wire, n.mute = "dead", [2][]byte{}, [2]bool{}
		n.e.ConnDown(p.now, NetworkFailure, nil)
		for p.work(n) {
		}
		n.conn = "away"
	}
}

func (p *pair) meet() {
	p.a.conn, p.b.conn = "open", "open"
	p.settle(5 * time.Second)
}

// used has a node, if it is not Primary, promoted alone, written to, and demoted.
func (p *pair) used(n *node, off int64, with byte) {
	p.t.Helper()
	p.must(n, Promote{})
	p.write(n, off, bytes.Repeat([]byte{with}, 4096))
	p.must(n, Demote{})
}

// The source of a resync misses its end and is used, and the target is used, too: both stop, and nothing is overwritten, whether the
// source was Primary then or is promoted later, by the same daemon or by another.
func TestMissedEndAndBothUsed(t *testing.T) {
	for name, c := range map[string]struct{ primary, restart bool }{
		"the source is Primary":                 {primary: true},
		"it is promoted later":                  {},
		"it has crashed":                        {primary: true, restart: true},
		"it has crashed, and is promoted later": {restart: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := missedEnd(t, c.primary)
			if c.restart {
				p.newDaemon(p.a)
				p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
				p.must(p.a, Connect{})
				p.a.conn = "away"
			}
			p.used(p.a, 1<<20, 2)
			p.used(p.b, 2<<20, 3)
			p.meet()
			for _, n := range []*node{p.a, p.b} {
				if st := n.e.State(0); st.Conn != sm.StandAlone {
					t.Errorf("%s is %v\n%s", n.name, st, p.story())
				}
			}
			if !strings.Contains(p.story(), "split brain") || p.a.disk[1<<20] != 2 || p.b.disk[2<<20] != 3 || p.a.disk[2<<20] != 0 || p.b.disk[1<<20] != 0 {
				t.Fatalf("something was overwritten\n%s", p.story())
			}
			p.must(p.a, Connect{})
			p.must(p.b, Connect{DiscardMyData: true})
			p.inSyncAgain()
			if p.b.disk[1<<20] != 2 || p.b.disk[2<<20] != 0 {
				t.Errorf("b has %d and %d", p.b.disk[1<<20], p.b.disk[2<<20])
			}
		})
	}
}

// If only one of them was used, it is the newer one: by the bits that are set, and not by copying everything.
func TestMissedEndAndOneUsed(t *testing.T) {
	for name, c := range map[string]struct {
		primary bool
		use     func(p *pair)
	}{
		"the source, Primary": {true, func(p *pair) { p.write(p.a, 1<<20, bytes.Repeat([]byte{2}, 4096)) }},
		"the source, Primary again": {true, func(p *pair) {
			p.write(p.a, 0, bytes.Repeat([]byte{2}, 4096))
			p.must(p.a, Demote{})
			p.used(p.a, 1<<20, 2)
		}},
		"the source, later":         {false, func(p *pair) { p.used(p.a, 1<<20, 2); p.used(p.a, 1<<20, 2) }},
		"the target":                {false, func(p *pair) { p.used(p.b, 1<<20, 2); p.used(p.b, 1<<20, 2) }},
		"neither":                   {false, func(*pair) {}},
		"neither, beside a Primary": {true, func(*pair) {}},
	} {
		t.Run(name, func(t *testing.T) {
			p := missedEnd(t, c.primary)
			c.use(p)
			p.a.events, p.b.events = nil, nil
			p.meet()
			p.inSyncAgain()
			for _, n := range []*node{p.a, p.b} {
				for _, ev := range n.events {
					if c, ok := ev.(StateChange); ok && strings.Contains(c.Cause, "full resync") {
						t.Errorf("%s: %+v", n.name, c)
					}
				}
			}
			if u := p.a.e.vols[0].uuids; u.Bitmap != 0 {
				t.Errorf("generations %v", u)
			}
		})
	}
}

// A resync that is cut before its target is known to have heard of it begins no generation: the target cannot be done, and what it had may be
// an old generation that the history has to keep.
func TestResyncCutAtItsBeginning(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{})
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	before := p.a.e.vols[0].uuids.Current
	p.b.hold = func(io DiskIO) bool { return io.Meta && io.Op == DiskWrite }
	p.must(p.b, Connect{})
	for range 50 {
		if p.a.e.State(0).Conn == sm.SyncSource {
			break
		}
		held := p.b.held
		p.b.held = nil
		for _, io := range held {
			copy(p.b.disk[io.Off:], io.Data[:io.Len])
			p.b.e.DiskDone(p.now, io.Token, OK)
		}
		p.settle(10 * time.Millisecond)
	}
	if c := p.a.e.State(0).Conn; c != sm.SyncSource {
		t.Fatalf("a is %v\n%s", p.a.e.State(0), p.story())
	}
	p.part()
	if u := p.a.e.vols[0].uuids; u.Current != before {
		t.Fatalf("generations %v, before %016X\n%s", u, before, p.story())
	}
}

// The source of a resync misses its end, and meets the target again without that one's disk. What is written then, by whichever of them is
// Primary, is on the source's disk alone. The target's disk comes back alone and is used, too: both stop when they meet, and nothing is overwritten.
func TestMissedEndBesideAPeerWithoutADisk(t *testing.T) {
	for name, c := range map[string]struct {
		target  bool // it is the target that is promoted
		inOrder bool // they part by a disconnect
	}{
		"the source is promoted":            {},
		"the source is promoted and leaves": {inOrder: true},
		"the target is promoted":            {target: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := missedEnd(t, false)
			p.must(p.b, Detach{})
			p.meet()
			n := p.a
			if c.target {
				n = p.b
			}
			p.must(n, Promote{})
			p.write(n, 1<<20, filled(2, 4096))
			p.settle(time.Second)
			if c.inOrder {
				p.must(n, Disconnect{})
				p.a.conn, p.b.conn = "away", "away"
			} else {
				p.part()
			}
			p.must(n, Demote{})
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.used(p.b, 2<<20, 3)
			if p.a.e.State(0).Conn == sm.StandAlone {
				p.must(p.a, Connect{})
			}
			p.meet()
			if p.a.disk[1<<20] != 2 || p.b.disk[2<<20] != 3 {
				t.Fatalf("what was answered is overwritten\n%s", p.story())
			}
			if !strings.Contains(p.story(), "split brain") {
				t.Errorf("nobody finds the split brain\n%s", p.story())
			}
		})
	}
}

// A generation that begins between the handshake that shows a missed end and the resync that makes up for it is an ordinary one: it counts against what both have, and
// what was counted against before is history.
func TestGenerationAfterAMissedEnd(t *testing.T) {
	p := missedEnd(t, false)
	p.b.mute[DataSock] = true // it sends no bitmap
	p.a.conn, p.b.conn = "open", "open"
	p.settle(300 * time.Millisecond)
	p.want(p.a, "Secondary/Secondary WFBitMapS UpToDate/Consistent")
	p.part()
	before := p.a.e.vols[0].uuids
	p.must(p.a, Promote{})
	if u := p.a.e.vols[0].uuids; before.Bitmap == 0 || u.Current == before.Current || (u.Bitmap^before.Current)&^sm.RoleBit != 0 || u.History[0] != before.Bitmap {
		t.Fatalf("it was %v, and is %v\n%s", before, u, p.story())
	}
	p.meet()
	p.inSyncAgain()
}

// unsigned is a set without the bits that say who was Primary.
func unsigned(u sm.UUIDs) sm.UUIDs {
	return sm.UUIDs{Current: u.Current &^ 1, Bitmap: u.Bitmap &^ 1, History: [2]uint64{u.History[0] &^ 1, u.History[1] &^ 1}}
}

// Both nodes end a resync with the same identifiers, and know that of each other: also where the first try was lost, with its sync UUID.
func TestResyncEndsWithOneGeneration(t *testing.T) {
	for name, again := range map[string]bool{"at once": false, "its beginning was lost": true} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.must(p.b, Disconnect{})
			p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
			if again {
				p.a.hold = func(io DiskIO) bool { return p.a.isSuper(io) && p.a.e.State(0).Conn == sm.SyncSource }
			}
			p.must(p.b, Connect{})
			if again {
				p.settle(time.Second)
				p.want(p.a, "Primary/Secondary SyncSource UpToDate/Inconsistent")
				p.b.mute[DataSock] = true // the sync UUID
				p.comesBack(p.a, OK)
				p.b.wire[DataSock] = nil
				p.part()
				if p.b.e.vols[0].uuids.Current&^1 != p.a.e.vols[0].uuids.History[0]&^1 {
					t.Fatalf("the sync UUID has come to b\n%s", p.story())
				}
				p.meet()
			}
			p.inSyncAgain()
			a, b := p.a.e.vols[0], p.b.e.vols[0]
			for what, u := range map[string]sm.UUIDs{"b has": b.uuids, "b believes that a has": b.peerUUIDs.UUIDs, "a believes that b has": a.peerUUIDs.UUIDs} {
				if unsigned(u) != unsigned(a.uuids) {
					t.Errorf("a has %v, %s %v\n%s", a.uuids, what, u, p.story())
				}
			}
		})
	}
}
