package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// gone lets a node die, and the other not know it yet: what is sent goes nowhere, and nothing comes.
func (p *pair) gone(n *node) {
	n.conn = "dead"
	n.hold = hangs
}

// failsReads has the disk of a node return errors of reads.
func failsReads(io DiskIO) Errno {
	if io.Op == DiskRead && !io.Meta {
		return EIO
	}
	return OK
}

// A disk fails in the seconds before it is noticed that the peer has died: nothing is written elsewhere any more, so the disk is as good as it was. It can be
// taken into use again by the Primary that has lost it, and by a later one, and nobody has to force that.
func TestDiskFailsBesideADeadPeer(t *testing.T) {
	for name, lose := range map[string]func(p *pair, n *node){
		"read error":     func(p *pair, n *node) { n.fail = failsReads; p.read(n, 0); n.fail = nil },
		"hangs":          func(p *pair, n *node) { n.hold = hangs; p.read(n, 0); p.do(n, Detach{Force: true}); p.comesBack(n, OK) },
		"detach --force": func(p *pair, n *node) { p.must(n, Detach{Force: true}) },
	} {
		for _, busy := range []bool{false, true} {
			for _, later := range []bool{false, true} {
				t.Run(name, func(t *testing.T) {
					p := newPair(t, 8<<20, NetOptions{})
					p.inSync()
					p.write(p.a, 0, filled(1, 4096))
					p.gone(p.b)
					var before, after *Request
					if busy {
						before = p.give(p.a, &Request{Op: OpWrite, Off: 8192, Len: 4096, Data: filled(2, 4096)})
					}
					lose(p, p.a)
					if busy {
						after = p.give(p.a, &Request{Op: OpWrite, Off: 12288, Len: 4096, Data: filled(2, 4096)})
					}
					p.settle(5 * time.Second)
					p.want(p.a, "Primary/Unknown WFConnection Diskless/DUnknown")
					if busy {
						p.ends(p.a, before, EIO)
						p.ends(p.a, after, EIO)
					}
					if p.outdatedOnDisk(p.a) {
						t.Fatalf("the disk is Outdated, and nothing was written elsewhere\n%s", p.story())
					}
					if later {
						p.newDaemon(p.a)
						p.a.e.conn.phase = connNone
					}
					p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
					if warned := p.a.noticed("meet as a split brain"); warned == later {
						t.Fatalf("warned: %v\n%s", warned, p.story())
					}
					p.must(p.a, Promote{})
					if r := p.read(p.a, 0); r.Err != OK || r.Data[0] != 1 {
						t.Fatalf("read: errno %d, data %d\n%s", r.Err, r.Data[0], p.story())
					}
					p.write(p.a, 4096, filled(3, 4096))
				})
			}
		}
	}
}

// What was answered because of the peer's disk alone is there: the own one is old, also if that is the last that is heard of the peer.
func TestDiskFailsAndThePeerAnswersOnce(t *testing.T) {
	for what, hears := range map[string]func(p *pair){
		"a ping":  func(*pair) {},
		"a write": func(p *pair) { p.a.e.conn.fences = nil }, // the answer to the ping is lost
	} {
		t.Run(what, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.a.hold = func(io DiskIO) bool { return !io.Meta }
			r := p.give(p.a, &Request{Op: OpWrite, Len: 4096, Data: filled(1, 4096)})
			p.a.mute[MetaSock] = true
			held := p.a.held
			p.a.hold, p.a.held = nil, nil
			for _, io := range held {
				p.a.e.DiskDone(p.now, io.Token, EIO)
			}
			hears(p)
			after := &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(2, 4096)}
			p.a.e.Submit(p.now, after)
			p.a.mute[MetaSock] = false
			p.settle(0)
			p.ends(p.a, r, OK)
			p.ends(p.a, after, OK)
			p.part()
			p.settle(time.Second)
			if got := p.onDisk(p.a); got != metadata.DiskInconsistent {
				t.Fatalf("the disk is %v, and lacks what was answered\n%s", got, p.story())
			}
			if err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20}); err == nil {
				t.Errorf("an old disk is taken into use\n%s", p.story())
			}
		})
	}
}

