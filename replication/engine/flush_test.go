package engine

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// cachedPair is a connected pair of UpToDate disks with volatile caches, a is Primary.
func cachedPair(t *testing.T, net NetOptions) *pair {
	t.Helper()
	p := newPair(t, 8<<20, net)
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk)), Flush: true, MetaFlush: true})
		p.must(n, Connect{})
	}
	p.settle(time.Second)
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.must(p.a, Promote{})
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	return p
}

func dataFlush(io DiskIO) bool { return io.Op == DiskFlush && !io.Meta }

// TestFlushFallsBackOnPeer: with protocol A the peer is not asked for a FLUSH. If the
// own disk then fails to make the data durable, only the peer's word is left.
func TestFlushFallsBackOnPeer(t *testing.T) {
	for _, tc := range []struct {
		name string
		back func(*pair) // what the peer does in the end
		want Errno
	}{
		{"confirmed", func(p *pair) { p.b.mute = [2]bool{} }, OK},
		{"lost", func(p *pair) { p.a.e.ConnDown(p.now, NetworkFailure, nil) }, EIO},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := cachedPair(t, NetOptions{Protocol: ProtocolA})
			p.b.mute = [2]bool{true, true} // what is sent stays in the sockets
			p.write(p.a, 1<<20, bytes.Repeat([]byte{7}, 4096))
			p.a.fail = func(io DiskIO) Errno {
				if dataFlush(io) {
					return EIO
				}
				return OK
			}
			f := &Request{Op: OpFlush}
			p.a.e.Submit(p.now, f)
			p.settle(0)
			if p.a.done[f] {
				t.Fatalf("answered with %d, and the write is durable nowhere\n%s", f.Err, p.story())
			}
			tc.back(p)
			p.settle(time.Second)
			if !p.a.done[f] || f.Err != tc.want {
				t.Fatalf("done %v errno %d, want %d\n%s", p.a.done[f], f.Err, tc.want, p.story())
			}
			if tc.want == OK && p.b.disk[1<<20] != 7 {
				t.Fatal("the peer has confirmed what it does not have")
			}
		})
	}
}

// TestFlushWithoutData: a FLUSH states nothing when no good disk is within reach.
func TestFlushWithoutData(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.must(p.a, Detach{})
	p.settle(time.Second)
	p.b.conn = "away"
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	p.settle(time.Second)
	f := &Request{Op: OpFlush}
	p.a.e.Submit(p.now, f)
	p.settle(0)
	if !p.a.done[f] || f.Err != EIO {
		t.Fatalf("done %v errno %d, want EIO\n%s", p.a.done[f], f.Err, p.story())
	}
}

// TestFlushRemembersLoss: a connection that is lost, found and lost again during one
// slow local flush does not take back that the peer's confirmation is missing.
func TestFlushRemembersLoss(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.b.mute = [2]bool{true, true}
	w := &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: make([]byte, 4096)}
	p.a.e.Submit(p.now, w)
	p.settle(0)
	p.a.hold = dataFlush
	f := &Request{Op: OpFlush}
	p.a.e.Submit(p.now, f)
	p.settle(0)
	for range 2 {
		p.b.mute = [2]bool{}
		p.a.e.ConnDown(p.now, NetworkFailure, nil)
		p.settle(0)
	}
	if len(p.a.e.flushes) != 1 || !p.a.e.flushes[0].lost {
		t.Fatalf("%d flushes wait, the loss is forgotten\n%s", len(p.a.e.flushes), p.story())
	}
}

