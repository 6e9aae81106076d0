package engine

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// inSync is a pair of equal disks, a Primary.
func inSync(t *testing.T, size int64, change func(*node)) *pair {
	t.Helper()
	p := newPair(t, size, NetOptions{})
	if change != nil {
		change(p.a)
		change(p.b)
	}
	p.inSync()
	return p
}

// newDisk gives a node another disk with fresh metadata.
func (p *pair) newDisk(n *node, size int64) { n.disk = newPair(p.t, size, NetOptions{}).a.disk }

// resizes are the sizes that the device of a node got, in bytes; they are forgotten then.
func (n *node) resizes() (sizes []int64) {
	for _, ev := range n.events {
		if r, ok := ev.(ResizeDevice); ok {
			sizes = append(sizes, r.Size)
		}
	}
	n.events = nil
	return sizes
}

// TestAttachKeepsTheSizeInUse: a disk that is too small for the device of a Primary is refused before
// anything has changed; a larger one changes nothing in between.
func TestAttachKeepsTheSizeInUse(t *testing.T) {
	for _, tt := range []struct {
		name     string
		size     int64
		alone    bool // without the peer
		refused  string
		upToDate bool
	}{
		{"small", 4 << 20, false, "room for", false},
		{"small, alone", 4 << 20, true, "room for", false},
		{"large, alone", 12 << 20, true, "this node is Primary on data", false},
		{"large", 12 << 20, false, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := inSync(t, 8<<20, nil)
			v := p.a.e.vols[0]
			was := v.size
			p.must(p.a, Detach{})
			if tt.alone {
				p.must(p.b, Disconnect{Force: true})
			}
			p.newDisk(p.a, tt.size)
			p.a.resizes()
			err := p.do(p.a, Attach{BackingSize: tt.size, MetaSize: tt.size})
			p.settle(5 * time.Second)
			if tt.refused == "" && err != nil || tt.refused != "" && (err == nil || !strings.Contains(err.Error(), tt.refused)) {
				t.Errorf("attach: %v, want %q", err, tt.refused)
			}
			if got := p.a.resizes(); len(got) > 0 || v.size != was {
				t.Errorf("the device of %d bytes was resized to %v, and has %d", was, got, v.size)
			}
			if tt.upToDate {
				p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
				p.equal()
			}
		})
	}
}

// TestNewDiskBesideAPeerWithRoom: the peer's disk has room for more than was agreed on when this node's was the smaller one, and a new one here has, too. The
// device in use does not grow to that: the peer's stays as it is.
func TestNewDiskBesideAPeerWithRoom(t *testing.T) {
	for _, role := range []Command{Promote{}, Demote{}} {
		p := newPair(t, 8<<20, NetOptions{})
		p.newDisk(p.b, 10<<20)
		p.inSync()
		p.must(p.a, role)
		v := p.a.e.vols[0]
		was := v.size
		p.must(p.a, Detach{})
		p.newDisk(p.a, 12<<20)
		p.must(p.a, Attach{BackingSize: 12 << 20, MetaSize: 12 << 20})
		p.inSyncAgain()
		if peers := p.b.e.vols[0].size; v.size != was || peers != was {
			t.Errorf("after %T: the device of %d bytes has %d, and the peer's %d\n%s", role, was, v.size, peers, p.story())
		}
	}
}

// TestAttachOfAnOldSmallerMember: a disk with room enough was last in use with a smaller size.
func TestAttachOfAnOldSmallerMember(t *testing.T) {
	old := inSync(t, 8<<20, func(n *node) { n.e.vols[0].cfg.Disk.Size = 4 << 20 })
	old.must(old.a, Demote{})
	old.must(old.a, Down{})
	p := inSync(t, 8<<20, nil)
	v := p.a.e.vols[0]
	was := v.size
	p.must(p.a, Detach{})
	p.a.disk = old.a.disk
	p.a.resizes()
	err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(5 * time.Second)
	if got := p.a.resizes(); len(got) > 0 || v.size != was {
		t.Errorf("attach: %v; the device of %d bytes was resized to %v, and has %d", err, was, got, v.size)
	}
	if st := v.state; st.Role != sm.Primary || !st.Conn.Established() {
		t.Errorf("attach: %v, then %v", err, st)
	}
}