// A Secondary's disk fails, and the Primary has died: the data has gone on nowhere.
func TestSecondarysDiskFailsBesideADeadPrimary(t *testing.T) {
	for _, dead := range []bool{true, false} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		if dead {
			p.gone(p.a)
		}
		p.b.e.at(p.now)
		p.b.e.readFailed(p.b.e.vols[0], EIO)
		p.settle(5 * time.Second)
		if got := p.outdatedOnDisk(p.b); got == dead {
			t.Fatalf("dead %v, Outdated %v\n%s", dead, got, p.story())
		}
		if !dead {
			continue
		}
		p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.must(p.b, Promote{})
		if st := p.b.e.State(0); st.Disk != sm.UpToDate {
			t.Errorf("%v", st)
		}
	}
}

// A peer that sends everything but the answer to a ping holds writes back no longer than other answers that it owes.
func TestPeerThatDoesNotAnswerWhetherItLives(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.mute[MetaSock] = true
	p.must(p.a, Detach{Force: true})
	r := p.give(p.a, &Request{Op: OpWrite, Len: 4096, Data: filled(1, 4096)})
	for range 60 {
		p.a.e.heard(DataSock)
		p.settle(time.Second)
		p.a.e.heard(DataSock)
		if p.a.done[r] {
			p.ends(p.a, r, EIO)
			return
		}
	}
	t.Fatalf("the write waits for ever\n%s", p.story())
}

// A Primary whose disk has failed is demoted and promoted again before the peer, which is slow, has answered whether it lives. The
// disk is let go all the same when it has.
func TestPromotedBeforeThePeerHasAnswered(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.mute[MetaSock] = true
	p.must(p.a, Detach{Force: true})
	p.must(p.a, Demote{})
	p.must(p.a, Promote{})
	p.want(p.a, "Primary/Secondary Connected Failed/UpToDate")
	p.b.mute[MetaSock] = false
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	if !p.outdatedOnDisk(p.a) {
		t.Errorf("the disk is not Outdated\n%s", p.story())
	}
}

// A disk was given up while nobody else was there, and hangs on; a peer comes that has all of the data, and the Primary writes there. The disk says that
// it is old when the kernel gives it back: it is not promoted by mistake where the peer is out of reach.
func TestDiskHangsWhileThePeerComes(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.up()
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.must(p.a, Disconnect{Force: true})
	p.a.hold = func(io DiskIO) bool { return io.Meta }
	p.a.e.Command(p.now, 100, Promote{})
	p.settle(0)
	p.must(p.a, Detach{Force: true})
	p.must(p.a, Connect{})
	p.settle(10 * time.Second)
	p.want(p.a, "Primary/Secondary Connected Failed/UpToDate")
	p.write(p.a, 0, filled(1, 4096))
	p.comesBack(p.a, EIO)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.newDaemon(p.a)
	p.a.e.conn.phase = connNone
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	if err := p.do(p.a, Promote{}); err == nil {
		t.Errorf("promoted without what was answered\n%s", p.story())
	}
}

// The peer has heard that the disk is lost, has begun a generation, and nothing that it said came back. Once it is seen, the disk is not
// taken into use below the applications: both would have begun one, and neither for anything.
func TestPeerHasGoneOnUnheard(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.mute = [2]bool{true, true}
	p.a.fail = failsReads
	p.read(p.a, 0)
	p.a.fail = nil
	p.settle(0)
	p.a.wire = [2][]byte{}
	p.b.conn, p.a.conn = "", ""
	p.b.e.ConnDown(p.now, BrokenPipe, nil)
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	p.a.mute = [2]bool{}
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Unknown StandAlone Diskless/DUnknown")
	if err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20}); err == nil {
		t.Fatalf("the disk is taken into use\n%s", p.story())
	}
	p.must(p.a, Demote{})
	p.must(p.a, Connect{})
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// The peer has a write that failed here, and was answered because of it, and never hears that the disk is lost: it begins no generation. The
// disk comes back under the same name, from a Primary that has crashed, as it seems: it lacks the write, and is the target.
func TestDiskThatLacksWhatThePeerAloneHas(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	w := p.give(p.a, &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: filled(7, 4096)})
	p.settle(0)
	p.b.mute[DataSock] = true
	p.a.hold = nil
	for _, io := range p.a.held {
		p.a.e.DiskDone(p.now, io.Token, EIO)
	}
	p.settle(0)
	p.ends(p.a, w, OK)
	p.b.wire = [2][]byte{}
	p.b.conn, p.a.conn = "", ""
	p.b.e.ConnDown(p.now, BrokenPipe, nil)
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	p.b.mute = [2]bool{}
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.must(p.b, Disconnect{Force: true})
	if err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20}); err == nil { // not without the peer
		t.Fatalf("the disk is taken into use\n%s", p.story())
	}
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
	if r := p.read(p.a, 1<<20); r.Err != OK || r.Data[0] != 7 {
		t.Fatalf("what was answered is gone: errno %d, data %d\n%s", r.Err, r.Data[0], p.story())
	}
}

