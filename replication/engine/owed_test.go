package engine

import (
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
)

// lacksWrite has the peer confirm a write that the own disk has not ended.
func (p *pair) lacksWrite() *Request {
	p.t.Helper()
	p.inSync()
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	w := p.give(p.a, &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: filled(7, 4096)})
	p.settle(time.Second)
	if p.a.done[w] || p.b.disk[1<<20] != 7 {
		p.t.Fatalf("answered %v, the peer has %d\n%s", p.a.done[w], p.b.disk[1<<20], p.story())
	}
	return w
}

// fails ends with an error what a disk has kept, and what it is given from then on as a test says.
func (p *pair) fails(n *node, then func(DiskIO) Errno) {
	held := n.held
	n.hold, n.held, n.fail = nil, nil, then
	for _, io := range held {
		n.e.DiskDone(p.now, io.Token, EIO)
	}
	p.settle(0)
}

func takesNothing(DiskIO) Errno { return EIO }

func takesAll(DiskIO) Errno { return OK }

// dies is the death of a node that has lost its disk: what is on the disk is all that is left. The disk is attached, alone, by the next daemon, and the
// nodes meet again.
func (p *pair) dies(n *node) {
	p.t.Helper()
	p.a.mute, p.b.mute = [2]bool{}, [2]bool{}
	p.a.wire, p.b.wire = [2][]byte{}, [2][]byte{}
	n.hold, n.fail = nil, nil
	p.newDaemon(n)
	p.must(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk))})
	p.must(n, Connect{})
	p.inSyncAgain()
}

// The disk lacks a write that the peer has, and takes no superblock any more. Nobody but this daemon knows that: the answer is not given before the
// peer has announced that it goes on, and whoever dies then, the write is there.
func TestAnswerWaitsUntilTheDiskCannotBeTheSource(t *testing.T) {
	for name, c := range map[string]struct {
		lose  func(p *pair) // the disk
		early bool          // answered although the peer hears nothing
	}{
		"a superblock is written": {func(p *pair) { p.fails(p.a, takesAll) }, true},
		"nothing can be written":  {func(p *pair) { p.fails(p.a, takesNothing) }, false},
		"a superblock hangs":      {func(p *pair) { p.supersHang(p.a) }, false},
		"the disk hangs":          {func(p *pair) { p.a.hold = hangs; p.must(p.a, Detach{Force: true}) }, false},
	} {
		for _, heard := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				p := newPair(t, 8<<20, NetOptions{})
				w := p.lacksWrite()
				p.b.mute[DataSock] = true // that the disk is lost
				c.lose(p)
				p.settle(time.Second)
				if p.a.done[w] != c.early {
					t.Fatalf("answered: %v\n%s", p.a.done[w], p.story())
				}
				if heard {
					p.b.mute[DataSock] = false
					p.settle(0)
				}
				if c.early || heard {
					p.ends(p.a, w, OK)
				}
				p.dies(p.a)
				if got := p.a.disk[1<<20]; got != 7 && (c.early || heard) {
					t.Fatalf("what was answered is gone: %d\n%s", got, p.story())
				}
			})
		}
	}
}

// supersHang ends with an error what a disk has kept; from then on it keeps superblocks.
func (p *pair) supersHang(n *node) {
	held := n.held
	n.hold, n.held = n.isSuper, nil
	for _, io := range held {
		n.e.DiskDone(p.now, io.Token, EIO)
	}
	p.settle(0)
}

// A superblock that would say so is on its way: it is not on the disk.
func TestAnswerWaitsForASuperblockThatIsWritten(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	w := p.lacksWrite()
	p.b.mute[DataSock] = true
	p.supersHang(p.a)
	p.settle(time.Second)
	if len(p.a.held) != 1 || p.a.done[w] {
		t.Fatalf("%d superblocks, answered: %v\n%s", len(p.a.held), p.a.done[w], p.story())
	}
	p.comesBack(p.a, OK)
	p.ends(p.a, w, OK)
	if got := p.onDisk(p.a); got != metadata.DiskInconsistent {
		t.Errorf("the disk is %v\n%s", got, p.story())
	}
	p.dies(p.a)
}