// TestGrownDisksKeepTheSize: both disks have become larger while the nodes were down. What is new is not equal on both.
func TestGrownDisksKeepTheSize(t *testing.T) {
	p := inSync(t, 8<<20, func(n *node) { n.e.vols[0].cfg.Disk.Size = 4 << 20 })
	for i := 4 << 20; i < 7<<20; i++ {
		p.b.disk[i] = 0xbb
	}
	p.must(p.a, Demote{})
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Down{})
		n.e.vols[0].cfg.Disk.Size = 0
	}
	p.up()
	p.settle(time.Minute)
	for _, n := range []*node{p.a, p.b} {
		p.want(n, "Secondary/Secondary Connected UpToDate/UpToDate")
		if size := n.e.vols[0].size; size != 4<<20 {
			t.Errorf("%s: %d bytes", n.name, size)
		}
	}
	p.equal()
}

// TestOddSizeAndLargeBlocks: a size that ends within a block of one of the disks is refused, with what to write.
func TestOddSizeAndLargeBlocks(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.a.e.vols[0].cfg.Disk.Size, p.b.e.vols[0].cfg.Disk.Size = 4<<20+512, 4<<20+512
	for n, block := range map[*node]int64{p.a: 512, p.b: 4096} {
		p.must(n, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20, BlockSize: block})
		p.must(n, Connect{})
	}
	p.settle(time.Second)
	for _, n := range []*node{p.a, p.b} {
		p.want(n, "Secondary/Unknown StandAlone Inconsistent/DUnknown")
	}
	if !strings.Contains(p.story(), "size 8192s;") {
		t.Errorf("no word of what to configure\n%s", p.story())
	}
}

// TestDisklessPrimaryDoesNotGrow: a peer has, or says that it has, a larger device than the one in use here, perhaps of other data: connected, and in a handshake
// that is refused. The peer that has the data is taken afterwards.
func TestDisklessPrimaryDoesNotGrow(t *testing.T) {
	p := inSync(t, 8<<20, nil)
	p.must(p.a, Detach{})
	p.settle(time.Second)
	v := p.a.e.vols[0]
	was := v.size
	larger := wire.Sizes{DSize: wire.SectorOf(was) + 1, CSize: wire.SectorOf(was) + 1, MaxBioSize: wire.MaxRequest}
	p.a.resizes()
	keeps := func(when string) {
		t.Helper()
		for p.work(p.a) {
		}
		if got := p.a.resizes(); len(got) > 0 || v.size != was {
			t.Fatalf("%s: the device of %d bytes was resized to %v, and has %d", when, was, got, v.size)
		}
	}
	p.a.e.Receive(p.now, DataSock, packets(1, wire.CmdSizes, larger.Append(nil)))
	keeps("connected")
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")

	p.b.conn = "away" // its packets are made here
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	p.work(p.a)
	p.a.conn = "up"
	p.a.e.ConnUp(p.now, Link{Features: Features})
	b := packets(1, wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil))
	b = append(b, packets(1, wire.CmdSizes, larger.Append(nil))...)
	b = append(b, packets(1, wire.CmdUUIDs, wire.UUIDs{Current: 77 << 20}.Append(nil))...)
	other := sm.State{Role: sm.Secondary, Conn: sm.WFConnection, Disk: sm.UpToDate, PeerDisk: sm.DUnknown}
	b = append(b, packets(1, wire.CmdState, wire.State{Word: other.Word()}.Append(nil))...)
	p.a.e.Receive(p.now, DataSock, b)
	keeps("other data")
	if v.state.Conn.Established() || !strings.Contains(p.a.e.conn.refused, "Primary on data") {
		t.Fatalf("%v: %s", v.state, p.a.e.conn.refused)
	}

	p.a.wire, p.b.wire = [2][]byte{}, [2][]byte{}
	p.b.conn = "up"
	p.b.e.ConnDown(p.now, NetworkFailure, nil)
	p.must(p.a, Connect{})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.write(p.a, was-4096, filled(3, 4096))
}

