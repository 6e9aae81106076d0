package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// give gives a node a request and lets what can happen at once happen.
func (p *pair) give(n *node, r *Request) *Request {
	p.t.Helper()
	n.e.Submit(p.now, r)
	p.settle(0)
	return r
}

func (p *pair) ends(n *node, r *Request, err Errno) {
	p.t.Helper()
	if !n.done[r] || r.Err != err {
		p.t.Fatalf("%v: answered %v, errno %d, want %d\n%s", r.Op, n.done[r], r.Err, err, p.story())
	}
}

// comesBack ends what a disk had kept, as the kernel would, and what it is given from then on.
func (p *pair) comesBack(n *node, err Errno) {
	p.t.Helper()
	held := n.held
	n.hold, n.held = nil, nil
	for _, io := range held {
		if io.Op == DiskWrite {
			copy(n.disk[io.Off:], io.Data)
		}
		n.e.DiskDone(p.now, io.Token, err)
	}
	p.settle(time.Second)
}

func hangs(DiskIO) bool { return true }

func filled(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func diskTimeout(p *pair, d time.Duration) {
	for _, n := range []*node{p.a, p.b} {
		n.e.vols[0].cfg.Disk.Timeout = d
	}
}

// flagsOnDisk are those of the superblock that a disk would show to the next attach.
func (n *node) flagsOnDisk() metadata.Flags {
	sb, err := metadata.DecodeSuperblock(n.disk[n.e.vols[0].layout.Superblock:][:PageSize])
	if err != nil {
		n.t.Fatal(err)
	}
	return sb.Flags
}

// Both disks fail, one after the other: the Secondary's comes back while the Primary's fails, before the two were compared. It lacks
// what was written meanwhile, which the Primary has said, so it is not taken for good, nor does a generation begin on it.
func TestDiskComesBackWhileThePrimarysFails(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Detach{Force: true})
	p.write(p.a, 0, filled(1, 4096))
	p.settle(time.Second)
	p.a.mute[DataSock] = true
	p.b.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected Negotiating/UpToDate")
	current := p.b.e.Status().Volumes[0].UUIDs.Current
	p.a.fail = func(DiskIO) Errno { return EIO }
	p.a.e.Submit(p.now, &Request{Op: OpWrite, Off: 0, Len: 4096, Data: filled(2, 4096)})
	p.settle(time.Second)
	st := p.b.e.Status().Volumes[0]
	if st.State.Disk != sm.Outdated || st.UUIDs.Current != current {
		t.Fatalf("%v, generation %016X, was %016X\n%s", st.State, st.UUIDs.Current, current, p.story())
	}
}

// The same, where the disk was away before the Primary was promoted: what that began is announced to a peer without a disk, too.
func TestDiskComesBackWhileTheDiskOfAPromotionFails(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	p.must(p.b, Detach{})
	p.must(p.a, Promote{})
	p.write(p.a, 0, filled(1, 4096))
	p.a.mute[DataSock] = true
	p.b.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected Negotiating/UpToDate")
	p.a.fail = func(DiskIO) Errno { return EIO }
	p.a.e.Submit(p.now, &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected Outdated/Diskless")
	p.a.mute[DataSock], p.a.fail = false, nil
	p.settle(time.Second)
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.a, Connect{})
	p.inSyncAgain()
	if r := p.read(p.a, 0); r.Err != OK || r.Data[0] != 1 {
		t.Errorf("what was answered is gone: errno %d, data %d\n%s", r.Err, r.Data[0], p.story())
	}
}

// Both disks fail, the Secondary's first, which takes no superblock; the Primary writes on, loses its own, and is demoted. The disk that comes
// back then lacks what was written meanwhile: it is not promoted.
func TestDiskComesBackBesideADemotedPeerWithoutOne(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.fail = func(DiskIO) Errno { return EIO }
	p.b.e.Submit(p.now, &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)})
	p.write(p.a, 0, filled(1, 4096))
	p.settle(time.Second)
	p.b.fail = nil
	p.write(p.a, 4096, filled(2, 4096))
	p.settle(time.Second)
	p.a.fail = func(DiskIO) Errno { return EIO }
	p.a.e.Submit(p.now, &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)})
	p.settle(time.Second)
	p.a.fail = nil
	p.must(p.a, Demote{})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(time.Second)
	if d := p.b.e.State(0).Disk; d != sm.Outdated {
		t.Errorf("the disk is %v\n%s", d, p.story())
	}
	if err := p.do(p.b, Promote{}); err == nil {
		t.Errorf("promoted without what was answered\n%s", p.story())
	}
}

