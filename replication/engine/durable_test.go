package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
)

// What of the metadata an I/O is for.
func (n *node) isPages(io DiskIO) bool {
	l := n.e.vols[0].layout
	return io.Meta && io.Op == DiskWrite && io.Off >= l.Bitmap && io.Off < l.Bitmap+l.BitmapSize
}

func (n *node) isLog(io DiskIO) bool {
	l := n.e.vols[0].layout
	return io.Meta && io.Op == DiskWrite && io.Off >= l.AL && io.Off < l.AL+int64(l.ALBlocks())*PageSize
}

func (n *node) isSuper(io DiskIO) bool {
	return io.Meta && io.Op == DiskWrite && io.Off == n.e.vols[0].layout.Superblock
}

// watch has every I/O of a node looked at before it is carried out.
func (n *node) watch(look func(io DiskIO)) {
	n.fail = func(io DiskIO) Errno {
		look(io)
		return OK
	}
}

// onDisk reports whether the bitmap on the disk of a node has the bit of a block.
func (n *node) onDisk(block int64) bool {
	return n.disk[n.e.vols[0].layout.Bitmap+block/8]>>(block%8)&1 != 0
}

func (n *node) flags(block []byte) metadata.Flags {
	n.t.Helper()
	sb, err := metadata.DecodeSuperblock(block)
	if err != nil {
		n.t.Fatal(err)
	}
	return sb.Flags
}

// crash starts a node anew on the disk as it is now, and attaches it.
func (p *pair) crash(n *node) {
	p.t.Helper()
	e, err := New(Config{Resource: "r0", Volumes: []VolumeConfig{n.e.vols[0].cfg}, Net: n.e.cfg.Net, Buffers: make([]byte, MinBuffers+VolumeBuffers), Random: n.e.cfg.Random})
	if err != nil {
		p.t.Fatal(err)
	}
	n.e, n.conn, n.held, n.hold, n.events = e, "", nil, nil, nil
	p.must(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk)), Flush: true, MetaFlush: true})
}

// A record of the metadata is durable when it is written: a block of the activity log before the write that needs it, the
// superblock before what is said of it.
func TestRecordsAreDurable(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	logs, supers := 0, 0
	p.a.watch(func(io DiskIO) {
		switch {
		case p.a.isLog(io):
			logs++
		case p.a.isSuper(io):
			supers++
		default:
			return
		}
		if !io.FUA {
			t.Errorf("a record at %d is written without FUA", io.Off)
		}
	})
	p.write(p.a, 0, make([]byte, 4096))
	p.must(p.a, Demote{})
	if logs == 0 || supers == 0 {
		t.Fatalf("%d blocks of the log, %d superblocks", logs, supers)
	}
}

// cleanLogPair is a logPair with nothing out of sync, neither in memory nor on the disk.
func cleanLogPair(t *testing.T, extents int64) *pair {
	t.Helper()
	p := logPair(t, extents)
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	if out := p.a.e.Status().Volumes[0].OutOfSync; out != 0 || p.a.onDisk(0) {
		t.Fatalf("%d bytes are out of sync, on the disk %v", out, p.a.onDisk(0))
	}
	return p
}

// Bitmap pages are durable before the record that rests on them.
func TestPagesBeforeRecord(t *testing.T) {
	p := cleanLogPair(t, 2*logSlots)
	volatile, pages, records := false, 0, 0
	p.a.watch(func(io DiskIO) {
		switch {
		case p.a.isPages(io):
			volatile, pages = true, pages+1
		case io.Op == DiskFlush && io.Meta:
			volatile = false
		case p.a.isLog(io) || p.a.isSuper(io):
			if records++; volatile {
				t.Errorf("a record at %d follows pages that are not durable", io.Off)
			}
		}
	})
	for k := range int64(2 * logSlots) {
		p.submit(p.a, k, 0)
	}
	p.must(p.a, Demote{})
	if records < logSlots || pages == 0 {
		t.Fatalf("%d records, %d pages", records, pages)
	}
}