// Neither can be any more: the write ends with an error, and those after it; the disk is as good as it was, and nobody has to force anything.
func TestOwedAnswerEndsWithTheConnection(t *testing.T) {
	for name, end := range map[string]func(p *pair){
		"the connection is lost":    func(p *pair) { p.gone(p.b) },
		"the peer's disk is lost":   func(p *pair) { p.b.e.at(p.now); p.b.e.readFailed(p.b.e.vols[0], EIO) },
		"the peer is disconnected":  func(p *pair) { p.a.e.Command(p.now, 100, Disconnect{Force: true}) },
		"the Primary's node leaves": func(p *pair) { p.a.e.Command(p.now, 100, Down{Force: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			w := p.lacksWrite()
			p.b.mute[DataSock] = true
			p.a.hold = hangs
			p.must(p.a, Detach{Force: true})
			if p.a.done[w] {
				t.Fatalf("answered\n%s", p.story())
			}
			end(p)
			p.settle(20 * time.Second)
			p.ends(p.a, w, EIO)
			after := p.give(p.a, &Request{Op: OpWrite, Len: 4096, Data: filled(8, 4096)})
			if p.settle(time.Second); !p.a.done[after] || after.Err == OK {
				t.Fatalf("the next write: answered %v, errno %d\n%s", p.a.done[after], after.Err, p.story())
			}
			p.a.held = nil
			p.a.hold = nil
			p.newDaemon(p.a)
			p.a.e.conn.phase = connNone
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.must(p.a, Promote{})
		})
	}
}

// A peer that lives, and never announces that it goes on, while the disk takes nothing: it owes an answer, and the connection ends in the time that it has.
func TestPeerThatNeverBeginsAGeneration(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	w := p.lacksWrite()
	p.a.mute[DataSock] = true
	p.fails(p.a, takesNothing)
	for range 60 {
		p.settle(time.Second)
		p.a.e.heard(DataSock)
		if p.a.done[w] {
			p.ends(p.a, w, EIO)
			return
		}
	}
	t.Fatalf("the write waits for ever\n%s", p.story())
}

// What was written may be in the cache of the disk that is lost: that the peer has it is no answer to a FLUSH before it is sure that this disk is not copied from.
func TestFlushWaitsUntilTheDiskCannotBeTheSource(t *testing.T) {
	for _, flushed := range []bool{true, false} {
		p := newPair(t, 8<<20, NetOptions{})
		for _, n := range []*node{p.a, p.b} {
			p.must(n, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20, Flush: true})
			p.must(n, Connect{})
		}
		p.settle(time.Second)
		p.must(p.a, NewCurrentUUID{ClearBitmap: true})
		p.must(p.a, Promote{})
		p.write(p.a, 1<<20, filled(7, 4096))
		if p.a.fail = failsReads; !flushed {
			p.a.fail = takesNothing
		}
		p.a.mute[DataSock] = true // what the peer announces
		p.a.e.Submit(p.now, &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)})
		p.settle(time.Second)
		f := p.give(p.a, &Request{Op: OpFlush})
		p.settle(time.Second)
		if p.a.done[f] != flushed {
			t.Fatalf("flushed here: %v, answered: %v\n%s", flushed, p.a.done[f], p.story())
		}
		p.a.mute[DataSock] = false
		p.settle(0)
		p.ends(p.a, f, OK)
	}
}

