package engine

import (
	"strings"
	"testing"
	"time"
)

// attachBlocks attaches the disk of a node as one with logical blocks of a size, with what was remembered of it, as its owner does.
func (p *pair) attachBlocks(n *node, block int64) error {
	cmd := Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk)), BlockSize: block}
	if r := n.remembered(); r != nil {
		cmd.DataBlock, cmd.DataBlockOf = r.Size, r.DeviceUUID
	}
	return p.do(n, cmd)
}

// remembered is the last RememberBlockSize of a node, nil if there was none.
func (n *node) remembered() (last *RememberBlockSize) {
	for _, ev := range n.events {
		if r, ok := ev.(RememberBlockSize); ok {
			last = &r
		}
	}
	return last
}

// blockPair is a pair with logical blocks of its own on each node. The disks have different device UUIDs.
func blockPair(t *testing.T, a, b int64) *pair {
	t.Helper()
	p := newPair(t, 8<<20, NetOptions{})
	p.blocks(p.a, a)
	p.blocks(p.b, b)
	return p
}

func (p *pair) blocks(n *node, block int64) {
	p.t.Helper()
	if err := p.attachBlocks(n, block); err != nil {
		p.t.Fatalf("%s: attach: %v\n%s", n.name, err, p.story())
	}
}

func (p *pair) connect() {
	p.t.Helper()
	for _, n := range []*node{p.a, p.b} {
		if n.e.State(0).Conn.String() == "StandAlone" {
			p.must(n, Connect{})
		}
	}
	p.settle(5 * time.Second)
}

func (p *pair) wantBlocks(n *node, size int64) {
	p.t.Helper()
	if got := n.e.Status().Volumes[0].BlockSize; got != size {
		p.t.Fatalf("%s: logical blocks of %d bytes, want %d\n%s", n.name, got, size, p.story())
	}
}

// refuses wants both nodes StandAlone, each with a reason in its status that names the sizes.
func (p *pair) refuses(words string) {
	p.t.Helper()
	for _, n := range []*node{p.a, p.b} {
		st := n.e.Status()
		if st.Conn.String() != "StandAlone" || !strings.Contains(st.Refused, "logical blocks of 4096") || !strings.Contains(st.Refused, words) {
			p.t.Fatalf("%s: %v, refused: %q\n%s", n.name, st.Conn, st.Refused, p.story())
		}
	}
}

// A disk with larger blocks joins data for the first time, in either role of the data's node, and whoever calls.
func TestLargerBlocksJoinData(t *testing.T) {
	for _, role := range []string{"Primary", "Secondary"} {
		t.Run("beside a "+role, func(t *testing.T) {
			p := blockPair(t, 512, 4096)
			p.must(p.a, Promote{Force: true})
			if role == "Secondary" {
				p.must(p.a, Demote{})
			}
			p.connect()
			p.refuses("units of 512")
			p.want(p.a, role+"/Unknown StandAlone UpToDate/DUnknown")
			if role == "Primary" {
				p.must(p.a, Demote{})
			}
			p.must(p.a, Promote{})
			p.wantBlocks(p.a, 512) // the data can still be used
			p.write(p.a, 512, make([]byte, 512))
		})
	}
	t.Run("attached while connected", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.blocks(p.a, 512)
		p.must(p.a, Promote{Force: true})
		p.connect()
		if err := p.attachBlocks(p.b, 4096); err == nil || !strings.Contains(err.Error(), "logical blocks of 4096") {
			t.Fatalf("attach: %v\n%s", err, p.story())
		}
		p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
		p.wantBlocks(p.a, 512)
	})
	t.Run("a replaced disk", func(t *testing.T) {
		p := blockPair(t, 512, 512)
		p.connect()
		p.must(p.a, Promote{Force: true})
		p.settle(5 * time.Second)
		p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
		p.must(p.b, Down{})
		p.newDisk(p.b, 8<<20)
		p.b.events = nil
		p.blocks(p.b, 4096)
		p.connect()
		p.refuses("units of 512")
		if why := p.a.e.Status().Refused; !strings.Contains(why, "give the peer a disk with blocks of 512") {
			t.Fatalf("the node with the data says %q", why)
		}
	})
}