// The same, where the Secondary's disk was let go in order, and before the other node was promoted: that has announced its generation.
func TestDiskComesBackBesideADemotedPeerThatWasPromotedWithoutIt(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	p.must(p.b, Detach{})
	p.must(p.a, Promote{})
	p.write(p.a, 0, filled(1, 4096))
	p.a.fail = func(DiskIO) Errno { return EIO }
	p.a.e.Submit(p.now, &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)})
	p.settle(time.Second)
	p.a.fail = nil
	p.must(p.a, Demote{})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Secondary Connected Outdated/Diskless")
	if err := p.do(p.b, Promote{}); err == nil {
		t.Errorf("promoted without what was answered\n%s", p.story())
	}
}

// A disk is given up in the same turn in which a write has found its extent cold: the transaction of the activity log is never
// begun, and the write goes on without that disk.
func TestGivenUpBeforeLog(t *testing.T) {
	p := newPair(t, 32<<20, NetOptions{})
	p.inSync()
	p.write(p.a, 0, filled(9, 4096))
	p.a.hold = hangs
	hung := p.give(p.a, &Request{Op: OpWrite, Off: 0, Len: 4096, Data: filled(2, 4096)})
	w := &Request{Op: OpWrite, Off: 16 << 20, Len: 4096, Data: filled(1, 4096)}
	p.a.e.Submit(p.now, w)
	p.a.e.Command(p.now, 100, Detach{Force: true})
	p.settle(time.Second)
	p.ends(p.a, hung, OK)
	p.ends(p.a, w, OK)
	p.comesBack(p.a, OK)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	if !bytes.Equal(p.b.disk[16<<20:][:4096], w.Data) {
		t.Error("the peer lacks it")
	}
}

// The Secondary's disk does not answer: with disk-timeout the Primary's application goes on, its write is known to be
// missing there, and nothing of the Secondary's memory is used again before the disk has given it up.
func TestDiskTimeoutSecondary(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	diskTimeout(p, 5*time.Second)
	p.inSync()
	p.b.hold = hangs
	w := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
	p.settle(4900 * time.Millisecond)
	if p.a.done[w] {
		t.Fatal("answered before the disk has taken too long")
	}
	used := p.b.e.pool.used
	p.settle(time.Second)
	p.ends(p.a, w, OK)
	p.want(p.a, "Primary/Secondary Connected UpToDate/Failed")
	p.want(p.b, "Secondary/Primary Connected Failed/UpToDate")
	if p.b.e.pool.used != used || used == 0 {
		t.Fatalf("%d bytes are kept for the disk, it has %d", p.b.e.pool.used, used)
	}
	if err := p.do(p.b, Attach{BackingSize: int64(len(p.b.disk)), MetaSize: int64(len(p.b.disk))}); err == nil {
		t.Fatal("another disk was attached while the old one uses the memory for metadata")
	}
	p.comesBack(p.b, OK)
	p.want(p.b, "Secondary/Primary Connected Diskless/UpToDate")
	if p.b.e.pool.used != 0 {
		t.Fatalf("%d bytes are still kept", p.b.e.pool.used)
	}
	if f := p.b.flagsOnDisk(); f.Has(metadata.WasUpToDate) {
		t.Fatalf("the disk that came back says %v: it could be promoted", f)
	}
	p.write(p.a, 8192, filled(2, 4096))
	p.must(p.b, Attach{BackingSize: int64(len(p.b.disk)), MetaSize: int64(len(p.b.disk))})
	p.settle(5 * time.Second)
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
}

// The Primary's disk does not answer: what the peer has is answered with it.
func TestDiskTimeoutPrimary(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	diskTimeout(p, 5*time.Second)
	p.inSync()
	p.write(p.a, 0, filled(9, 4096))
	p.a.hold = hangs
	w := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
	f := p.give(p.a, &Request{Op: OpFlush})
	r := p.give(p.a, &Request{Op: OpRead, Off: 0, Len: 4096, Data: make([]byte, 4096)})
	p.settle(6 * time.Second)
	p.ends(p.a, w, OK)
	p.ends(p.a, f, OK)
	p.ends(p.a, r, EAGAIN)
	if w.Held == 0 || r.Held == 0 {
		t.Fatalf("memory that the disk still has counts as free: write %v, read %v", w.Held, r.Held)
	}
	p.want(p.a, "Primary/Secondary Connected Failed/UpToDate")
	r.Data = make([]byte, 4096)
	p.ends(p.a, p.give(p.a, r), OK)
	if r.Data[0] != 9 || r.Held != 0 {
		t.Fatalf("read %d, held %v", r.Data[0], r.Held)
	}
	p.write(p.a, 4096, filled(2, 4096))
	p.comesBack(p.a, OK) // the write of before comes over what is newer
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.must(p.a, Attach{BackingSize: int64(len(p.a.disk)), MetaSize: int64(len(p.a.disk))})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	if p.a.disk[4096] != 2 {
		t.Fatal("what the disk wrote late was not copied over")
	}
	p.equal()
}