// The disk has the write that is answered when it is lost, so it lacks nothing. The peer has said nothing else before it was lost as well: the
// same daemon takes the disk into use again alone, and nobody has to force that.
func TestDiskThatHasWhatWasAnsweredIsGood(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	w := p.give(p.a, &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: filled(7, 4096)})
	p.a.mute[MetaSock], p.b.mute[DataSock], p.a.fail = true, true, failsReads
	p.give(p.a, &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)})
	p.a.fail = nil
	p.a.e.conn.fences = nil // the answer to the ping is lost
	p.a.mute[MetaSock] = false
	p.releaseWrites(p.b)
	p.settle(0)
	p.ends(p.a, w, OK)
	p.part()
	p.settle(time.Second)
	p.want(p.a, "Primary/Unknown WFConnection Diskless/DUnknown")
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.want(p.a, "Primary/Unknown WFConnection UpToDate/DUnknown")
	if r := p.read(p.a, 1<<20); r.Err != OK || r.Data[0] != 7 {
		t.Errorf("read: errno %d, data %d\n%s", r.Err, r.Data[0], p.story())
	}
}

// A Primary's disk is the target of a resync, and says so. The superblock that calls it good at the end is on its way when it fails: which of the two
// is on the disk shows later.
func TestAnswerWaitsForASuperblockThatSaysOtherwise(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	p.part()
	p.must(p.b, Promote{})
	p.write(p.b, 0, filled(1, 4096))
	p.must(p.b, Demote{})
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	p.meet()
	p.must(p.a, Promote{})
	p.want(p.a, "Primary/Secondary SyncTarget Inconsistent/UpToDate")
	w := p.give(p.a, &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: filled(7, 4096)})
	held := p.a.held
	p.a.hold, p.a.held = p.a.isSuper, nil
	for _, io := range held {
		if io.Off != 1<<20 {
			copy(p.a.disk[io.Off:], io.Data[:io.Len])
			p.a.e.DiskDone(p.now, io.Token, OK)
		}
	}
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	if got := p.onDisk(p.a); len(p.a.held) != 1 || got != metadata.DiskInconsistent {
		t.Fatalf("%d superblocks on their way, the disk is %v\n%s", len(p.a.held), got, p.story())
	}
	p.b.mute[DataSock] = true
	for _, io := range held {
		if io.Off == 1<<20 {
			p.a.e.DiskDone(p.now, io.Token, EIO)
		}
	}
	p.settle(time.Second)
	if p.a.done[w] {
		t.Fatalf("answered\n%s", p.story())
	}
	p.a.fail = takesNothing
	p.comesBack(p.a, EIO)
	if got := p.onDisk(p.a); p.a.done[w] || got != metadata.DiskUpToDate {
		t.Errorf("answered %v, the disk is %v\n%s", p.a.done[w], got, p.story())
	}
	p.b.mute[DataSock] = false
	p.settle(0)
	p.ends(p.a, w, OK)
}

// A disk is not taken into use before what the one before it lacks is answered.
func TestAttachWaitsForOwedAnswers(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	w := p.lacksWrite()
	p.b.mute[DataSock] = true
	p.fails(p.a, takesNothing)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.a.fail = nil
	p.a.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected Attaching/UpToDate")
	p.b.mute[DataSock] = false
	p.inSyncAgain()
	p.ends(p.a, w, OK)
	if err, ok := p.a.reply[100]; !ok || err != nil {
		t.Errorf("attach: answered %v, %v\n%s", ok, err, p.story())
	}
}

// Nothing of a Primary's is in the cache of a disk that could not be attached.
func TestFlushBesideADiskThatWasNotAttached(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	p.must(p.a, Detach{})
	p.must(p.a, Promote{})
	p.a.fail = func(io DiskIO) Errno {
		if io.Off == p.a.e.vols[0].layout.Bitmap {
			return EIO
		}
		return OK
	}
	if err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20, Flush: true}); err == nil {
		t.Fatal("attached")
	}
	p.ends(p.a, p.give(p.a, &Request{Op: OpFlush}), OK)
}