// TestOddSizeWithoutDisk: the peer's disk has blocks of 4096 bytes, and its device gets a size that ends within one.
func TestOddSizeWithoutDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.a, Connect{})
	p.must(p.b, Connect{})
	p.settle(time.Second)
	v := p.a.e.vols[0]
	was, odd := v.size, wire.SectorOf(v.size)+1
	p.a.resizes()
	err := p.a.e.peerSizesReceived(v, wire.Sizes{DSize: odd, CSize: odd, Queue: wire.QueueLimits{LogicalBlockSize: 4096}})
	p.work(p.a)
	if got := p.a.resizes(); !isMismatch(err) || len(got) > 0 || v.size != was {
		t.Errorf("%v; the device of %d bytes was resized to %v", err, was, got)
	}
}

// TestSizesThatComeDuringAnAttach: the sizes are agreed on when the disk is there, whichever comes first.
func TestSizesThatComeDuringAnAttach(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.newDisk(p.a, 4<<20)
	p.a.hold = func(DiskIO) bool { return true }
	p.a.e.Command(p.now, 100, Attach{BackingSize: 4 << 20, MetaSize: 4 << 20})
	p.a.e.Command(p.now, 101, Connect{})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.b, Connect{})
	p.settle(time.Second)
	if v := p.a.e.vols[0]; v.attach == nil || !v.peer.known || !v.state.Conn.Established() {
		t.Fatalf("a is %v\n%s", v.state, p.story())
	}
	p.a.release()
	p.settle(time.Second)
	p.succeeded(p.a, 100)
	room := p.a.e.vols[0].layout.DataLimit
	for _, n := range []*node{p.a, p.b} {
		p.want(n, "Secondary/Secondary Connected Inconsistent/Inconsistent")
		if size := n.e.vols[0].size; size != room {
			t.Errorf("%s: %d bytes, want %d", n.name, size, room)
		}
	}
}

// TestPromotedDuringAnAttach: a node becomes Primary while it reads the metadata of a disk that does not fit the device that its users get.
func TestPromotedDuringAnAttach(t *testing.T) {
	for name, cmd := range map[string]Attach{
		"too small":    {BackingSize: 4 << 20, MetaSize: 4 << 20},
		"large blocks": {BackingSize: 8 << 20, MetaSize: 8 << 20, BlockSize: 4096},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.newDisk(p.a, cmd.BackingSize)
			p.a.hold = func(io DiskIO) bool { return io.Off != cmd.BackingSize-PageSize } // the superblock is read
			p.a.e.Command(p.now, 100, cmd)
			p.a.e.Command(p.now, 101, Connect{})
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.must(p.b, Promote{Force: true})
			p.must(p.b, Demote{})
			p.must(p.b, Connect{})
			p.must(p.a, Promote{})
			was := p.a.e.vols[0].size
			if was != p.b.e.vols[0].size {
				t.Fatalf("the devices have %d and %d bytes\n%s", was, p.b.e.vols[0].size, p.story())
			}
			p.a.release()
			p.settle(time.Second)
			if err, answered := p.a.reply[100]; !answered || err == nil || !strings.Contains(err.Error(), "the disk has") {
				t.Errorf("attach: %v, %v", answered, err)
			}
			p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
			if size := p.a.e.vols[0].size; size != was {
				t.Errorf("the device of %d bytes has %d", was, size)
			}
		})
	}
}

// TestDiskThatHasShrunk: a disk with data that has not the room any more that was agreed on is refused, and what it has stays.
func TestDiskThatHasShrunk(t *testing.T) {
	p := inSync(t, 8<<20, nil)
	v := p.a.e.vols[0]
	p.must(p.a, Detach{})
	p.must(p.b, Disconnect{Force: true})
	p.must(p.a, Demote{})
	room := p.a.disk[v.layout.Superblock:]
	binary.BigEndian.PutUint64(room, wire.SectorOf(v.layout.DataLimit)+8)
	was := bytes.Clone(room[:PageSize])
	err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	if err == nil || !strings.Contains(err.Error(), "it has shrunk") || !bytes.Equal(room[:PageSize], was) {
		t.Errorf("attach: %v; the superblock is written: %v", err, !bytes.Equal(room[:PageSize], was))
	}
}

