package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// failPages lets the first n writes of bitmap pages fail on a node.
func (n *node) failPages(times int) {
	l := n.e.vols[0].layout
	n.fail = func(io DiskIO) Errno {
		if times > 0 && io.Meta && io.Op == DiskWrite && io.Off >= l.Bitmap && io.Off < l.Bitmap+l.BitmapSize {
			times--
			return EIO
		}
		return OK
	}
}

// loseWrite lets a write at 1 MiB end on a alone: it was sent, and then the link fails.
func (p *pair) loseWrite() {
	p.t.Helper()
	if w := p.cutWrite(); !p.a.done[w] || w.Err != OK {
		p.t.Fatalf("the write: done %v errno %d\n%s", p.a.done[w], w.Err, p.story())
	}
}

// cutWrite gives the write of loseWrite as it is when a has nothing to do any more.
func (p *pair) cutWrite() *Request {
	p.b.mute = [2]bool{true, true}
	w := &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: bytes.Repeat([]byte{7}, 4096)}
	p.a.e.Submit(p.now, w)
	p.settle(0)
	p.b.wire = [2][]byte{}
	p.b.conn = ""
	p.b.e.ConnDown(p.now, BrokenPipe, nil)
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	for p.work(p.a) {
	}
	return w
}

// A page that does not reach the disk when the peer is lost costs the disk, and
// is written again before it is let go.
func TestMetaLostPage(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	l := p.a.e.vols[0].layout
	p.a.failPages(1)
	p.loseWrite()
	p.want(p.a, "Primary/Unknown WFConnection Diskless/DUnknown")
	if page := p.a.disk[l.Bitmap:][:l.BitmapSize]; bytes.Count(page, []byte{0}) == len(page) {
		t.Fatal("nothing on the disk says what the peer lacks")
	}
}

// When no page can be written at all, the superblock says that the bitmap is void.
func TestMetaVoidBitmap(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	l := p.a.e.vols[0].layout
	p.a.failPages(1 << 30)
	p.loseWrite()
	p.want(p.a, "Primary/Unknown WFConnection Diskless/DUnknown")
	sb, err := metadata.DecodeSuperblock(p.a.disk[l.Superblock:][:PageSize])
	if err != nil || !sb.Flags.Has(metadata.FullSync) {
		t.Fatalf("superblock: %v, flags %v: the bitmap on the disk would be trusted", err, sb.Flags)
	}
}

// A Primary that goes on alone, and cannot write that down, has answered nothing that is on its disk alone: neither a
// write nor a flush. So it works on with the peer's disk as soon as that is there. The disk that has failed has it all the
// same, perhaps: it is written over.
func TestMetaLostGeneration(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	super := p.a.e.vols[0].layout.Superblock
	isSuper := func(io DiskIO) bool { return io.Meta && io.Op == DiskWrite && io.Off == super }
	p.a.hold = isSuper
	w := p.cutWrite()
	flush := &Request{Op: OpFlush}
	p.a.e.Submit(p.now, flush)
	for p.work(p.a) {
	}
	if p.a.done[w] || p.a.done[flush] || len(p.a.held) != 1 {
		t.Fatalf("answered before the superblock: write %v, flush %v, %d held\n%s", p.a.done[w], p.a.done[flush], len(p.a.held), p.story())
	}
	failed := p.a.held[0]
	p.a.hold, p.a.held = nil, nil
	copy(p.a.disk[super:], failed.Data)
	p.a.e.DiskDone(p.now, failed.Token, EIO)
	for p.work(p.a) {
	}
	if !p.a.done[w] || !p.a.done[flush] || w.Err != EIO || flush.Err != EIO {
		t.Fatalf("write: done %v, errno %d; flush: done %v, errno %d\n%s", p.a.done[w], w.Err, p.a.done[flush], flush.Err, p.story())
	}
	p.b.mute = [2]bool{}
	p.settle(10 * time.Second)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.write(p.a, 1<<20, bytes.Repeat([]byte{8}, 4096))
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// Also where the bits count already: what the peer lacks was there before, and has a name that it does not have. The Primary has
// nothing to work on until its own disk is back, which has what its applications had.
func TestMetaLostRenewal(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Disconnect{Force: true})
	p.must(p.b, Disconnect{Force: true})
	p.write(p.a, 0, bytes.Repeat([]byte{7}, 4096))
	p.must(p.a, Down{})
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	v := p.a.e.vols[0]
	if v.answeredAlone = false; v.uuids.Bitmap == 0 { // it is another daemon
		t.Fatalf("nothing counts\n%s", p.story())
	}
	p.a.fail = func(io DiskIO) Errno {
		if io.Meta && io.Op == DiskWrite && io.Off == v.layout.Superblock {
			return EIO
		}
		return OK
	}
	p.do(p.a, Promote{})
	p.want(p.a, "Primary/Unknown StandAlone Diskless/DUnknown")
	p.a.fail = nil
	p.must(p.a, Connect{})
	p.must(p.b, Connect{})
	p.settle(10 * time.Second)
	p.want(p.a, "Primary/Unknown StandAlone Diskless/DUnknown") // what the peer has is older
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	if r := p.read(p.a, 0); !p.a.done[r] || r.Err != OK || r.Data[0] != 7 {
		t.Fatalf("read: done %v, errno %d, data %d\n%s", p.a.done[r], r.Err, r.Data[0], p.story())
	}
	p.must(p.a, Connect{})
	p.inSyncAgain()
}

