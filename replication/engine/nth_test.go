package engine

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// nthLimit is how many I/Os of each node fail, one in each run.
const nthLimit = 200

// failNth makes the nth I/O of a node fail. Of a write the first half reaches the disk.
func (n *node) failNth(nth int, errno Errno) (failed *bool) {
	count := 0
	failed = new(bool)
	n.fail = func(io DiskIO) Errno {
		if count++; count != nth {
			return OK
		}
		*failed = true
		if half := io.Len / 1024 * 512; io.Op == DiskWrite && half > 0 {
			copy(n.disk[io.Off:], io.Data[:half])
		}
		return errno
	}
	return failed
}

// try gives an order that may be refused, and has to be answered.
func (p *pair) try(n *node, c Command) error {
	p.t.Helper()
	err := p.do(n, c)
	p.known()
	return err
}

// io is a request that may fail, and has to be answered. A flush or a write that succeeds has to be where it can be read.
func (p *pair) io(n *node, r *Request) {
	p.t.Helper()
	n.e.Submit(p.now, r)
	for p.settle(0); !n.done[r]; p.settle(time.Second) {
		if p.now > time.Hour {
			p.t.Fatalf("%v at %d is not answered\n%s", r.Op, r.Off, p.story())
		}
	}
	p.known()
}

// known wants disks that call themselves equal to be equal.
func (p *pair) known() {
	p.t.Helper()
	for _, n := range []*node{p.a, p.b} {
		if st := n.e.State(0); st.Conn != sm.Connected || !st.Redundant() {
			return
		}
	}
	v := p.a.e.vols[0]
	for off := int64(0); off < v.size; off += PageSize {
		end := min(off+PageSize, v.size)
		if bytes.Equal(p.a.disk[off:end], p.b.disk[off:end]) {
			continue
		}
		marked, _ := p.a.e.Marked(0, off, end-off)
		other, _ := p.b.e.Marked(0, off, end-off)
		if !marked && !other {
			p.t.Fatalf("both disks are UpToDate and differ at %d, and nobody knows\n%s", off, p.story())
		}
	}
}

// life leads a pair through what makes I/O of every kind: a first sync or none, writes, zero-outs, flushes and reads, a time apart on
// either node, another disk, changed roles, and an end in order.
func (p *pair) life() {
	fill := byte(0)
	work := func(n *node) {
		for i := int64(0); i < 10; i++ {
			fill++
			p.io(n, &Request{Op: OpWrite, Off: i * 180 << 10, Len: 8192, Data: filled(fill, 8192), FUA: i == 3})
		}
		p.io(n, &Request{Op: OpWriteZeroes, Off: 600 << 10, Len: 64 << 10})
		p.io(n, &Request{Op: OpDiscard, Off: 1 << 20, Len: 64 << 10})
		p.io(n, &Request{Op: OpFlush})
		p.io(n, &Request{Op: OpRead, Off: 0, Len: 16 << 10, Data: make([]byte, 16<<10)})
		p.settle(time.Second)
	}
	attach := func(n *node) {
		p.try(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk)), Flush: true, MetaFlush: true})
	}
	for _, n := range []*node{p.a, p.b} {
		attach(n)
		p.try(n, Connect{})
	}
	p.settle(time.Second)
	if p.try(p.a, Promote{}) != nil {
		p.try(p.a, Promote{Force: true})
	}
	p.settle(2 * time.Second)
	for range 4 {
		work(p.a)
	}
	p.try(p.a, Disconnect{})
	work(p.a)
	p.try(p.a, Connect{})
	p.try(p.b, Connect{})
	p.settle(2 * time.Second)
	p.try(p.b, Detach{})
	work(p.a)
	attach(p.b)
	p.settle(2 * time.Second)
	p.try(p.a, Detach{})
	work(p.a)
	attach(p.a)
	p.settle(2 * time.Second)
	if p.b.e.State(0).Redundant() && p.try(p.a, Demote{}) == nil && p.try(p.b, Promote{}) == nil { // otherwise it would be a split brain
		work(p.b)
		work(p.b)
		p.try(p.b, Demote{})
	}
	if p.b.e.State(0).Redundant() {
		p.try(p.a, Invalidate{})
	}
	p.settle(2 * time.Second)
	p.try(p.b, Down{})
	p.try(p.a, Down{})
}

// mends brings both nodes together again, as an administrator would who does what the messages say.
func (p *pair) mends() bool {
	for range 8 {
		for _, n := range []*node{p.a, p.b} {
			if st := n.e.State(0); st.Disk == sm.Diskless {
				p.do(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk)), Flush: true, MetaFlush: true})
			}
			if n.e.State(0).Conn == sm.StandAlone {
				p.do(n, Connect{})
			}
		}
		p.settle(5 * time.Second)
		a, b := p.a.e.State(0), p.b.e.State(0)
		switch {
		case a.Conn == sm.Connected && a.Redundant() && b.Redundant():
			return true
		case a.Conn == sm.Connected && a.Disk == sm.Inconsistent && b.Disk == sm.Inconsistent: // the first sync was never begun
			p.do(p.b, Promote{Force: true})
			p.settle(5 * time.Second)
			p.do(p.b, Demote{})
		case a.Role == sm.Primary:
			p.do(p.a, Demote{}) // its users work on what only the peer has
		case b.Role == sm.Primary:
			p.do(p.b, Demote{})
		}
	}
	return false
}

// TestEveryNthFails: whichever I/O of either node fails, with whichever error, nothing panics or hangs, disks that call themselves
// equal are, and both nodes come together again without anybody choosing between two sets of data.
func TestEveryNthFails(t *testing.T) {
	errnos := []Errno{EIO, ENOSPC, 30, ENODEV}
	for _, name := range []string{"a", "b"} {
		hit := 0
		for nth := 1; nth <= nthLimit; nth++ {
			t.Run(fmt.Sprint(name, "/", nth), func(t *testing.T) {
				p := newPair(t, 2<<20, NetOptions{})
				victim := p.a
				if name == "b" {
					victim = p.b
				}
				failed := victim.failNth(nth, errnos[nth%len(errnos)])
				p.life()
				if *failed {
					hit++
				}
				victim.fail = nil
				if !p.mends() {
					t.Fatalf("they do not come together: %v | %v\n%s", p.a.e.State(0), p.b.e.State(0), p.story())
				}
				p.equal()
			})
		}
		if hit != nthLimit {
			t.Errorf("%s: only %d of %d I/Os failed: the life is too short", name, hit, nthLimit)
		}
	}
}