// TestSizesWhileConnected: the peer's word changes the size of no device that is in use.
func TestSizesWhileConnected(t *testing.T) {
	for _, tt := range []struct {
		name     string
		blank    bool
		diskless bool
		sizes    func(sectors uint64) wire.Sizes
	}{
		{"smaller, and there was never any data", true, false, func(n uint64) wire.Sizes { return wire.Sizes{DSize: n - 8, CSize: n - 8} }},
		{"smaller", false, false, func(n uint64) wire.Sizes { return wire.Sizes{DSize: n - 8, CSize: n - 8} }},
		{"smaller by order", false, false, func(n uint64) wire.Sizes { return wire.Sizes{DSize: n, CSize: n, USize: n - 8} }},
		{"smaller, without a disk", false, true, func(n uint64) wire.Sizes { return wire.Sizes{DSize: n - 8, CSize: n - 8} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			if p.up(); !tt.blank {
				p.must(p.a, NewCurrentUUID{ClearBitmap: true})
				p.must(p.a, Promote{})
				p.settle(time.Second)
			}
			if tt.diskless {
				p.must(p.a, Detach{})
			}
			v := p.a.e.vols[0]
			was, role := v.size, v.state.Role
			p.a.resizes()
			p.b.conn = "away" // its packets are made here
			p.a.e.Receive(p.now, DataSock, packets(1, wire.CmdSizes, tt.sizes(wire.SectorOf(v.size)).Append(nil)))
			for p.work(p.a) {
			}
			if got := p.a.resizes(); len(got) > 0 || v.size != was || v.state.Role != role {
				t.Errorf("the device of %d bytes was resized to %v: %v", was, got, v.state)
			}
			if v.state.Conn.Established() || p.a.e.conn.refused == "" {
				t.Errorf("the peer is not refused: %v", v.state)
			}
		})
	}
}

// TestStrangeBlockSize: what the peer says of its blocks is not believed blindly.
func TestStrangeBlockSize(t *testing.T) {
	p := inSync(t, 8<<20, nil)
	v := p.a.e.vols[0]
	for block, refused := range map[uint32]bool{0: false, 3: false, 1<<32 - 1: false, 8192: true, 1 << 31: true} {
		size := wire.SectorOf(v.size)
		err := p.a.e.peerSizesReceived(v, wire.Sizes{DSize: size, CSize: size, Queue: wire.QueueLimits{LogicalBlockSize: block}})
		if isMismatch(err) != refused || v.blockSize() != 512 {
			t.Errorf("%d: %v, blocks of %d bytes", block, err, v.blockSize())
		}
	}
}

// TestSmallerPeerShrinksNothing: a peer with less room comes to a disk that is not good now, because a resync to it has broken. The device may be
// in use, and the peer that has the rest of the data needs its size.
func TestSmallerPeerShrinksNothing(t *testing.T) {
	for _, role := range []sm.Role{sm.Primary, sm.Secondary} {
		t.Run(role.String(), func(t *testing.T) {
			p := inSync(t, 8<<20, nil)
			p.must(p.a, Demote{})
			if role == sm.Primary {
				p.must(p.b, Promote{})
			}
			p.a.hold = func(io DiskIO) bool { return io.Op == DiskRead && p.a.e.State(0).Conn == sm.SyncSource } // no block goes out
			p.b.e.Command(p.now, 99, Invalidate{})
			p.settle(time.Second)
			v := p.b.e.vols[0]
			if v.state.Conn != sm.SyncTarget {
				t.Fatalf("the target is %v", v.state)
			}
			was := v.size
			p.b.e.ConnDown(p.now, NetworkFailure, nil)
			p.a.conn = "away" // the peer's packets are made here
			for p.work(p.b) {
			}
			p.b.conn, p.b.wire = "up", [2][]byte{}
			p.b.e.ConnUp(p.now, Link{Features: Features})
			p.b.resizes()
			b := packets(1, wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil))
			b = append(b, packets(1, wire.CmdSizes, wire.Sizes{DSize: 4096, CSize: 4096, MaxBioSize: wire.MaxRequest}.Append(nil))...)
			p.b.e.Receive(p.now, DataSock, b)
			for p.work(p.b) {
			}
			if got := p.b.resizes(); len(got) > 0 || v.size != was || v.super.LastAgreedSize != was {
				t.Errorf("the device of %d bytes was resized to %v, and has %d; the metadata says %d", was, got, v.size, v.super.LastAgreedSize)
			}
			if v.state.Conn.Established() || !strings.Contains(p.b.e.conn.refused, "large enough") {
				t.Errorf("the peer is not refused: %v, %q", v.state, p.b.e.conn.refused)
			}
		})
	}
}