// Where neither the generation could be written nor the old one over it, and the first is on the disk all the same, that disk has what the Primary's applications
// had, under a name that they never heard.
func TestMetaLostGenerationIsThere(t *testing.T) {
	for _, together := range []bool{false, true} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.write(p.a, 0, filled(7, 4096))
		p.must(p.a, Demote{})
		p.must(p.b, Down{})
		v := p.a.e.vols[0]
		super := v.layout.Superblock
		p.a.hold = func(io DiskIO) bool { return io.Meta && io.Op == DiskWrite && io.Off == super }
		p.a.e.Command(p.now, 99, Promote{})
		for p.work(p.a) {
		}
		if len(p.a.held) != 1 {
			t.Fatalf("%d held\n%s", len(p.a.held), p.story())
		}
		failed := p.a.held[0]
		copy(p.a.disk[super:], failed.Data)
		p.a.fail, p.a.hold, p.a.held = func(io DiskIO) Errno { return EIO }, nil, nil
		p.a.e.DiskDone(p.now, failed.Token, EIO)
		p.settle(time.Second)
		p.want(p.a, "Primary/Unknown WFConnection Diskless/DUnknown")
		p.a.fail = nil
		if together {
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.must(p.b, Connect{})
			p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
		}
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		if r := p.read(p.a, 0); !p.a.done[r] || r.Err != OK || r.Data[0] != 7 {
			t.Fatalf("read: done %v, errno %d, data %d\n%s", p.a.done[r], r.Err, r.Data[0], p.story())
		}
		if !together {
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.must(p.b, Connect{})
		}
		p.inSyncAgain()
		if strings.Contains(p.story(), "ProtocolError") {
			t.Fatalf("the connection ends\n%s", p.story())
		}
	}
}

