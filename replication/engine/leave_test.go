package engine

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// onDisk is what a node would find its disk to be if it was attached now.
func (p *pair) onDisk(n *node) metadata.DiskState {
	p.t.Helper()
	l, err := metadata.Place(metadata.Internal, 0, int64(len(n.disk)), int64(len(n.disk)))
	if err != nil {
		p.t.Fatal(err)
	}
	sb, err := metadata.DecodeSuperblock(n.disk[l.Superblock:][:PageSize])
	if err != nil {
		p.t.Fatal(err)
	}
	return sb.Flags.AtAttach(metadata.Attach{}).Disk
}

func (p *pair) outdatedOnDisk(n *node) bool {
	p.t.Helper()
	return p.onDisk(n) == metadata.DiskOutdated
}

// A disk that is let go while a Primary writes on to the other one is old, and says so: it is not promoted by mistake when that one is out of reach.
// A disk that nobody writes without keeps what it is, and so does the last good one.
func TestDiskThatIsLetGoIsOutdated(t *testing.T) {
	for name, c := range map[string]struct {
		let func(p *pair) *node
		old bool
	}{
		"the Primary's, detached":   {func(p *pair) *node { p.must(p.a, Detach{}); return p.a }, true},
		"the Secondary's, detached": {func(p *pair) *node { p.must(p.b, Detach{}); return p.b }, true},
		"the Primary's, failed": {func(p *pair) *node {
			p.a.fail = func(io DiskIO) Errno {
				if io.Op == DiskRead {
					return EIO
				}
				return OK
			}
			p.read(p.a, 0)
			p.a.fail = nil
			return p.a
		}, true},
		"without a Primary": {func(p *pair) *node { p.must(p.a, Demote{}); p.must(p.a, Detach{}); return p.a }, false},
		"the last good one": {func(p *pair) *node { p.must(p.b, Detach{}); p.must(p.a, Detach{Force: true}); return p.a }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			n := c.let(p)
			p.settle(time.Second)
			if got := p.outdatedOnDisk(n); got != c.old {
				t.Fatalf("the disk is Outdated: %v\n%s", got, p.story())
			}
			if n == p.a && c.old {
				p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
			}
			p.newDaemon(n)
			p.must(n, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			if err := p.do(n, Promote{}); (err == sm.OutdatedDisk) != c.old {
				t.Fatalf("promotion: %v\n%s", err, p.story())
			}
			if c.old {
				p.must(n, Connect{})
				p.inSyncAgain() // it is good again beside the other
				if p.outdatedOnDisk(n) {
					t.Error("it is still Outdated")
				}
			}
		})
	}
}

// A Primary whose disk hangs does not have the peer call its disk old, which is the last good one then: it asks when its own disk has
// written something, and if that does not come the order is taken back. A disk that fails instead is none to leave the peer for.
func TestHungDiskOutdatesNobody(t *testing.T) {
	for _, what := range []string{"metadata", "data", "a block", "comes back", "fails"} {
		t.Run(what, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.a.hold = func(io DiskIO) bool { return io.Meta == (what != "data") }
			if what == "a block" { // the flush does nothing without a cache, the superblock is elsewhere
				p.a.hold = func(io DiskIO) bool { return io.Op == DiskRead }
			}
			p.a.e.Command(p.now, 100, Disconnect{})
			p.settle(2 * time.Second)
			p.unanswered(p.a, 100)
			if p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate"); p.outdatedOnDisk(p.b) || len(p.a.held) == 0 {
				t.Fatalf("the last good disk is called old\n%s", p.story())
			}
			held := p.a.held
			p.a.hold, p.a.held = nil, nil
			switch what {
			case "comes back":
				p.a.held = held
				p.releaseWrites(p.a)
				p.settle(time.Second)
				p.succeeded(p.a, 100)
				p.want(p.b, "Secondary/Unknown WFConnection Outdated/DUnknown")
			case "fails":
				for _, io := range held {
					p.a.e.DiskDone(p.now, io.Token, EIO)
				}
				p.settle(time.Second)
				if err, ok := p.a.reply[100]; !ok || err == nil {
					t.Fatalf("answered: %v, %v\n%s", ok, err, p.story())
				}
				p.want(p.b, "Secondary/Primary Connected UpToDate/Diskless")
			default:
				if end, why := p.a.e.Withdraw(p.now, 100); end != Withdrawn || !strings.Contains(why, "does not answer") {
					t.Fatalf("taken back: %v, %q", end, why)
				}
				p.a.held = held
				p.releaseWrites(p.a)
				p.settle(5 * time.Second)
				p.unanswered(p.a, 100)
				p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
				p.must(p.a, Disconnect{})
				p.want(p.b, "Secondary/Unknown WFConnection Outdated/DUnknown")
			}
		})
	}
}

