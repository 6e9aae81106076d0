package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// takeover has the link between the nodes lost, b promoted alone, written to and demoted, and lets the nodes meet again. The Primary
// a has stayed, without its disk or with a bad one.
func (p *pair) takeover() {
	p.t.Helper()
	p.a.conn, p.b.conn = "dead", "dead"
	for _, n := range []*node{p.a, p.b} {
		n.wire, n.mute = [2][]byte{}, [2]bool{}
		n.e.ConnDown(p.now, NetworkFailure, nil)
	}
	for p.work(p.a) {
	}
	for p.work(p.b) {
	}
	p.a.conn = "away" // it does not find the peer
	p.must(p.b, Promote{})
	p.write(p.b, 1<<20, bytes.Repeat([]byte{9}, 4096))
	p.must(p.b, Demote{})
	p.a.conn = "open"
	p.settle(5 * time.Second)
}

// refusedOthersData wants a out of the connection: its users do not go on with what others have written.
func (p *pair) refusedOthersData() {
	p.t.Helper()
	st := p.a.e.State(0)
	if st.Conn != sm.StandAlone || st.Role != sm.Primary {
		p.t.Fatalf("a is %v\n%s", st, p.story())
	}
	if r := p.read(p.a, 1<<20); !p.a.done[r] || r.Err != EIO {
		p.t.Errorf("read: done %v, errno %d, data %d", p.a.done[r], r.Err, r.Data[0])
	}
}

// followsAfterwards has the applications of a end: then it follows the peer, and the bits that were counted are enough.
func (p *pair) followsAfterwards() {
	p.t.Helper()
	p.must(p.a, Demote{})
	p.must(p.a, PauseSync{})
	if p.a.e.State(0).Disk == sm.Diskless {
		p.must(p.a, Attach{BackingSize: int64(len(p.a.disk)), MetaSize: int64(len(p.a.disk))})
	}
	p.a.events, p.b.events = nil, nil
	p.must(p.a, Connect{})
	p.inSyncAgain()
	for _, ev := range p.a.events {
		if c, ok := ev.(StateChange); ok && strings.Contains(c.Cause, "full resync") {
			p.t.Errorf("%+v", c)
		}
	}
}