// The same, and the daemon is another one, which knows of the disk only what it says itself. It is attached before the nodes meet, whose data has one name. The answer comes
// before it has shown that the peer lives, or after.
func TestDiskThatLacksWhatThePeerAloneHasSaysSo(t *testing.T) {
	writes := func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	for name, late := range map[string]bool{"answered at once": false, "answered after a ping": true} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.a.hold = writes
			if late {
				p.b.hold = writes
			}
			w := p.give(p.a, &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: filled(7, 4096)})
			p.settle(0)
			p.b.mute[DataSock] = true
			p.a.hold = nil
			for _, io := range p.a.held {
				p.a.e.DiskDone(p.now, io.Token, EIO)
			}
			p.settle(0)
			if late {
				p.releaseWrites(p.b)
				p.settle(0)
			}
			p.ends(p.a, w, OK)
			p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
			p.b.wire = [2][]byte{}
			p.b.conn, p.a.conn = "", ""
			p.b.e.ConnDown(p.now, BrokenPipe, nil)
			p.newDaemon(p.a)
			p.b.mute = [2]bool{}
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			if err := p.do(p.a, Promote{}); err == nil {
				t.Fatalf("promoted without what was answered\n%s", p.story())
			}
			p.must(p.a, Connect{})
			p.inSyncAgain()
			if got := p.a.disk[1<<20]; got != 7 {
				t.Fatalf("what was answered is gone: %d\n%s", got, p.story())
			}
		})
	}
}

// The same, and the disk takes nothing any more until it comes back, so that it calls itself good. The daemon knows better; the peer did, and has
// another disk by now. Whoever wants the data without what was answered has to say so.
func TestDiskThatLacksWhatThePeerAloneHasAndCannotSaySo(t *testing.T) {
	for name, between := range map[string]func(p *pair){
		"demoted":        func(*pair) {},
		"promoted again": func(p *pair) { p.must(p.a, Promote{}); p.must(p.a, Demote{}) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			w := p.lacksWrite()
			p.fails(p.a, takesNothing)
			p.ends(p.a, w, OK)
			if got := p.onDisk(p.a); got != metadata.DiskUpToDate {
				t.Fatalf("the disk is %v\n%s", got, p.story())
			}
			p.a.fail = nil
			p.must(p.a, Demote{})
			between(p)
			p.newDaemon(p.b)
			p.newDisk(p.b, 8<<20)
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.must(p.b, Connect{})
			p.settle(5 * time.Second)
			p.want(p.a, "Secondary/Secondary Connected Diskless/Inconsistent")
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			if err := p.do(p.a, Promote{}); err == nil {
				t.Fatalf("promoted without what was answered\n%s", p.story())
			}
		})
	}
}

// failsWrites has the disk of a node return errors of writes, and flushes.
func failsWrites(io DiskIO) Errno {
	if io.Op != DiskRead && !io.Meta {
		return EIO
	}
	return OK
}

// bothFail has both disks fail at one write, each while the data seems to go on with the other. Both say that they are old, and no generation has begun.
func (p *pair) bothFail() {
	p.t.Helper()
	p.a.hold, p.b.fail = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }, failsWrites
	p.a.mute[DataSock] = true
	w := p.give(p.a, &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: filled(7, 4096)})
	p.settle(0)
	held := p.a.held
	p.a.hold, p.a.held, p.b.fail = nil, nil, nil
	p.b.mute[DataSock] = true
	for _, io := range held {
		p.a.e.DiskDone(p.now, io.Token, EIO)
	}
	p.settle(0)
	p.a.mute, p.b.mute = [2]bool{}, [2]bool{}
	p.settle(time.Second)
	p.ends(p.a, w, EIO)
	p.want(p.a, "Primary/Secondary Connected Diskless/Diskless")
	if !p.outdatedOnDisk(p.a) || !p.outdatedOnDisk(p.b) {
		p.t.Fatalf("a disk is not Outdated\n%s", p.story())
	}
}