// Whoever leaves in order, the disk that the Primary writes without is Outdated, on the disk itself before the order is
// answered. It is not promoted by mistake, and when it is by force, both nodes find out.
func TestLeavingOutdatesTheSecondary(t *testing.T) {
	for name, leave := range map[string]struct {
		who func(p *pair) *node
		cmd Command
	}{
		"disconnect":               {func(p *pair) *node { return p.b }, Disconnect{}},
		"down":                     {func(p *pair) *node { return p.b }, Down{}},
		"the Primary's disconnect": {func(p *pair) *node { return p.a }, Disconnect{}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			n := leave.who(p)
			p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && io.Meta }
			n.e.Command(p.now, 100, leave.cmd)
			p.settle(0)
			p.unanswered(n, 100)
			if p.outdatedOnDisk(p.b) {
				t.Fatalf("the disk is Outdated before that is written\n%s", p.story())
			}
			p.releaseWrites(p.b)
			p.settle(100 * time.Millisecond)
			p.succeeded(n, 100)
			if !p.outdatedOnDisk(p.b) {
				t.Fatalf("the disk is not Outdated\n%s", p.story())
			}
			p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
			p.newDaemon(p.b)
			p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			if err := p.do(p.b, Promote{}); err != sm.OutdatedDisk || !strings.Contains(err.Error(), "lost with --force") {
				t.Fatalf("promotion of an old disk: %v", err)
			}
			p.must(p.b, Promote{Force: true})
			p.must(p.b, Connect{})
			if p.a.e.State(0).Conn == sm.StandAlone {
				p.must(p.a, Connect{})
			}
			p.settle(5 * time.Second)
			if !strings.Contains(p.story(), "split brain") {
				t.Errorf("nobody finds the split brain\n%s", p.story())
			}
		})
	}
}

// newDaemon replaces the one of a node as kill -9 does.
func (p *pair) newDaemon(n *node) {
	p.t.Helper()
	if n.conn == "up" {
		p.hangup(n.peer)
	}
	e, err := New(Config{Resource: "r0", Volumes: []VolumeConfig{{}}, Buffers: make([]byte, MinBuffers+VolumeBuffers), Random: n.e.cfg.Random})
	if err != nil {
		p.t.Fatal(err)
	}
	n.e, n.conn, n.wire, n.held = e, "", [2][]byte{}, nil
}

// A Secondary whose disk is the last good one may not leave; by force it does, and its disk is good still.
func TestLastGoodDiskStaysGood(t *testing.T) {
	for _, cmd := range []Command{Disconnect{}, Down{}} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.must(p.a, Detach{})
		if err := p.do(p.b, cmd); err == nil {
			t.Fatalf("%T is granted\n%s", cmd, p.story())
		}
		p.want(p.b, "Secondary/Primary Connected UpToDate/Diskless")
		p.a.conn = "dead"
		p.must(p.b, Disconnect{Force: true})
		p.want(p.b, "Secondary/Unknown StandAlone UpToDate/DUnknown")
		p.must(p.b, Promote{})
	}
}