// A Primary without a good disk works on the peer's, which counts for it already. While they do not see each other the peer is promoted, and
// others write there. That begins a generation, although the peer counts: the users of the first Primary are not given the data of others.
func TestDiskThatServesIsPromotedAlone(t *testing.T) {
	for name, lose := range map[string]func(p *pair){
		"detached": func(p *pair) { p.must(p.a, Detach{}) },
		"failed":   func(p *pair) { p.a.fail = func(DiskIO) Errno { return EIO }; p.read(p.a, 0); p.a.fail = nil },
		"being resynced": func(p *pair) {
			p.must(p.a, PauseSync{On: true})
			p.must(p.a, Invalidate{})
		},
		"failed while being resynced": func(p *pair) {
			p.must(p.a, PauseSync{On: true})
			p.must(p.a, Invalidate{})
			p.settle(time.Second)
			p.must(p.a, Detach{})
		},
		"promoted without one": func(p *pair) {
			p.must(p.a, Demote{})
			p.must(p.a, Detach{})
			p.must(p.b, Promote{})
			p.write(p.b, 0, bytes.Repeat([]byte{3}, 4096))
			p.must(p.b, Demote{})
			p.must(p.a, Promote{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			lose(p)
			p.settle(time.Second)
			if name != "promoted without one" {
				p.write(p.a, 0, bytes.Repeat([]byte{2}, 4096))
			}
			if p.b.e.vols[0].uuids.Bitmap == 0 {
				t.Fatalf("the peer does not count\n%s", p.story())
			}
			p.takeover()
			p.refusedOthersData()
			p.followsAfterwards()
		})
	}
}

// A link that fails, and nothing else, is no reason to refuse what was worked on.
func TestDiskThatServesComesBack(t *testing.T) {
	for name, lose := range map[string]func(p *pair){
		"detached": func(p *pair) { p.must(p.a, Detach{}) },
		"being resynced": func(p *pair) {
			p.must(p.a, PauseSync{On: true})
			p.must(p.a, Invalidate{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			lose(p)
			p.settle(time.Second)
			p.write(p.a, 0, bytes.Repeat([]byte{2}, 4096))
			for range 3 {
				p.a.e.ConnDown(p.now, NetworkFailure, nil)
				p.settle(5 * time.Second)
				if st := p.a.e.State(0); !st.ReadsRemotely() {
					t.Fatalf("a is %v\n%s", st, p.story())
				}
				if r := p.read(p.a, 0); r.Err != OK || r.Data[0] != 2 {
					t.Fatalf("read: errno %d, data %d\n%s", r.Err, r.Data[0], p.story())
				}
			}
		})
	}
}

// A Primary that loses its disk and its connection at once knows what it worked on: not what others have written to the peer's disk since.
func TestDiskAndConnectionLostAtOnce(t *testing.T) {
	for _, taken := range []bool{true, false} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.write(p.a, 0, bytes.Repeat([]byte{2}, 4096))
		p.b.mute = [2]bool{true, true}
		p.a.fail = func(DiskIO) Errno { return EIO }
		p.a.e.Submit(p.now, &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)})
		for p.work(p.a) {
		}
		p.a.fail = nil
		if d := p.a.e.State(0).Disk; d.Usable() {
			t.Fatalf("the disk is %v", d)
		}
		if taken {
			p.takeover()
			p.refusedOthersData()
			p.followsAfterwards()
			continue
		}
		p.b.wire, p.b.mute = [2][]byte{}, [2]bool{}
		p.a.e.ConnDown(p.now, NetworkFailure, nil)
		p.settle(5 * time.Second)
		p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
		if r := p.read(p.a, 0); r.Err != OK || r.Data[0] != 2 {
			t.Fatalf("read: errno %d, data %d\n%s", r.Err, r.Data[0], p.story())
		}
	}
}

// A disk that is on its way out of use is not marked for what goes to the peer's alone: the peer counts that. If it never gets
// there, both disks are the same, and a mark would stay.
func TestLeavingDiskIsNotMarked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.up()
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.must(p.a, Disconnect{Force: true})
	p.a.hold = func(io DiskIO) bool { return io.Meta }
	p.a.e.writeSuper(p.a.e.vols[0], noPages, nil) // what the promotion writes waits for it
	p.a.e.Command(p.now, 100, Promote{})
	p.settle(0)
	p.a.hold = nil
	p.must(p.a, Detach{Force: true}) // the disk hangs
	p.must(p.a, Connect{})
	p.settle(10 * time.Second)
	p.want(p.a, "Primary/Secondary Connected Failed/UpToDate")
	p.cutWrite()
	p.b.mute = [2]bool{}
	for _, io := range p.a.held {
		p.a.e.DiskDone(p.now, io.Token, EIO)
	}
	p.settle(10 * time.Second)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// A disk is attached below a Primary that has written to the peer's meanwhile, and the link breaks before they are compared. It is not known here that
// the peer has begun a generation for that, and the disk says UpToDate again: its users are not given what they had before.
func TestDiskThatWasNotComparedIsOld(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.a.mute[DataSock] = true
	p.write(p.a, 0, filled(2, 4096))
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.want(p.a, "Primary/Secondary Connected Negotiating/UpToDate")
	p.part()
	p.want(p.a, "Primary/Unknown WFConnection Outdated/DUnknown")
	if r := p.read(p.a, 0); r.Err != EIO {
		t.Errorf("read: errno %d, data %d\n%s", r.Err, r.Data[0], p.story())
	}
	p.meet()
	p.refusedOthersData()
	p.followsAfterwards()
	if p.a.disk[0] != 2 {
		t.Errorf("what was answered is not on the disk\n%s", p.story())
	}
}