// A peer whose users began to write before it knew of larger blocks is refused at the first request that does not fit them.
func TestRequestsThatDoNotFitTheBlocks(t *testing.T) {
	for _, r := range []*Request{{Op: OpWrite, Off: 512, Len: 4096, Data: make([]byte, 4096)}, {Op: OpDiscard, Off: 0, Len: 512}} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.b.e.vols[0].block = 4096
		p.write(p.a, 4096, make([]byte, 4096))
		p.ends(p.a, p.give(p.a, r), OK)
		if why := p.b.e.Status().Refused; !strings.Contains(why, "this disk has logical blocks of 4096") {
			t.Errorf("%v of %d at %d: refused %q\n%s", r.Op, r.Len, r.Off, why, p.story())
		}
	}
}

// A Primary without a disk works on the peer's data, which is in larger blocks, and takes a new disk with smaller ones into use.
// Its users know the larger ones, whatever that disk says.
func TestSmallerBlocksBelowAPrimary(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.blocks(p.a, 4096)
	p.must(p.a, Promote{Force: true})
	p.must(p.a, Demote{})
	p.connect()
	p.must(p.b, Promote{})
	p.wantBlocks(p.b, 4096)
	p.blocks(p.b, 512)
	p.settle(5 * time.Second)
	p.want(p.b, "Primary/Secondary Connected UpToDate/UpToDate")
	p.wantBlocks(p.b, 4096)
	p.equal()
	if strings.Contains(p.story(), "BrokenPipe") {
		t.Errorf("the users have lost the peer's disk for a while\n%s", p.story())
	}
}

// Smaller blocks join data in larger ones: the device keeps those, on either node, alone too, and after a restart.
func TestSmallerBlocksJoinData(t *testing.T) {
	p := blockPair(t, 4096, 512)
	p.must(p.a, Promote{Force: true})
	p.connect()
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.must(p.a, Demote{})
	p.must(p.b, Down{})
	p.must(p.a, Down{})
	p.blocks(p.b, 512)
	p.must(p.b, Promote{Force: true})
	p.wantBlocks(p.b, 4096)
}

// A fresh pair: whoever has the larger blocks, the device has them, from the first promotion on, and keeps them.
func TestFreshPairBlocks(t *testing.T) {
	for _, sizes := range [][2]int64{{512, 4096}, {4096, 512}} {
		p := blockPair(t, sizes[0], sizes[1])
		p.connect()
		p.must(p.a, Promote{Force: true})
		p.wantBlocks(p.a, 4096)
		p.settle(5 * time.Second)
		p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
		p.must(p.a, Demote{})
		for _, n := range []*node{p.a, p.b} {
			p.must(n, Down{})
			if r := n.remembered(); r == nil || r.Size != 4096 || r.DeviceUUID != n.e.vols[0].super.DeviceUUID {
				t.Fatalf("%v: %s remembers %+v\n%s", sizes, n.name, r, p.story())
			}
		}
		p.blocks(p.a, sizes[0])
		p.must(p.a, Promote{})
		p.wantBlocks(p.a, 4096) // alone
		p.blocks(p.b, sizes[1])
		p.connect()
		p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	}
}

// The peer learns in the handshake that the data is in larger blocks than its own disk has: a disk with such blocks is let go and attached again below
// its users, whose device has them.
func TestLargerBlocksAttachedBelowAPrimary(t *testing.T) {
	p := blockPair(t, 4096, 512)
	p.must(p.a, Promote{Force: true})
	p.must(p.b, Detach{})
	p.connect()
	p.must(p.a, Demote{})
	p.blocks(p.b, 512)
	p.settle(time.Second)
	p.must(p.b, Promote{})
	p.wantBlocks(p.b, 4096)
	p.must(p.a, Detach{})
	p.blocks(p.a, 4096)
	p.inSyncAgain()
}