// The peer closes the data socket before its consent, on the other one, has come: it is waited for.
func TestConsentToLeaveComesAfterTheEndOfData(t *testing.T) {
	for _, comes := range []bool{true, false} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.b.e.Command(p.now, 100, Disconnect{})
		p.work(p.b)   // the question is on its way
		p.b.conn = "" // what comes waits
		for i := 0; i < 10 && p.a.conn == "up"; i++ {
			p.work(p.a)
		}
		p.b.conn = "up"
		if len(p.b.wire[MetaSock]) == 0 || p.a.conn != "" {
			t.Fatalf("the peer has not consented and closed\n%s", p.story())
		}
		consent := p.b.wire[MetaSock]
		p.b.wire[MetaSock], p.a.conn = nil, "dead"
		p.b.e.ConnDown(p.now, BrokenPipe, nil)
		p.settle(10 * time.Millisecond)
		p.unanswered(p.b, 100)
		if comes {
			p.b.wire[MetaSock] = consent
		}
		p.settle(2 * time.Second)
		if comes {
			p.succeeded(p.b, 100)
		} else {
			p.leftSomehow(p.b, 100, LeaveError{Why: "the connection ended before the peer had agreed"})
		}
		if p.outdatedOnDisk(p.b) != comes {
			t.Errorf("Outdated %v, the consent came: %v\n%s", !comes, comes, p.story())
		}
	}
}

// leftSomehow fails the test unless a node has left, and was told what that lacks.
func (p *pair) leftSomehow(n *node, id uint64, want LeaveError) {
	p.t.Helper()
	if err, ok := n.reply[id].(*LeaveError); !ok || *err != want || n.e.State(0).Conn != sm.StandAlone {
		p.t.Fatalf("command %d: answered %v, the connection is %v\n%s", id, n.reply[id], n.e.State(0).Conn, p.story())
	}
}

// A leave that is carried out, and whose disk is not known to be Outdated, is no success: the peer does not answer, or the metadata
// cannot be written. A down goes on all the same.
func TestLeaveThatLacksSomethingIsNoSuccess(t *testing.T) {
	for name, c := range map[string]struct {
		who       func(p *pair) *node
		cmd       Command
		meanwhile func(p *pair)
		want      LeaveError
	}{
		"disconnect, no answer": {func(p *pair) *node { return p.b }, Disconnect{}, deaf, LeaveError{Why: "the connection ended before the peer had agreed"}},
		"down, no answer":       {func(p *pair) *node { return p.b }, Down{}, deaf, LeaveError{Why: "the connection ended before the peer had agreed"}},
		"the Primary's disconnect, no answer": {func(p *pair) *node { return p.a }, Disconnect{}, deaf,
			LeaveError{Peers: true, Why: "the connection ended before the peer had agreed"}},
		"disconnect, metadata fail": {func(p *pair) *node { return p.b }, Disconnect{}, failMeta, LeaveError{Why: "the metadata of volume 0 could not be written"}},
		"down, metadata fail":       {func(p *pair) *node { return p.b }, Down{}, failMeta, LeaveError{Why: "the metadata of volume 0 could not be written"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			n := c.who(p)
			c.meanwhile(p)
			n.e.Command(p.now, 100, c.cmd)
			p.settle(unansweredLimit + time.Minute)
			p.leftSomehow(n, 100, c.want)
			if _, down := c.cmd.(Down); down && n.e.State(0).Disk != sm.Diskless {
				t.Errorf("the disk is %v after a down\n%s", n.e.State(0).Disk, p.story())
			}
			if n == p.b && p.outdatedOnDisk(p.b) {
				t.Errorf("the disk is Outdated all the same\n%s", p.story())
			}
		})
	}
}

// The same where the disk fails before the peer has answered: it is good by what is written on it.
func TestLeaveWithFailingDiskIsNoSuccess(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	deaf(p)
	p.b.e.Command(p.now, 100, Disconnect{})
	p.settle(0)
	p.b.fail = func(io DiskIO) Errno { return EIO }
	p.b.e.at(p.now)
	p.b.e.flushFailed(p.b.e.vols[0], EIO)
	p.settle(0) // the peer lives
	p.b.e.ConnDown(p.now, NetworkFailure, nil)
	p.settle(time.Second)
	p.leftSomehow(p.b, 100, LeaveError{Why: "the metadata of volume 0 could not be written"})
	if p.outdatedOnDisk(p.b) {
		t.Errorf("the disk is Outdated all the same\n%s", p.story())
	}
}