// A change waits for its superblock, and that costs the disk: the peer does not hear of a disk that is not there any more.
func TestLostDiskIsNotAnnouncedAsGood(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.hold = p.a.isSuper
	p.a.id++
	p.a.e.Command(p.now, p.a.id, Demote{})
	p.settle(0)
	p.want(p.a, "Secondary/Secondary Connected UpToDate/UpToDate")
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	seen := len(p.b.events)
	p.comesBack(p.a, EIO)
	p.want(p.b, "Secondary/Secondary Connected UpToDate/Diskless")
	for _, ev := range p.b.events[seen:] {
		if c, is := ev.(StateChange); is && c.To.PeerDisk.Usable() {
			t.Errorf("%v -> %v\n%s", c.From, c.To, p.story())
		}
	}
}

// The disk is lost and attached again while a write of the peer comes in: there is no disk yet that it could go to, which is no error of the new one.
func TestWriteThatComesWhileTheDiskIsLostAndBack(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.mute[DataSock] = true
	w := p.give(p.a, &Request{Op: OpWrite, Len: 64 << 10, Data: filled(2, 64<<10)})
	all := p.b.wire[DataSock]
	p.b.wire[DataSock] = all[p.b.e.Receive(p.now, DataSock, all[:len(all)/2]):]
	p.b.e.readFailed(p.b.e.vols[0], EIO)
	p.settle(0)
	p.b.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.a.mute[DataSock] = true
	p.settle(0)
	p.want(p.b, "Secondary/Primary Connected Negotiating/UpToDate")
	p.b.events = nil
	p.b.mute[DataSock] = false
	p.settle(0)
	if p.b.noticed("the disk has failed") {
		t.Fatalf("a good disk is given up\n%s", p.story())
	}
	p.a.mute[DataSock] = false
	p.inSyncAgain()
	p.ends(p.a, w, OK)
}

// The disk was the target of a resync before: that the other node counted then, and this one did not, says nothing any more.
func TestAnswerIsOwedAfterAResync(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{})
	p.write(p.a, 0, filled(1, 4096))
	p.must(p.b, Connect{})
	p.inSyncAgain()
	p.must(p.a, Demote{})
	p.must(p.b, Promote{})
	p.b.hold = dataWrite
	w := p.give(p.b, &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: filled(7, 4096)})
	p.settle(time.Second)
	p.a.mute[DataSock] = true // that the disk is lost
	if p.fails(p.b, takesNothing); p.b.done[w] {
		t.Fatalf("answered\n%s", p.story())
	}
	p.a.mute[DataSock] = false
	p.settle(0)
	p.ends(p.b, w, OK)
	p.dies(p.b)
	if got := p.b.disk[1<<20]; got != 7 {
		t.Fatalf("what was answered is gone: %d\n%s", got, p.story())
	}
}

// The disk hangs, and lacks what was answered. That the peer comes back asks nothing anew: where the data is, is known, and if the link breaks again before a
// ping is answered, the disk is not taken into use alone.
func TestWhatIsElsewhereIsNotAskedAgain(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	w := p.lacksWrite()
	p.a.hold = hangs
	p.must(p.a, Detach{Force: true})
	p.settle(time.Second)
	p.ends(p.a, w, OK)
	p.part()
	p.a.mute[MetaSock] = true
	p.a.conn, p.b.conn = "open", "open"
	p.settle(100 * time.Millisecond)
	p.want(p.a, "Primary/Secondary Connected Failed/UpToDate")
	if v := p.a.e.vols[0]; v.elsewhere != answered {
		t.Errorf("it is asked where the data is\n%s", p.story())
	}
	p.part()
	p.comesBack(p.a, EIO)
	p.want(p.a, "Primary/Unknown WFConnection Diskless/DUnknown")
	if err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20}); err == nil {
		t.Fatalf("the disk is taken into use\n%s", p.story())
	}
	p.meet()
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
	if got := p.a.disk[1<<20]; got != 7 {
		t.Errorf("what was answered is gone: %d\n%s", got, p.story())
	}
}