// An extent leaves the activity log after the bitmap has on the disk what it stood for.
func TestEvictedExtentIsOnDisk(t *testing.T) {
	p := cleanLogPair(t, logSlots+1)
	for k := range int64(logSlots) {
		p.submit(p.a, k, 0)
	}
	if p.a.onDisk(0) {
		t.Fatal("a page is written that the log stands for")
	}
	evictions := 0
	p.a.watch(func(io DiskIO) {
		if p.a.isLog(io) {
			if evictions++; !p.a.onDisk(0) {
				t.Error("the extent is forgotten, and the bitmap on the disk does not know of the write")
			}
		}
	})
	p.submit(p.a, logSlots, 0)
	if evictions != 1 {
		t.Fatalf("%d transactions", evictions)
	}
}

// The superblock says that this node is Primary no longer after the bitmap has on the disk what the activity log stood
// for, and the disk what was written.
func TestBitmapBeforeDemotion(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.must(p.a, Disconnect{})
	p.write(p.a, 0, make([]byte, 4096))
	volatile, demoted := true, 0
	p.a.watch(func(io DiskIO) {
		switch {
		case dataFlush(io):
			volatile = false
		case p.a.isSuper(io) && !p.a.flags(io.Data).Has(metadata.PrimaryInd):
			if demoted++; volatile || !p.a.onDisk(0) {
				t.Errorf("data volatile %v, block marked on the disk %v", volatile, p.a.onDisk(0))
			}
		}
	})
	p.must(p.a, Demote{})
	if demoted == 0 {
		t.Fatal("the superblock says Primary still")
	}
}

// Nor does it say so while data is in the disk's cache only, that the peer has as well.
func TestDataBeforeDemotion(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.write(p.a, 0, make([]byte, 4096))
	volatile, demoted := true, 0
	p.a.watch(func(io DiskIO) {
		switch {
		case dataFlush(io):
			volatile = false
		case p.a.isSuper(io) && !p.a.flags(io.Data).Has(metadata.PrimaryInd):
			if demoted++; volatile {
				t.Error("the log stands for a write no longer that is not durable")
			}
		}
	})
	p.must(p.a, Demote{})
	if demoted == 0 {
		t.Fatal("the superblock says Primary still")
	}
}

// A Primary that crashes knows afterwards what it may have been writing.
func TestCrashedPrimaryMarksItsLog(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.write(p.a, 5<<12, make([]byte, 4096))
	if !p.a.flags(p.a.disk[p.a.e.vols[0].layout.Superblock:]).Has(metadata.PrimaryInd) {
		t.Error("the superblock does not say Primary")
	}
	if sb, err := metadata.DecodeSuperblock(p.a.disk[p.a.e.vols[0].layout.Superblock:][:PageSize]); err != nil || sb.Clean {
		t.Errorf("the superblock says that the log need not be read: %v", err)
	}
	l := p.a.e.vols[0].layout
	rings := 0
	p.a.watch(func(io DiskIO) {
		if p.a.e.vols[0].attach != nil && p.a.isLog(io) {
			if rings++; p.a.disk[l.Bitmap] == 0 {
				t.Error("the log is forgotten before the bitmap on the disk has it")
			}
		}
	})
	p.crash(p.a)
	if !p.a.marked() || rings == 0 {
		t.Fatalf("the extent is marked %v, %d blocks of the log were written\n%s", p.a.marked(), rings, p.story())
	}
	p.must(p.a, Connect{})
	p.settle(10 * time.Second)
	p.inSyncAgain()
}

// If a crashed Primary cannot read its log, every block may have been written to.
func TestUnreadableLogMarksEverything(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.write(p.a, 0, make([]byte, 4096))
	v := p.a.e.vols[0]
	clear(p.a.disk[v.layout.AL:][:int64(v.layout.ALBlocks())*PageSize])
	p.crash(p.a)
	st := p.a.e.Status().Volumes[0]
	if want := (st.Size + 4095) / 4096 * 4096; st.OutOfSync != want {
		t.Fatalf("%d bytes are out of sync, want %d", st.OutOfSync, want)
	}
	if story := strings.Join(p.a.log, "\n"); !strings.Contains(story, "activity log is not readable") {
		t.Errorf("nobody is told\n%s", story)
	}
	p.must(p.a, Connect{})
	p.settle(10 * time.Second)
	p.inSyncAgain()
}