// Without the peer there is nothing to answer with but an error, and the disk, the only good one, stays good.
func TestDiskTimeoutAlone(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	diskTimeout(p, 5*time.Second)
	p.inSync()
	p.must(p.b, Down{})
	p.a.hold = hangs
	w := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
	r := p.give(p.a, &Request{Op: OpRead, Off: 0, Len: 4096, Data: make([]byte, 4096)})
	p.settle(6 * time.Second)
	p.ends(p.a, w, EIO)
	p.ends(p.a, r, EIO)
	p.comesBack(p.a, OK)
	if f := p.a.flagsOnDisk(); !f.Has(metadata.WasUpToDate) {
		t.Fatalf("the last good copy is locked away: %v", f)
	}
	p.must(p.a, Attach{BackingSize: int64(len(p.a.disk)), MetaSize: int64(len(p.a.disk))})
	p.must(p.b, Attach{BackingSize: int64(len(p.b.disk)), MetaSize: int64(len(p.b.disk))})
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.equal()
}

// A disk that comes back and then hangs again, or fails, is given back all the same.
func TestAbandonedTwice(t *testing.T) {
	for _, again := range []string{"hangs", "fails"} {
		t.Run(again, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			diskTimeout(p, 5*time.Second)
			p.inSync()
			p.b.hold = hangs
			p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
			p.settle(6 * time.Second)
			held := p.b.held
			if p.b.held = nil; again == "fails" {
				p.b.hold, p.b.fail = nil, func(DiskIO) Errno { return EIO }
			}
			for _, io := range held {
				p.b.e.DiskDone(p.now, io.Token, OK)
			}
			p.settle(6 * time.Second)
			if again == "hangs" {
				p.want(p.b, "Secondary/Primary Connected Failed/UpToDate")
				p.comesBack(p.b, OK)
			}
			p.want(p.b, "Secondary/Primary Connected Diskless/UpToDate")
		})
	}
}

// hungOrders are given to a node whose disk does not answer, without disk-timeout, and how its disk ends.
var hungOrders = []struct {
	name   string
	order  Command
	within time.Duration
	disk   string
	says   string
}{
	{"detach", Detach{Force: true}, 0, "Failed", ""},
	{"down", Down{Force: true}, 5 * time.Second, "Failed", ""},
	{"disconnect", Disconnect{Force: true}, 5 * time.Second, "Failed", ""},
}

func TestForcedOnHungDisk(t *testing.T) {
	for _, c := range hungOrders {
		t.Run(c.name+" of a Secondary", func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.b.hold = hangs
			w := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
			p.settle(10 * time.Second)
			p.forced(p.b, c.order, c.within, c.disk, c.says)
			p.settle(time.Second)
			p.ends(p.a, w, OK)
			p.settle(20 * time.Second)
			p.comesBack(p.b, OK)
		})
	}
	t.Run("detach of a Primary", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.a.hold = hangs
		w := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
		p.settle(10 * time.Second)
		p.forced(p.a, Detach{Force: true}, 0, "Failed", "")
		p.ends(p.a, w, OK)
	})
	t.Run("detach of a Primary whose superblock is being written", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.a.hold = hangs
		w := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
		p.b.conn = "away"
		p.a.e.ConnDown(p.now, NetworkFailure, nil) // a generation begins
		p.settle(10 * time.Second)
		p.forced(p.a, Detach{Force: true}, 0, "Failed", "")
		p.ends(p.a, w, EIO)
	})
}