// TestBlankPeerLocksNothingOut: the peer has a new, larger disk, and nobody uses the device: the size that it says is no reason to refuse the disk with the data.
func TestBlankPeerLocksNothingOut(t *testing.T) {
	p := inSync(t, 8<<20, nil)
	p.write(p.a, 0, filled(5, 4096))
	p.must(p.a, Demote{})
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Down{})
		p.newDaemon(n)
	}
	p.newDisk(p.b, 12<<20)
	p.must(p.b, Attach{BackingSize: 12 << 20, MetaSize: 12 << 20})
	p.must(p.a, Connect{})
	p.must(p.b, Connect{})
	p.settle(time.Second)
	p.want(p.a, "Secondary/Secondary Connected Diskless/Inconsistent")
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// What a disk gets beyond the size that it was used with before differs from the peer's, as far as anybody knows.
func TestNewPartOfADiskIsMarked(t *testing.T) {
	t.Run("attached to a larger device", func(t *testing.T) {
		old := newPair(t, 8<<20, NetOptions{}) // it never had data
		old.a.e.vols[0].cfg.Disk.Size = 4 << 20
		old.up()
		old.must(old.a, Down{})
		p := inSync(t, 8<<20, nil)
		p.must(p.a, Detach{})
		p.settle(time.Second)
		p.a.disk = old.a.disk
		p.a.mute[DataSock] = true // what is to be done about it
		p.a.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.settle(0)
		p.want(p.a, "Primary/Secondary Connected Negotiating/UpToDate")
		p.newPartIsMarked(p.a, 4<<20)
	})
	t.Run("agreed with a larger peer", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.b.e.vols[0].cfg.Disk.Size = 4 << 20
		p.up()
		p.must(p.b, Disconnect{})
		p.b.e.vols[0].cfg.Disk.Size = 0
		p.a.e.vols[0].bm.ClearAll()
		p.must(p.b, Connect{})
		p.settle(time.Second)
		p.newPartIsMarked(p.a, 4<<20)
	})
}

// newPartIsMarked fails unless the blocks from an offset on are marked.
func (p *pair) newPartIsMarked(n *node, from int64) {
	p.t.Helper()
	v := n.e.vols[0]
	if n := v.bm.CountRange(from, v.size-from); v.size <= from || n != (v.size-from)/4096 {
		p.t.Errorf("of %d bytes %d blocks are marked from %d on\n%s", v.size, n, from, p.story())
	}
}

// Nodes that meet without their disks decide no size: what one is configured for, or knows of another disk, is not what the other's was used
// with. A disk that took it over would not fit the peer's any more.
func TestNodesWithoutDisksDecideNoSize(t *testing.T) {
	for name, other := range map[string]func(p *pair){
		"configured": func(p *pair) { p.a.e.vols[0].cfg.Disk.Size = 6 << 20 },
		"of another disk": func(p *pair) {
			was := p.a.disk
			p.newDisk(p.a, 8<<20)
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.must(p.a, Detach{})
			p.a.disk = was
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.newDisk(p.b, 4<<20)
			p.inSync()
			p.must(p.a, Demote{})
			size := p.a.e.vols[0].size
			p.newDaemon(p.a)
			p.newDaemon(p.b)
			other(p)
			p.must(p.a, Connect{})
			p.must(p.b, Connect{})
			p.settle(5 * time.Second)
			p.want(p.b, "Secondary/Secondary Connected Diskless/Diskless")
			for _, n := range []*node{p.b, p.a} {
				p.must(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk))})
			}
			p.settle(5 * time.Second)
			for _, n := range []*node{p.a, p.b} {
				p.want(n, "Secondary/Secondary Connected UpToDate/UpToDate")
				if v := n.e.vols[0]; v.size != size || v.super.LastAgreedSize != size {
					t.Errorf("%s: %d bytes, and %d in the metadata; it was %d", n.name, v.size, v.super.LastAgreedSize, size)
				}
			}
		})
	}
}