// The superblock calls the bitmap on the disk void until it is there as a whole.
func TestFullSyncUntilBitmapIsOnDisk(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.must(p.b, Disconnect{})
	void, valid := 0, 0
	l := p.b.e.vols[0].layout
	p.b.watch(func(io DiskIO) {
		switch {
		case !p.b.isSuper(io):
		case p.b.flags(io.Data).Has(metadata.FullSync):
			void++
		case void > 0:
			valid++
			if page := p.b.disk[l.Bitmap:][:128]; bytes.Count(page, []byte{0xff}) != len(page) {
				t.Errorf("the bitmap is valid, and on the disk it begins with %x", page[:8])
			}
		}
	})
	p.must(p.b, Invalidate{})
	p.settle(time.Second)
	if void == 0 || valid == 0 {
		t.Fatalf("superblocks: %d call the bitmap void, %d valid", void, valid)
	}
}

// The Target has on its disk which blocks it lacks before it asks for one, and the Source has on its disk what it copies.
func TestDurableBeforeResync(t *testing.T) {
	lonePrimary := func(t *testing.T) *pair {
		p := cachedPair(t, NetOptions{})
		p.must(p.a, Disconnect{})
		p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
		return p
	}
	t.Run("bitmap of the Target", func(t *testing.T) {
		p := lonePrimary(t)
		p.b.hold = p.b.isPages
		p.must(p.a, Connect{})
		p.settle(time.Second)
		p.want(p.b, "Secondary/Primary SyncTarget Inconsistent/UpToDate")
		if len(p.b.held) == 0 || p.b.disk[0] != 0 {
			t.Fatalf("%d pages are held, the disk has %d\n%s", len(p.b.held), p.b.disk[0], p.story())
		}
		p.releaseWrites(p.b)
		p.inSyncAgain()
	})
	t.Run("data of the Source", func(t *testing.T) {
		p := lonePrimary(t)
		p.a.hold = dataFlush
		p.must(p.a, Connect{})
		p.settle(time.Second)
		p.want(p.a, "Primary/Secondary SyncSource UpToDate/Inconsistent")
		if len(p.a.held) == 0 || p.b.disk[0] != 0 {
			t.Fatalf("%d flushes are held, the Target has %d\n%s", len(p.a.held), p.b.disk[0], p.story())
		}
		p.releaseWrites(p.a)
		p.inSyncAgain()
	})
}

// What the Target has got is durable before the bitmap on its disk says so.
func TestDataBeforeClearedBits(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.must(p.a, Disconnect{})
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.write(p.a, 4<<20, bytes.Repeat([]byte{1}, 4096))
	p.a.hold = func(io DiskIO) bool { return dataRead(io) && io.Off >= 4<<20 }
	p.must(p.a, Connect{})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary SyncTarget Inconsistent/UpToDate")
	if p.b.disk[0] != 1 || !p.b.onDisk(0) {
		t.Fatalf("the Target has %d, its bitmap on the disk says %v\n%s", p.b.disk[0], p.b.onDisk(0), p.story())
	}
	volatile, pages := true, 0
	p.b.watch(func(io DiskIO) {
		switch {
		case dataFlush(io):
			volatile = false
		case p.b.isPages(io) && io.Data[0]&1 == 0:
			if pages++; volatile {
				t.Error("the bitmap on the disk forgets a block that is in the cache only")
			}
		}
	})
	p.b.e.ConnDown(p.now, NetworkFailure, nil)
	for p.work(p.b) {
	}
	if pages == 0 {
		t.Fatalf("no page was written\n%s", p.story())
	}
	p.a.release()
	p.inSyncAgain()
}

