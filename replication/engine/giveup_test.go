package engine

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// A Primary lets its disk be overwritten only when the other one has what was written here: with protocol A it has been
// answered before that, and the other node may die.
func TestDiskGivenUpAfterConfirmation(t *testing.T) {
	for name, order := range map[string]func(p *pair) (*node, Command){
		"invalidate-remote": func(p *pair) (*node, Command) { return p.b, InvalidateRemote{} },
		"invalidate":        func(p *pair) (*node, Command) { return p.a, Invalidate{} },
		"detach":            func(p *pair) (*node, Command) { return p.a, Detach{} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
			p.inSync()
			p.a.mute[MetaSock] = true
			p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
			n, cmd := order(p)
			n.e.Command(p.now, 100, cmd)
			r := &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: bytes.Repeat([]byte{2}, 4096)}
			p.settle(0)
			p.a.e.Submit(p.now, r)
			p.settle(time.Second)
			p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
			p.unanswered(n, 100)
			if p.a.done[r] {
				t.Fatalf("the second write is answered\n%s", p.story())
			}
			p.a.mute[MetaSock] = false
			p.settle(0)
			p.succeeded(n, 100)
			p.settle(10 * time.Second)
			if !p.a.done[r] || r.Err != OK {
				t.Fatalf("the second write: done %v, errno %d\n%s", p.a.done[r], r.Err, p.story())
			}
			if name == "detach" {
				p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
				p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			}
			p.inSyncAgain()
		})
	}
}

// If the other node dies before it has confirmed, the disk here stays the good one.
func TestDiskKeptWithoutConfirmation(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
	p.inSync()
	p.a.mute[MetaSock] = true
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.b.e.Command(p.now, 100, InvalidateRemote{})
	p.settle(0)
	if p.a.e.vols[0].asked.stage != askWaits {
		t.Fatalf("the request does not wait\n%s", p.story())
	}
	r := &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: bytes.Repeat([]byte{2}, 4096)}
	p.a.e.Submit(p.now, r)
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	for p.work(p.a) {
	}
	p.want(p.a, "Primary/Unknown WFConnection UpToDate/DUnknown")
	if !p.a.done[r] || r.Err != OK {
		t.Fatalf("the second write: done %v, errno %d\n%s", p.a.done[r], r.Err, p.story())
	}
}

// A detach whose time comes when the peer's disk is gone is refused here; if it is consented to, and that is heard of the peer's
// disk before, as well. The order is answered in both cases.
func TestDetachWithoutPeerDisk(t *testing.T) {
	for _, asked := range []bool{false, true} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		if asked {
			p.unheard(p.a, Detach{}, "Secondary/Primary Connected UpToDate/Failed")
		} else {
			p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
			p.a.e.Submit(p.now, &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)})
			p.settle(0)
			p.a.e.Command(p.now, 100, Detach{})
			p.settle(0)
		}
		p.b.e.readFailed(p.b.e.vols[0], EIO)
		p.settle(0)
		p.unanswered(p.a, 100)
		p.a.mute[MetaSock] = false
		p.releaseWrites(p.b)
		p.settle(10 * time.Second)
		if err, ok := p.a.reply[100]; !ok || err == nil {
			t.Fatalf("asked %v, answered %v, %v\n%s", asked, ok, err, p.story())
		}
		p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
	}
}

// hangsBelow is a pair in sync whose Primary's disk hangs with a write, or with the flush of one.
func hangsBelow(t *testing.T, op Op) (*pair, *Request) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.e.vols[0].flush = op == OpFlush
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.a.hold = hangs
	r := &Request{Op: op}
	if op == OpWrite {
		r.Off, r.Len, r.Data = 4096, 4096, bytes.Repeat([]byte{2}, 4096)
	}
	p.a.e.Submit(p.now, r)
	return p, r
}

// A Primary's disk hangs with something under way when it is asked for in order, and is given up by force then: what was under way is answered because the peer has
// it. A peer that had consented would begin no generation before the next write, and nobody may write one.
func TestForcedDetachBelowAnOrderlyOne(t *testing.T) {
	for name, order := range map[string]func(p *pair) (*node, Command){
		"invalidate-remote": func(p *pair) (*node, Command) { return p.b, InvalidateRemote{} },
		"invalidate":        func(p *pair) (*node, Command) { return p.a, Invalidate{} },
		"detach":            func(p *pair) (*node, Command) { return p.a, Detach{} },
	} {
		for _, op := range []Op{OpWrite, OpFlush} {
			t.Run(fmt.Sprint(name, " below a ", op), func(t *testing.T) {
				p, r := hangsBelow(t, op)
				p.settle(time.Second)
				n, cmd := order(p)
				n.e.Command(p.now, 100, cmd)
				p.settle(time.Second)
				p.unanswered(n, 100)
				p.a.e.Command(p.now, 101, Detach{Force: true})
				p.settle(2 * time.Second)
				if !p.a.done[r] || r.Err != OK {
					t.Fatalf("what was under way: done %v, errno %d\n%s", p.a.done[r], r.Err, p.story())
				}
				p.comesBack(p.a, OK)
				p.settle(time.Second)
				p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
				if _, ok := n.reply[100]; !ok {
					t.Error("the order is not answered")
				}
			})
		}
	}
}

// In order, a disk is given up when what is under way on it has ended, and not before.
func TestDiskGivenUpAfterItHasAnswered(t *testing.T) {
	for _, op := range []Op{OpWrite, OpFlush} {
		p, r := hangsBelow(t, op)
		p.settle(0)
		p.a.e.Command(p.now, 100, Detach{})
		p.settle(time.Second)
		p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
		p.comesBack(p.a, OK)
		p.settle(time.Second)
		p.succeeded(p.a, 100)
		p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
		if !p.a.done[r] || r.Err != OK {
			t.Fatalf("%v: done %v, errno %d\n%s", op, p.a.done[r], r.Err, p.story())
		}
	}
}