// A disk that is given up keeps all buffers of the peer's blocks: the one that waits for a buffer needs none any more.
func TestGivenUpDiskLetsTheConnectionGoOn(t *testing.T) {
	p := newPair(t, 64<<20, NetOptions{})
	p.inSync()
	p.b.hold = hangs
	var all []*Request
	for i := int64(0); p.b.e.ReceiveReady(DataSock); i++ {
		if i == 60 {
			t.Fatal("the buffers are never used up")
		}
		all = append(all, p.give(p.a, &Request{Op: OpWrite, Off: i << 20, Len: 1 << 20, Data: filled(1, 1<<20)}))
	}
	p.b.id++
	p.b.e.Command(p.now, p.b.id, Detach{Vol: 0, Force: true})
	if !p.b.e.ReceiveReady(DataSock) {
		t.Fatal("the owner does not offer the bytes that are to be dropped")
	}
	p.settle(time.Second)
	for _, w := range all {
		p.ends(p.a, w, OK)
	}
}

// The consent to be outdated is not given by a disk that does not know of it.
func TestNoConsentOfAFailedDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.hold = p.b.isSuper
	p.a.id++
	p.a.e.Command(p.now, p.a.id, Disconnect{})
	p.settle(0)
	if len(p.b.held) == 0 {
		t.Fatal("nothing is to be durable before the answer")
	}
	p.comesBack(p.b, EIO)
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Unknown StandAlone UpToDate/DUnknown") // not Outdated, which the disk does not know of
}

// A forced down asks nobody: it does not wait for a peer that does not confirm what it was sent.
func TestForcedDownWaitsForNoConfirmation(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.hold = func(io DiskIO) bool { return !io.Meta }
	w := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
	p.forced(p.a, Down{Force: true}, 2*time.Second, "Diskless", "")
	p.ends(p.a, w, OK)
}

// forced gives an order, which has to be answered within a time.
func (p *pair) forced(n *node, c Command, within time.Duration, disk, says string) {
	p.t.Helper()
	n.id++
	n.e.Command(p.now, n.id, c)
	p.settle(within)
	err, ok := n.reply[n.id]
	text := ""
	if err != nil {
		text = err.Error()
	}
	if got := n.e.State(0).Disk.String(); !ok || got != disk || (says == "") != (err == nil) || !strings.Contains(text, says) {
		p.t.Fatalf("%T: answered %v within %v, %q; the disk is %s, want %s\n%s", c, ok, within, text, got, disk, p.story())
	}
}

// An attach that never ends is given up by detach --force, and by disk-timeout; the store is given back when the kernel has ended.
func TestHungAttach(t *testing.T) {
	for _, how := range []string{"force", "timeout"} {
		t.Run(how, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			if p.a.hold = hangs; how == "timeout" {
				diskTimeout(p, 5*time.Second)
			}
			p.a.id++
			id := p.a.id
			p.a.e.Command(p.now, id, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			if p.settle(6 * time.Second); how == "force" {
				p.must(p.a, Detach{Force: true})
			}
			if err, ok := p.a.reply[id]; !ok || err == nil {
				t.Fatalf("attach: answered %v, %v", ok, err)
			}
			if p.a.gaveBack() {
				t.Fatal("given back while the kernel works on it")
			}
			p.want(p.a, "Secondary/Unknown StandAlone Failed/DUnknown")
			p.comesBack(p.a, OK)
			if !p.a.gaveBack() {
				t.Fatal("not given back")
			}
			p.want(p.a, "Secondary/Unknown StandAlone Diskless/DUnknown")
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		})
	}
}

func (n *node) gaveBack() bool {
	for _, ev := range n.events {
		if _, ok := ev.(CloseBacking); ok {
			return true
		}
	}
	return false
}