// TestFUAZeroOut: no disk zeroes durably by itself, so a zero-out with FUA is followed by a flush.
func TestFUAZeroOut(t *testing.T) {
	t.Run("here", func(t *testing.T) {
		p := cachedPair(t, NetOptions{})
		p.a.hold = dataFlush
		r := &Request{Op: OpWriteZeroes, Off: 64 << 10, Len: 4096, FUA: true}
		p.a.e.Submit(p.now, r)
		p.settle(time.Second)
		if p.a.done[r] || len(p.a.held) != 1 {
			t.Fatalf("answered %v with %d flushes under way, want 1", p.a.done[r], len(p.a.held))
		}
		p.a.e.DiskDone(p.now, p.a.held[0].Token, OK)
		p.settle(0)
		if !p.a.done[r] || r.Err != OK {
			t.Fatalf("done %v errno %d", p.a.done[r], r.Err)
		}
	})
	t.Run("on the peer", func(t *testing.T) {
		p := cachedPair(t, NetOptions{})
		p.b.hold = dataFlush
		r := &Request{Op: OpWriteZeroes, Off: 64 << 10, Len: 4096, FUA: true}
		p.a.e.Submit(p.now, r)
		p.settle(time.Second)
		if p.a.done[r] || len(p.b.held) != 1 || p.a.e.conn.apInFlight == 0 {
			t.Fatalf("answered %v, unconfirmed %d, with %d flushes of the peer under way, want 1", p.a.done[r], p.a.e.conn.apInFlight, len(p.b.held))
		}
		p.b.e.DiskDone(p.now, p.b.held[0].Token, OK)
		p.settle(time.Second)
		if !p.a.done[r] || r.Err != OK || p.a.e.conn.apInFlight != 0 {
			t.Fatalf("done %v errno %d", p.a.done[r], r.Err)
		}
	})
}

// A flush fails while the bitmaps are exchanged, and another waits for the end of that, which comes with the end of the disk: each is
// answered once.
func TestFlushFailsDuringBitmapExchange(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.must(p.b, Disconnect{Force: true})
	p.write(p.a, 0, filled(1, 4096))
	p.a.hold = dataFlush
	f := p.give(p.a, &Request{Op: OpFlush})
	p.b.hold = func(io DiskIO) bool { return io.Meta }
	p.b.id++
	p.b.e.Command(p.now, p.b.id, Connect{})
	p.settle(2 * time.Second)
	p.want(p.a, "Primary/Secondary WFBitMapS UpToDate/Consistent")
	second := p.give(p.a, &Request{Op: OpFlush})
	p.comesBack(p.a, EIO)
	p.ends(p.a, f, EIO)
	p.ends(p.a, second, EIO)
}

// A FLUSH that the own disk has done waits for a superblock to be answered, and the disk fails meanwhile: it is the peer's then.
func TestFlushHeldBackFallsBackOnPeer(t *testing.T) {
	for _, tc := range []struct {
		name string
		gone bool
		want Errno
	}{{"peer", false, OK}, {"none", true, EIO}} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
			p.inSync()
			p.write(p.a, 1<<20, bytes.Repeat([]byte{7}, 4096))
			release := p.a.e.holdAnswers(p.a.e.vols[0])
			f := &Request{Op: OpFlush}
			p.a.e.Submit(p.now, f)
			p.settle(0)
			if p.a.done[f] {
				t.Fatal("answered, and the superblock is not written")
			}
			p.a.fail = func(io DiskIO) Errno { return EIO }
			p.read(p.a, 0)
			p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
			if tc.gone {
				p.must(p.b, Disconnect{Force: true})
			}
			p.a.e.at(p.now)
			release()
			p.settle(time.Second)
			if !p.a.done[f] || f.Err != tc.want {
				t.Fatalf("done %v errno %d, want %d\n%s", p.a.done[f], f.Err, tc.want, p.story())
			}
		})
	}
}

// TestFailedFlushConfirmsNothing: what the peer has written and this disk could not make durable is not confirmed, and the peer marks it.
func TestFailedFlushConfirmsNothing(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.b.fail = func(io DiskIO) Errno {
		if dataFlush(io) {
			return EIO
		}
		return OK
	}
	p.write(p.a, 4096, make([]byte, 4096))
	p.a.mute[DataSock] = true // what is confirmed comes before the state of the disk
	p.settle(100 * time.Millisecond)
	p.a.mute[DataSock] = false
	p.settle(time.Second)
	if v := p.a.e.vols[0]; v.bm.CountRange(4096, 4096) != 1 {
		t.Errorf("the write is not marked: %v\n%s", v.state, p.story())
	}
}