// Data of which nobody has remembered anything, common to both: the pair goes on with the larger blocks, unless users of the
// device know smaller ones.
func TestOldPairBlocks(t *testing.T) {
	old := func(t *testing.T) *pair {
		p := blockPair(t, 512, 4096)
		p.connect()
		p.must(p.a, NewCurrentUUID{ClearBitmap: true})
		p.must(p.a, Down{})
		p.must(p.b, Down{})
		p.a.events, p.b.events = nil, nil
		p.a.e.vols[0].peer, p.b.e.vols[0].peer = peerSizes{}, peerSizes{} // another daemon
		p.blocks(p.a, 512)
		p.blocks(p.b, 4096)
		return p
	}
	t.Run("both Secondary", func(t *testing.T) {
		p := old(t)
		p.connect()
		p.want(p.a, "Secondary/Secondary Connected UpToDate/UpToDate")
		for _, n := range []*node{p.a, p.b} {
			p.wantBlocks(n, 4096)
			if r := n.remembered(); r == nil || r.Size != 4096 {
				t.Fatalf("%s remembers %+v", n.name, r)
			}
		}
	})
	t.Run("in use", func(t *testing.T) {
		p := old(t)
		p.must(p.a, Promote{})
		p.wantBlocks(p.a, 512)
		p.connect()
		p.refuses("make the Primary Secondary")
		p.must(p.a, Demote{})
		p.connect()
		p.want(p.a, "Secondary/Secondary Connected UpToDate/UpToDate")
		p.wantBlocks(p.a, 4096)
	})
}

// Users who wait for their daemon know the blocks that the device had, and are no less in use of it than those of a Primary. If their data is
// about to be overwritten they get errors, and there is nobody to know.
func TestBlocksBelowWaitingUsers(t *testing.T) {
	for _, lose := range []bool{false, true} {
		p := blockPair(t, 512, 4096)
		p.connect()
		p.must(p.a, NewCurrentUUID{ClearBitmap: true})
		p.must(p.a, Promote{})
		p.a.events, p.b.events = nil, nil
		p.newDaemonUnderUsers(p.a)
		p.must(p.b, Disconnect{Force: true})
		p.newDaemon(p.b)
		p.blocks(p.a, 512)
		p.wantUsers(p.a, UsersWaiting)
		p.blocks(p.b, 4096)
		if lose {
			p.must(p.b, Promote{})
		}
		p.connect()
		if lose {
			p.wantUsers(p.a, UsersLost)
			p.wantBlocks(p.a, 4096)
			continue
		}
		if st := p.a.e.Status(); st.Conn.String() != "StandAlone" || !strings.Contains(st.Refused, "write in units of 512") {
			t.Fatalf("%v, refused: %q\n%s", st.Conn, st.Refused, p.story())
		}
		p.wantUsers(p.a, UsersWaiting)
		p.must(p.a, Promote{})
		p.wantBlocks(p.a, 512)
		p.write(p.a, 512, make([]byte, 512))
	}
}

// Data in units of 512 bytes was moved to a disk with larger blocks: that is refused where it is attached, and if that node has
// forgotten, where the other one knows.
func TestMovedDisk(t *testing.T) {
	p := blockPair(t, 512, 512)
	p.connect()
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.must(p.b, Down{})
	if err := p.attachBlocks(p.b, 4096); err == nil || !strings.Contains(err.Error(), "units of 512") {
		t.Fatalf("attach: %v", err)
	}
	p.b.events = nil
	p.blocks(p.b, 4096)
	p.connect()
	if st := p.a.e.Status(); !strings.Contains(st.Refused, "move the peer's data back") {
		t.Fatalf("%v, refused: %q\n%s", st.Conn, st.Refused, p.story())
	}
	p.wantBlocks(p.a, 512)
}