// And where the peer is not known to have lived after that: the disk stays what it was.
func TestLeaveWithFailingDiskUnheard(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	deaf(p)
	p.b.e.Command(p.now, 100, Disconnect{})
	p.settle(0)
	p.b.e.at(p.now)
	p.b.e.flushFailed(p.b.e.vols[0], EIO)
	p.b.e.ConnDown(p.now, NetworkFailure, nil)
	p.settle(time.Second)
	p.leftSomehow(p.b, 100, LeaveError{Why: "the connection ended before the peer had agreed"})
	if p.outdatedOnDisk(p.b) {
		t.Errorf("the disk is Outdated all the same\n%s", p.story())
	}
}

// Nor before that is written on it.
func TestLeaveWaitsForFailingDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	deaf(p)
	p.b.e.Command(p.now, 100, Disconnect{})
	p.settle(0)
	p.b.hold = func(io DiskIO) bool { return io.Meta }
	p.b.e.at(p.now)
	p.b.e.flushFailed(p.b.e.vols[0], EIO)
	p.settle(0) // the peer lives
	p.b.e.ConnDown(p.now, NetworkFailure, nil)
	p.settle(time.Second)
	p.unanswered(p.b, 100)
	p.b.hold = nil
	for _, io := range p.b.held {
		copy(p.b.disk[io.Off:], io.Data[:io.Len])
		p.b.e.DiskDone(p.now, io.Token, OK)
	}
	p.settle(time.Second)
	p.succeeded(p.b, 100)
	if !p.outdatedOnDisk(p.b) {
		t.Errorf("the disk is not Outdated\n%s", p.story())
	}
}

// deaf has neither node hear the other's question, and they wait for the answer as long as they ever do.
func deaf(p *pair) { p.a.mute[DataSock], p.b.mute[DataSock] = true, true }

func failMeta(p *pair) {
	p.b.fail = func(io DiskIO) Errno {
		if io.Meta && io.Op == DiskWrite {
			return EIO
		}
		return OK
	}
}

// A peer that leaves at the same time has said before that it is Primary no more, or has this disk Outdated itself: nothing is lacking.
func TestLeavesThatCrossSucceed(t *testing.T) {
	for _, cmd := range []Command{Down{}, Disconnect{}} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.a.e.Command(p.now, 100, cmd)
		p.b.e.Command(p.now, 100, Down{})
		p.settle(2 * time.Second)
		p.succeeded(p.a, 100)
		p.succeeded(p.b, 100)
		if _, down := cmd.(Down); !down && !p.outdatedOnDisk(p.b) {
			t.Errorf("a Primary has left, and the disk is not Outdated\n%s", p.story())
		}
	}
}

// A forced disconnect does not wait for the answer that an orderly one waits for, and ends that one, too.
func TestForcedDisconnectOvertakesAnOrderlyOne(t *testing.T) {
	for _, cmd := range []Command{Disconnect{Force: true}, Down{Force: true}} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.b.hold = func(io DiskIO) bool { return io.Meta && io.Op == DiskWrite }
		p.a.e.Command(p.now, 100, Disconnect{})
		p.settle(100 * time.Millisecond)
		p.unanswered(p.a, 100)
		p.a.e.Command(p.now, 101, cmd)
		p.settle(time.Second)
		p.succeeded(p.a, 101)
		if _, down := cmd.(Down); down {
			p.succeeded(p.a, 100) // nobody is Primary any more
		} else {
			p.leftSomehow(p.a, 100, LeaveError{Peers: true, Why: "the connection ended before the peer had agreed"})
		}
	}
}