// A peer that has not decided yet how large its device is has one of the size of its disk, or of what it is configured for.
func TestSizeThatThePeerHasNotDecided(t *testing.T) {
	for user, want := range map[uint64]int64{0: 8 << 20, 4 << 11: 4 << 20, 16 << 11: 8 << 20} {
		p := newPair(t, 8<<20, NetOptions{})
		v := p.a.e.vols[0]
		if err := p.a.e.peerSizesReceived(v, wire.Sizes{DSize: 8 << 11, USize: user}); err != nil || v.size != want {
			t.Errorf("configured for %d sectors: %v, %d bytes", user, err, v.size)
		}
	}
}

// A disk with data of a device of another size is attached beside a peer that is not its own, or one that is just created and has less room: what its metadata says of its
// size stays, because its own peer would not take it any more otherwise.
func TestDiskOfAnotherDeviceKeepsItsSize(t *testing.T) {
	for name, c := range map[string]struct{ during, blank, smaller bool }{
		"attached beside the peer":            {},
		"smaller":                             {smaller: true},
		"smaller, during an attach":           {smaller: true, during: true},
		"the peer comes during an attach":     {during: true},
		"attached beside a blank peer":        {blank: true},
		"a blank peer comes during an attach": {during: true, blank: true},
	} {
		t.Run(name, func(t *testing.T) {
			peer := int64(4 << 20)
			if c.smaller {
				peer = 8 << 20
			}
			p := newPair(t, peer, NetOptions{})
			if !c.blank {
				p.inSync()
			}
			old := inSync(t, 8<<20, func(n *node) {
				if n.e.cfg.Random = p.a.e.cfg.Random; c.smaller {
					n.e.vols[0].cfg.Disk.Size = 4 << 20
				}
			})
			old.must(old.a, Demote{})
			size := old.a.e.vols[0].size
			old.must(old.a, Down{})
			if c.blank {
				p.must(p.b, Attach{BackingSize: peer, MetaSize: peer})
				p.must(p.b, Connect{})
			} else {
				p.must(p.a, Demote{})
				p.newDaemon(p.a)
			}
			p.a.disk = old.a.disk
			attach := Attach{BackingSize: 8 << 20, MetaSize: 8 << 20}
			if p.a.hold = hangs; c.during {
				p.a.e.Command(p.now, 100, attach)
			}
			p.a.e.Command(p.now, 101, Connect{})
			p.settle(5 * time.Second)
			if !p.a.e.State(0).Conn.Established() {
				t.Fatalf("a is %v\n%s", p.a.e.State(0), p.story())
			}
			if !c.during {
				p.a.e.Command(p.now, 100, attach)
			}
			p.a.hold = nil
			p.a.release()
			p.settle(10 * time.Second)
			if err, answered := p.a.reply[100]; !answered || err == nil && p.a.e.conn.refused == "" {
				t.Errorf("attach: answered %v, %v; refused: %q", answered, err, p.a.e.conn.refused)
			}
			if p.a.e.State(0).Conn != sm.StandAlone {
				p.must(p.a, Disconnect{Force: true})
			}
			if p.a.e.State(0).Disk == sm.Diskless {
				p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			}
			if v := p.a.e.vols[0]; v.size != size || v.super.LastAgreedSize != size {
				t.Errorf("%d bytes, %d in the metadata, instead of %d\n%s", v.size, v.super.LastAgreedSize, size, p.story())
			}
		})
	}
}