// A disk that is Outdated comes back beside a Primary without one, which takes it for good until it has heard what it is. A write of that moment is refused: no generation
// begins on an old disk, and the one that the Primary gets back later would be the source.
func TestOutdatedDiskTakesNoWriteOfADisklessPrimary(t *testing.T) {
	for name, r := range map[string]*Request{
		"write": {Op: OpWrite, Off: 2 << 20, Len: 4096, Data: filled(8, 4096)},
		"zero":  {Op: OpWriteZeroes, Off: 0, Len: 4096},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.write(p.a, 0, filled(1, 4096))
			p.bothFail()
			p.b.mute[DataSock] = true // the answer
			p.b.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.settle(0)
			p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
			p.give(p.a, r)
			p.a.mute[DataSock], p.b.mute[DataSock] = true, false
			p.settle(0)
			p.want(p.b, "Secondary/Primary Connected Outdated/Diskless")
			p.ends(p.a, r, EIO)
			p.a.mute[DataSock] = false
			p.settle(0)
			p.want(p.a, "Primary/Secondary Connected Diskless/Outdated")
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.inSyncAgain()
		})
	}
}

// The same, and the peer's disk is lost and back as well, before the two are compared: both nodes decide on what this one has been announced as.
func TestDiskThatLacksWhatThePeerHadAndHasAgain(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	w := p.give(p.a, &Request{Op: OpWrite, Off: 1 << 20, Len: 4096, Data: filled(7, 4096)})
	p.settle(0)
	p.a.hold = nil
	p.a.mute[DataSock], p.b.mute[DataSock] = true, true
	for _, io := range p.a.held {
		p.a.e.DiskDone(p.now, io.Token, EIO)
	}
	p.settle(0)
	p.ends(p.a, w, OK)
	p.must(p.b, Detach{Force: true})
	p.b.mute[DataSock] = false
	p.settle(0)
	p.want(p.b, "Secondary/Primary Connected Diskless/Diskless")
	p.b.mute[DataSock] = true
	p.a.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(0)
	p.want(p.a, "Primary/Secondary Connected Negotiating/UpToDate")
	p.b.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(0)
	p.want(p.b, "Secondary/Primary Connected Negotiating/Diskless")
	p.a.mute[DataSock] = false
	p.settle(0)
	p.b.mute[DataSock] = false
	p.inSyncAgain()
	if r := p.read(p.a, 1<<20); r.Err != OK || r.Data[0] != 7 {
		t.Fatalf("what was answered is gone: errno %d, data %d\n%s", r.Err, r.Data[0], p.story())
	}
}

// noticed reports whether people were told something.
func (n *node) noticed(text string) bool {
	return slices.ContainsFunc(n.events, func(ev Event) bool {
		notice, is := ev.(Notice)
		return is && strings.Contains(notice.Text, text)
	})
}

// A disk hangs where nobody is Primary, and is given up; the peer is promoted then. The disk says that it is old when the kernel gives it back.
func TestDiskHangsWhileThePeerIsPromoted(t *testing.T) {
	for _, promoted := range []bool{true, false} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.must(p.a, Demote{})
		p.b.hold = hangs
		p.b.e.writeSuper(p.b.e.vols[0], noPages, nil)
		p.settle(0)
		p.must(p.b, Detach{Force: true})
		p.want(p.b, "Secondary/Secondary Connected Failed/UpToDate")
		if promoted {
			p.must(p.a, Promote{})
			p.write(p.a, 0, filled(2, 4096))
		}
		p.settle(time.Second)
		p.comesBack(p.b, OK)
		if got := p.outdatedOnDisk(p.b); got != promoted {
			t.Errorf("the peer is Primary: %v, the disk is Outdated: %v\n%s", promoted, got, p.story())
		}
	}
}

// A peer that counted already when the disk here was lost, and begins no generation then, as the driver, has what was written since under the name of before: once it was
// used, the disk is not taken into use without it, also after the nodes have met again.
func TestPeerCountsUnderTheSameName(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	name := p.a.e.vols[0].uuids.Current
	p.must(p.a, Detach{})
	p.write(p.a, 1<<20, filled(7, 4096))
	p.b.e.vols[0].uuids.Current, p.a.e.vols[0].exposed = name&^sm.RoleBit, name
	p.part()
	p.meet()
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.part()
	if err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20}); err == nil {
		t.Fatalf("the disk is taken into use without what was written\n%s", p.story())
	}
}