// A generation that cannot be written is not taken back if something was answered before it that is on this disk alone:
// with protocol A what the peer never received, with all what its disk has refused. The Primary stops, and does not go on
// with older data.
func TestMetaLostGenerationAfterAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		net  NetOptions
		part func(p *pair, loseSuper func()) *Request
	}{
		"not received": {NetOptions{Protocol: ProtocolA}, func(p *pair, loseSuper func()) *Request {
			p.b.mute[DataSock] = true
			w := p.overwrite(p.a, 7)
			loseSuper()
			p.b.wire[DataSock] = nil
			p.must(p.b, Disconnect{Force: true})
			p.b.mute[DataSock] = false
			p.must(p.b, Connect{})
			return w
		}},
		"refused": {NetOptions{}, func(p *pair, loseSuper func()) *Request {
			p.b.fail = func(io DiskIO) Errno { return EIO }
			p.a.mute[DataSock] = true
			w := p.overwrite(p.a, 7)
			p.b.fail = nil
			loseSuper()
			p.a.mute[DataSock] = false
			p.settle(time.Second)
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			return w
		}},
		"refused, and its epoch is over": {NetOptions{}, func(p *pair, loseSuper func()) *Request {
			p.b.fail = func(io DiskIO) Errno { return EIO }
			p.a.mute[DataSock] = true
			w := p.overwrite(p.a, 7)
			p.b.fail = nil
			if p.settle(time.Second); !p.a.e.confirmed(p.a.e.vols[0]) {
				p.t.Fatalf("the epoch is not over\n%s", p.story())
			}
			loseSuper()
			p.a.mute[DataSock] = false
			p.settle(time.Second)
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			return w
		}},
		"refused, and the daemon has died": {NetOptions{}, func(p *pair, loseSuper func()) *Request {
			p.b.fail = func(io DiskIO) Errno { return EIO }
			p.a.mute[DataSock] = true
			w := p.overwrite(p.a, 7)
			p.b.fail = nil
			p.a.mute[DataSock] = false
			p.newDaemon(p.a)
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			loseSuper()
			p.must(p.a, Promote{})
			p.settle(time.Second)
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.must(p.a, Connect{})
			return w
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, tc.net)
			p.inSync()
			p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
			p.settle(time.Second)
			super := p.a.e.vols[0].layout.Superblock
			w := tc.part(p, func() {
				p.a.fail = func(io DiskIO) Errno {
					if io.Meta && io.Op == DiskWrite && io.Off == super {
						return EIO
					}
					return OK
				}
			})
			if !p.a.done[w] || w.Err != OK {
				t.Fatalf("the write: done %v, errno %d\n%s", p.a.done[w], w.Err, p.story())
			}
			p.settle(10 * time.Second)
			if r := p.read(p.a, 0); !p.a.done[r] || r.Err != EIO {
				t.Fatalf("read: done %v, errno %d, data %d\n%s", p.a.done[r], r.Err, r.Data[0], p.story())
			}
			p.want(p.a, "Primary/Unknown StandAlone Diskless/DUnknown")
			p.a.fail = nil
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20}) // it has everything, under its old name
			if r := p.read(p.a, 0); !p.a.done[r] || r.Err != OK || r.Data[0] != 7 {
				t.Fatalf("read: done %v, errno %d, data %d\n%s", p.a.done[r], r.Err, r.Data[0], p.story())
			}
			p.must(p.a, Connect{})
			p.inSyncAgain()
		})
	}
}

// overwrite begins a write of 4096 times b at 0.
func (p *pair) overwrite(n *node, b byte) *Request {
	r := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{b}, 4096)}
	n.e.Submit(p.now, r)
	p.settle(0)
	return r
}

// The source of a resync cannot write down what the resync is called: the disk is lost, and the target does not hear that name. It would call its disk so, and what
// comes back here has never heard of it.
func TestSyncUUIDIsDurable(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.part()
	p.write(p.a, 0, filled(9, 4096))
	failing := false
	p.a.fail = func(io DiskIO) Errno {
		if failing = failing || p.a.isSuper(io) && p.a.e.State(0).Conn == sm.SyncSource; failing {
			return EIO
		}
		return OK
	}
	p.meet()
	if st := p.a.e.State(0); st.Conn != sm.Connected || st.Disk != sm.Diskless {
		t.Fatalf("a is %v\n%s", st, p.story())
	}
	p.a.fail = nil
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
	if strings.Contains(p.story(), "full resync") {
		t.Errorf("everything is copied\n%s", p.story())
	}
}

// A disk that was cut short lacks everything, for nobody knows what; also if there is no peer, and whoever attaches it.
func TestDiskThatWasCutShortLacksEverything(t *testing.T) {
	for _, later := range []bool{false, true} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.must(p.b, Down{})
		p.a.fail = func(io DiskIO) Errno {
			if io.Op == DiskRead {
				return ENODATA
			}
			return OK
		}
		p.read(p.a, 0)
		p.settle(0)
		p.a.fail = nil
		if later {
			p.must(p.a, Down{})
			p.newDaemon(p.a)
		}
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		if st := p.a.e.State(0); st.Disk != sm.Inconsistent || p.a.e.vols[0].bm.Count() < 8000>>2 {
			t.Errorf("later %v: %v, %d blocks are marked\n%s", later, st, p.a.e.vols[0].bm.Count(), p.story())
		}
	}
}