// The pages of a bitmap that was set as a whole cannot be written: the superblock goes on calling it void.
func TestFullSyncWhosePagesFail(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.must(p.b, Disconnect{})
	l := p.b.e.vols[0].layout
	failed := 0
	p.b.fail = func(io DiskIO) Errno {
		page := p.b.disk[l.Bitmap:][:128]
		switch {
		case p.b.isPages(io):
			failed++
			return EIO
		case p.b.isSuper(io) && failed > 0 && !p.b.flags(io.Data).Has(metadata.FullSync) && bytes.Count(page, []byte{0xff}) != len(page):
			t.Errorf("the bitmap is valid, and on the disk it begins with %x", page[:8])
		}
		return OK
	}
	p.do(p.b, Invalidate{})
	p.settle(time.Second)
	if failed == 0 || !p.b.e.State(0).Disk.Gone() || !p.b.flagsOnDisk().Has(metadata.FullSync) {
		t.Fatalf("%d pages have failed, the disk is %v, its flags %v", failed, p.b.e.State(0), p.b.flagsOnDisk())
	}
}

// What is in the cache of a disk that is detached is made durable before it is given back: the daemon does not hear of its loss any more.
func TestDetachFlushes(t *testing.T) {
	for _, order := range []Detach{{}, {Force: true}} { // the first has flushed it before the peer was asked
		p := cachedPair(t, NetOptions{})
		p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
		if !p.b.e.vols[0].volatile() {
			t.Fatal("nothing is in the cache")
		}
		p.must(p.b, order)
		if v := p.b.e.vols[0]; v.volatile() || v.attached {
			t.Fatalf("given back with a dirty cache: %v, attached %v", v.volatile(), v.attached)
		}
	}
}

// The superblock that says that a resync is done, and that no bits count any more, comes after the bitmap in which they are cleared: if the node dies in between,
// they are left over otherwise, and nobody ever copies or clears them.
func TestBitmapBeforeTheEndOfAResync(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.must(p.b, Disconnect{})
	p.write(p.a, 0, filled(1, 4096))
	p.a.e.writePages(p.a.e.vols[0], changedPages, nil)
	p.settle(0)
	if !p.a.onDisk(0) {
		t.Fatal("the block is not marked in the bitmap on the disk")
	}
	ended := map[*node]int{}
	for _, n := range []*node{p.a, p.b} {
		n.watch(func(io DiskIO) {
			if !n.isSuper(io) {
				return
			}
			sb, err := metadata.DecodeSuperblock(io.Data)
			if err != nil {
				t.Fatal(err)
			}
			if sb.Bitmap == 0 && sb.Flags.Has(metadata.WasUpToDate|metadata.ConnectedInd) && n.e.vols[0].state.Redundant() {
				if ended[n]++; n.onDisk(0) {
					t.Errorf("%s: the block is still marked in the bitmap on the disk", n.name)
				}
			}
		})
	}
	p.must(p.b, Connect{})
	p.inSyncAgain()
	if ended[p.a] == 0 || ended[p.b] == 0 {
		t.Errorf("the end is on %d and %d disks\n%s", ended[p.a], ended[p.b], p.story())
	}
}

// The whole bitmap is set because everything is to be copied. It is sent when the own disk says so, or after a crash of this node nobody knows.
func TestFullBitmapIsDurableBeforeItIsSent(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	}
	p.must(p.a, Promote{Force: true})
	p.must(p.a, Demote{})
	p.must(p.a, Connect{})
	p.a.hold = func(io DiskIO) bool { return p.a.isPages(io) }
	p.must(p.b, Connect{})
	p.settle(time.Second)
	p.want(p.a, "Secondary/Secondary WFBitMapS UpToDate/Inconsistent")
	if v := p.a.e.vols[0]; len(p.a.held) == 0 || v.exchange.ownSent || p.b.e.vols[0].exchange.peerGot {
		t.Errorf("%d I/Os are held, and the bitmap was sent: %v\n%s", len(p.a.held), v.exchange.ownSent, p.story())
	}
	p.releaseWrites(p.a)
	p.inSyncAgain()
}