// An order that nobody waits for any more is not carried out later; what has begun goes on, and says what it waits for.
func TestWithdraw(t *testing.T) {
	t.Run("a role that waits", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.a.hold = func(io DiskIO) bool { return !io.Meta }
		p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
		p.a.id++
		p.a.e.Command(p.now, p.a.id, Demote{})
		p.settle(5 * time.Second)
		if end, why := p.a.e.Withdraw(p.now, p.a.id); end != Withdrawn || !strings.Contains(why, "disk of volume 0 does not answer") {
			t.Fatalf("%v, why %q", end, why)
		}
		p.comesBack(p.a, OK)
		p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	})
	t.Run("a detach that waits for confirmations", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
		p.inSync()
		p.b.hold = func(io DiskIO) bool { return !io.Meta }
		p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
		p.a.id++
		p.a.e.Command(p.now, p.a.id, Detach{})
		p.settle(5 * time.Second)
		if end, _ := p.a.e.Withdraw(p.now, p.a.id); end != Withdrawn {
			t.Fatal("it goes on, and has not begun")
		}
		p.comesBack(p.b, OK)
		p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
		p.write(p.a, 0, filled(3, 4096))
	})
	t.Run("a generation that is being written", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.a.hold = func(DiskIO) bool { return true }
		p.a.id++
		p.a.e.Command(p.now, p.a.id, NewCurrentUUID{})
		p.settle(10 * time.Millisecond)
		if end, why := p.a.e.Withdraw(p.now, p.a.id); end != GoesOn || !strings.Contains(why, "metadata") {
			t.Fatalf("%v, why %q", end, why)
		}
		p.settle(5 * time.Second)
		if end, why := p.a.e.Withdraw(p.now, p.a.id); end != GoesOn || !strings.Contains(why, "disk of volume 0 does not answer") {
			t.Fatalf("%v, why %q", end, why)
		}
		p.comesBack(p.a, OK)
		if err, answered := p.a.reply[p.a.id]; !answered || err != nil {
			t.Fatalf("answered: %v, %v", answered, err)
		}
	})
	t.Run("a detach under way", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.b.hold = func(io DiskIO) bool { return !io.Meta }
		p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
		p.b.id++
		p.b.e.Command(p.now, p.b.id, Detach{})
		p.settle(5 * time.Second)
		if end, why := p.b.e.Withdraw(p.now, p.b.id); end != GoesOn || !strings.Contains(why, "detach --force") {
			t.Fatalf("%v, why %q", end, why)
		}
		p.comesBack(p.b, OK)
		p.want(p.b, "Secondary/Primary Connected Diskless/UpToDate")
	})
}

// A detach that was asked of a peer which does not answer does not stand in the way of a forced one.
func TestForcedDetachOvertakes(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.mute = [2]bool{true, true}
	p.b.id++
	first := p.b.id
	p.b.e.Command(p.now, first, Detach{})
	p.settle(0)
	p.forced(p.b, Detach{Force: true}, 0, "Failed", "")
	if err, ok := p.b.reply[first]; !ok || err == nil {
		t.Fatalf("the first: answered %v, %v", ok, err)
	}
	p.a.mute = [2]bool{}
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
}

// A disk that was given up has come back, and what has to be known of it hangs: it is given up again, and nothing more is written to it, from the memory
// that the kernel may still use.
func TestNothingIsWrittenWhileTheKernelHasTheMemory(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{})
	p.a.hold = hangs
	p.read(p.a, 0)
	p.do(p.a, Detach{Force: true})
	p.a.e.vols[0].setOutOfSync(4<<20, 4096)
	read := p.a.held
	p.a.held = nil
	for _, io := range read {
		p.a.e.DiskDone(p.now, io.Token, EIO)
	}
	p.settle(0)
	if len(p.a.held) != 1 || !p.a.isPages(p.a.held[0]) {
		t.Fatalf("%+v is being written\n%s", p.a.held, p.story())
	}
	p.do(p.a, Detach{Force: true})
	p.settle(5 * time.Second)
	if len(p.a.held) != 1 || p.a.e.Abandoned() != 1 {
		t.Errorf("%d I/Os were begun, %d given up\n%s", len(p.a.held)-1, p.a.e.Abandoned(), p.story())
	}
}

// The peer leaves, and the answer waits for another volume, and after it that the disk is let go. The disk hangs, is given up, and ends: it
// is given back once, and nothing is written to it after that.
func TestDiskIsGivenBackOnce(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	v := p.b.e.vols[0]
	p.b.hold = hangs
	p.b.e.writeSuper(v, noPages, nil)
	p.settle(0)
	p.must(p.b, Detach{Force: true})
	v.effects.push(queuedEffect{effect: sm.ReleaseDisk{}}) // as the queue has it then
	v.running = true
	p.comesBack(p.b, OK)
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected Diskless/UpToDate")
	v.running = false
	issued := 0
	p.b.hold = func(DiskIO) bool { issued++; return false }
	p.b.e.runEffects(v)
	p.settle(time.Second)
	if issued > 0 || v.leaving != staying {
		t.Errorf("%d I/Os on a disk that was given back, leaving %d\n%s", issued, v.leaving, p.story())
	}
}

// A disk that was given up while it was attached may stay Failed for long: the peer hears that there is none.
func TestDiskGivenUpDuringItsAttachIsNone(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.a.hold = hangs
	p.a.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.a, Detach{Force: true})
	p.must(p.a, Connect{})
	p.must(p.b, Connect{})
	p.settle(time.Second)
	p.want(p.a, "Secondary/Secondary Connected Failed/Inconsistent")
	p.want(p.b, "Secondary/Secondary Connected Inconsistent/Diskless")
}