// The Primary's disk fails while the consent, and the generation that it begins with it, is written: the other disk is the
// last good one, and the connection ends without a consent that would outdate it.
func TestNoConsentToLeaveFromAFailingDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.fail = func(io DiskIO) Errno {
		if io.Meta && io.Op == DiskWrite {
			return EIO
		}
		return OK
	}
	p.b.e.Command(p.now, 100, Disconnect{})
	p.settle(2 * time.Second)
	if d := p.b.e.State(0).Disk; d != sm.UpToDate || p.outdatedOnDisk(p.b) {
		t.Fatalf("the last good disk is %v\n%s", d, p.story())
	}
}

// One request speaks for all volumes; one whose disk is worth less than Outdated keeps what it is.
func TestLeavingWithVolumesOfDifferentWorth(t *testing.T) {
	p := newPairOfTwo(t, 8<<20)
	p.must(p.b, PauseSync{On: true})
	p.must(p.b, Invalidate{})
	p.must(p.b, Disconnect{})
	if a, b := p.b.e.State(0).Disk, p.b.e.State(1).Disk; a != sm.Inconsistent || b != sm.Outdated {
		t.Errorf("the disks are %v and %v\n%s", a, b, p.story())
	}
	if a, b := p.a.e.State(0).PeerDisk, p.a.e.State(1).PeerDisk; a > sm.Outdated || b != sm.Outdated {
		t.Errorf("the peer takes them for %v and %v\n%s", a, b, p.story())
	}
}

// One answer to a leave speaks for all volumes: it comes when the last of them has made durable that its disk is old, also
// where another one has no disk and could answer at once.
func TestLeaveIsAnsweredWhenEveryVolumeIsDurable(t *testing.T) {
	for slow := range 2 {
		p := newPairOfTwo(t, 8<<20)
		if slow == 1 {
			p.must(p.b, Detach{Vol: 0})
		}
		p.b.hold = func(io DiskIO) bool { return io.Vol == slow && io.Meta && io.Op == DiskWrite }
		p.a.e.Command(p.now, 100, Disconnect{})
		p.settle(100 * time.Millisecond)
		p.unanswered(p.a, 100)
		held := p.b.held
		p.b.hold, p.b.held = nil, nil
		disk := p.b.disk
		if slow == 1 {
			disk = p.b.second
		}
		for _, io := range held {
			copy(disk[io.Off:], io.Data[:io.Len])
			p.b.e.DiskDone(p.now, io.Token, OK)
		}
		p.settle(100 * time.Millisecond)
		p.succeeded(p.a, 100)
		if d := p.b.e.State(slow).Disk; d != sm.Outdated {
			t.Errorf("the disk of volume %d is %v\n%s", slow, d, p.story())
		}
	}
}

// A connect that comes while an order to leave waits for the disk is refused: that order would never end, and what it allows itself would go on.
func TestNoConnectWhileLeaving(t *testing.T) {
	for _, c := range []Command{Disconnect{}, Disconnect{Force: true}, Down{}} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.b.hold = func(io DiskIO) bool { return io.Meta }
		p.b.e.Command(p.now, 100, c)
		p.settle(time.Second)
		if err := p.do(p.b, Connect{}); err != sm.InTransientState {
			t.Fatalf("connect during %T%+v: %v\n%s", c, c, err, p.story())
		}
		p.releaseWrites(p.b)
		p.settle(time.Second)
		if err, ok := p.b.reply[100]; !ok || err != nil {
			t.Errorf("%T%+v: answered %v, %v\n%s", c, c, ok, err, p.story())
		}
	}
}

// The connection ends while the Primary's disk has to show that it answers: the peer was not asked, and may be promoted.
func TestLeaveThatNeverAsked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.hold = hangs
	p.a.e.Command(p.now, 100, Disconnect{})
	p.settle(100 * time.Millisecond)
	p.unanswered(p.a, 100)
	p.part()
	p.a.hold = nil
	p.comesBack(p.a, OK)
	p.settle(time.Second)
	var lacks *LeaveError
	if err := p.a.reply[100]; !errors.As(err, &lacks) || !lacks.Peers {
		t.Errorf("answered %v\n%s", err, p.story())
	}
}
