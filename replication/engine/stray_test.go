package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// voids says in the superblock of a node that is down that its bitmap is void, as is done where that could not be written before the disk was let go.
func (p *pair) voids(n *node) { p.reflag(n, metadata.FullSync, 0) }

// invalidates does offline what drbdmeta invalidate does.
func (p *pair) invalidates(n *node) {
	p.reflag(n, metadata.FullSync, metadata.Consistent|metadata.WasUpToDate)
}

func (p *pair) reflag(n *node, on, off metadata.Flags) {
	p.t.Helper()
	l, err := metadata.Place(metadata.Internal, 0, int64(len(n.disk)), int64(len(n.disk)))
	if err != nil {
		p.t.Fatal(err)
	}
	sb, err := metadata.DecodeSuperblock(n.disk[l.Superblock:][:PageSize])
	if err != nil {
		p.t.Fatal(err)
	}
	sb.Flags = sb.Flags&^off | on
	sb.Encode(n.disk[l.Superblock:][:PageSize])
}

// apart brings the nodes, in sync and both Secondary, down, and has b come back with what becomes of its disk meanwhile.
func (p *pair) apart(meanwhile func()) {
	p.t.Helper()
	p.inSync()
	p.must(p.a, Demote{})
	p.must(p.b, Down{})
	meanwhile()
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
}

func (n *node) outOfSync() int64 { return n.e.Status().Volumes[0].OutOfSync }

// The bitmap of a Secondary could not be written when its disk was let go, and nothing was written since: the disks are equal, and no bit stays.
func TestVoidBitmapOfEqualData(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.apart(func() { p.voids(p.b) })
	p.inSyncAgain()
	p.newDaemon(p.b) // nor does it say so on the disk
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	if out := p.b.outOfSync(); out != 0 {
		t.Errorf("%d bytes are out of sync by the disk\n%s", out, p.story())
	}
}

// The daemon that has attached the disk ends before the nodes meet, in order or not: the next one knows as much.
func TestVoidBitmapOutlivesTheDaemon(t *testing.T) {
	for _, order := range []Command{nil, Detach{}, Down{}} {
		p := newPair(t, 8<<20, NetOptions{})
		p.apart(func() {
			p.voids(p.b)
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			if order != nil {
				p.must(p.b, order)
			}
			p.newDaemon(p.b)
		})
		p.inSyncAgain()
	}
}

// As soon as something may be marked, the bits count, also for the next daemon: the node was promoted, and has crashed.
func TestVoidBitmapCountsOnceWritten(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.apart(func() {
		p.voids(p.b)
		p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.must(p.b, Promote{Force: true})
		p.newDaemon(p.b)
		p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		if v := p.b.e.vols[0]; v.bits != bitsCount {
			t.Error("the bits are taken for those of a void bitmap")
		}
		p.must(p.b, Detach{})
	})
}

// Both disks were declared bad while the daemons did not run (drbdmeta invalidate): they are not known to be equal, and whichever is made good by force, all of it is copied.
func TestVoidBitmapsOfBadDisks(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.apart(func() {
		p.must(p.a, Down{})
		p.a.disk[2<<20] = 9
		for _, n := range []*node{p.a, p.b} {
			p.invalidates(n)
		}
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.must(p.a, Connect{})
	})
	p.want(p.a, "Secondary/Secondary Connected Inconsistent/Inconsistent")
	p.must(p.a, Promote{Force: true})
	p.inSyncAgain()
}

// If something was written since, every block is copied.
func TestVoidBitmapOfOlderData(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.apart(func() {
		p.voids(p.b)
		p.b.disk[2<<20] = 9 // a block whose bit is lost
		p.must(p.a, Promote{})
		p.write(p.a, 0, filled(1, 4096))
		p.must(p.a, Demote{})
	})
	p.inSyncAgain()
}

// Bits that are not those of a void bitmap are what somebody has found: they stay, and that is said.
func TestStrayBitsAreSaid(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.apart(func() {
		p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.b.e.mark(p.b.e.vols[0], 1<<20, 4096)
		p.must(p.b, Detach{})
	})
	if out := p.b.outOfSync(); out != 4096 || !strings.Contains(p.story(), "4 KiB are marked out of sync here") {
		t.Errorf("%d bytes are out of sync\n%s", out, p.story())
	}
	p.must(p.b, Invalidate{})
	p.inSyncAgain()
}

// The peer's disk was Inconsistent by its own word, lacks what was written since, and says that it is UpToDate without a resync: that is copied before it counts as good.
func TestPeerDiskGoodWithoutResync(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	old := p.b.e.State(0)
	old.Disk = sm.Inconsistent
	p.a.e.Receive(p.now, DataSock, packets(1, wire.CmdState, wire.State{Word: old.Word()}.Append(nil)))
	p.want(p.a, "Primary/Secondary Connected UpToDate/Inconsistent")
	p.write(p.a, 0, filled(9, 4096))
	p.must(p.b, PauseSync{On: true}) // which is a reason to say what it is
	p.must(p.b, PauseSync{})
	p.inSyncAgain()
}

// The same where the node is Secondary by then, and the connection was lost meanwhile: what was written without that disk has a name of its own.
func TestPeerDiskGoodAfterDemotion(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	old := p.b.e.State(0)
	old.Disk = sm.Inconsistent
	p.a.e.Receive(p.now, DataSock, packets(1, wire.CmdState, wire.State{Word: old.Word()}.Append(nil)))
	p.want(p.a, "Primary/Secondary Connected UpToDate/Inconsistent")
	p.write(p.a, 0, filled(9, 4096))
	p.must(p.a, Demote{})
	p.cut(p.a)
	p.inSyncAgain()
	if p.b.disk[0] != 9 {
		t.Errorf("what was written last is not on the peer's disk\n%s", p.story())
	}
}