// TestFlushConfirmsWhatItCovers: an epoch that ends while the disk is being flushed waits for the next flush.
func TestFlushConfirmsWhatItCovers(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.settle(time.Second)
	p.b.hold = dataFlush
	p.write(p.a, 0, make([]byte, 4096))
	p.settle(100 * time.Millisecond)
	p.write(p.a, 8192, make([]byte, 4096))
	p.settle(100 * time.Millisecond)
	if n := p.b.e.conn.in.finished(); len(p.b.held) != 1 || n != 2 {
		t.Fatalf("%d flushes are under way, %d epochs are finished\n%s", len(p.b.held), n, p.story())
	}
	first := p.b.held[0]
	p.b.held = nil
	p.b.e.DiskDone(p.now, first.Token, OK)
	p.settle(100 * time.Millisecond)
	var left []int64
	for w := range p.a.e.unconfirmed(p.a.e.vols[0]) {
		left = append(left, w.off)
	}
	if len(left) != 1 || left[0] != 8192 || len(p.b.held) != 1 {
		t.Errorf("the writes at %v are not confirmed, %d flushes are under way\n%s", left, len(p.b.held), p.story())
	}
}

// TestGoneDiskConfirmsNothing: a disk is let go whose cache could not be flushed. Nothing of what the peer wrote there is confirmed any more.
func TestGoneDiskConfirmsNothing(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.settle(time.Second)
	p.a.mute[DataSock] = true // what is confirmed comes before the state of the disk
	p.write(p.a, 4096, make([]byte, 4096))
	p.b.fail = func(io DiskIO) Errno {
		if dataFlush(io) {
			return EIO
		}
		return OK
	}
	p.b.e.readFailed(p.b.e.vols[0], EIO)
	p.settle(0)
	p.want(p.b, "Secondary/Primary Connected Diskless/UpToDate")
	p.b.fail = nil
	p.settle(100 * time.Millisecond)
	p.a.mute[DataSock] = false
	p.settle(time.Second)
	if v := p.a.e.vols[0]; !v.dirty(4096, 4096) {
		t.Errorf("the write is not marked: %v\n%s", v.state, p.story())
	}
}

// TestFlushThatIsLostWithTheLink: the own disk of a Primary is not good, and the link breaks before the peer has confirmed. It is there again when the own disk is
// done with the flush: that says nothing of what the peer had.
func TestFlushThatIsLostWithTheLink(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.must(p.a, PauseSync{On: true})
	p.must(p.a, Invalidate{})
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary PausedSyncT Inconsistent/UpToDate user_isp")
	p.a.hold, p.b.hold = dataFlush, dataFlush
	p.write(p.a, 0, filled(1, 4096))
	r := p.give(p.a, &Request{Op: OpFlush})
	p.part()
	p.b.flushes()
	p.meet()
	p.want(p.a, "Primary/Secondary WFBitMapT Inconsistent/UpToDate user_isp")
	if p.a.done[r] || len(p.a.held) == 0 {
		t.Fatalf("the flush is answered, or its own part done\n%s", p.story())
	}
	p.a.flushes()
	p.settle(time.Second)
	p.ends(p.a, r, EIO)
}

// flushes ends the flushes that were held.
func (n *node) flushes() {
	held := n.held
	n.hold, n.held = nil, nil
	for _, io := range held {
		n.e.DiskDone(n.e.now, io.Token, OK)
	}
}

// A disk that is let go, and does not hang, is flushed: what the peer wrote to it is durable, and the peer hears so, over the same connection.
func TestDetachedDiskConfirms(t *testing.T) {
	for _, order := range []Detach{{Force: true}, {}} {
		t.Run(fmt.Sprintf("force %v", order.Force), func(t *testing.T) { detachedDiskConfirms(t, order) })
	}
}

func detachedDiskConfirms(t *testing.T, order Detach) {
	p := newPair(t, 8<<20, NetOptions{})
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20, Flush: true})
		p.must(n, Connect{})
	}
	p.settle(time.Second)
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.must(p.a, Promote{})
	p.settle(time.Second)
	p.write(p.a, 0, filled(7, 4096))
	if p.a.e.confirmed(p.a.e.vols[0]) {
		t.Fatalf("the epoch is over already\n%s", p.story())
	}
	p.must(p.b, order)
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
	if !p.a.e.confirmed(p.a.e.vols[0]) || p.b.e.conn.generation != 1 {
		t.Errorf("connection %d\n%s", p.b.e.conn.generation, p.story())
	}
}
