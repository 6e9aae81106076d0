package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// release carries out the writes that were held, and holds no more.
func (p *pair) releaseWrites(n *node) {
	held := n.held
	n.hold, n.held = nil, nil
	for _, io := range held {
		if io.Op == DiskWrite {
			copy(n.disk[io.Off:], io.Data[:io.Len])
		}
		n.e.DiskDone(p.now, io.Token, OK)
	}
	p.settle(0)
}

// unanswered fails the test if a command was answered.
func (p *pair) unanswered(n *node, id uint64) {
	p.t.Helper()
	if err, ok := n.reply[id]; ok {
		p.t.Fatalf("command %d is answered (%v)\n%s", id, err, p.story())
	}
}

// succeeded fails the test unless a command was.
func (p *pair) succeeded(n *node, id uint64) {
	p.t.Helper()
	if err, ok := n.reply[id]; !ok || err != nil {
		p.t.Fatalf("command %d: answered %v, %v\n%s", id, ok, err, p.story())
	}
}

// deviceSize is that of the device that was started last.
func (n *node) deviceSize() int64 {
	size := int64(-1)
	for _, ev := range n.events {
		if d, ok := ev.(StartDevice); ok {
			size = d.Size
		}
	}
	return size
}

// A promotion waits for the last writes of a Primary whose connection is lost.
func TestPromotionWaitsForPeerWrites(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	r := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{7}, 4096)}
	p.a.e.Submit(p.now, r)
	p.settle(0)
	if len(p.b.held) != 1 {
		t.Fatalf("%d writes are held\n%s", len(p.b.held), p.story())
	}
	p.hangup(p.b)
	p.b.e.Command(p.now, 100, Promote{})
	p.settle(time.Second)
	p.unanswered(p.b, 100)
	p.releaseWrites(p.b)
	p.succeeded(p.b, 100)
}

// restart is a new daemon on a node: it has never seen the disk.
func (p *pair) restart(n *node) {
	p.t.Helper()
	p.must(n, Down{})
	e, err := New(Config{Resource: "r0", Volumes: []VolumeConfig{{}}, Buffers: make([]byte, MinBuffers+VolumeBuffers), Random: n.e.cfg.Random})
	if err != nil {
		p.t.Fatal(err)
	}
	n.e = e
}

// A node that is promoted while its disk is being attached serves the peer's disk, in
// its size; the own disk follows. Until then the peer hears of none.
func TestPromotionDuringAttach(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	p.restart(p.b)
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskRead }
	p.b.e.Command(p.now, 99, Connect{})
	p.b.e.Command(p.now, 100, Attach{BackingSize: size, MetaSize: size})
	p.settle(2 * time.Second)
	p.want(p.b, "Secondary/Secondary Connected Attaching/UpToDate")
	p.want(p.a, "Secondary/Secondary Connected UpToDate/Diskless")
	p.must(p.b, Promote{})
	p.want(p.a, "Secondary/Primary Connected UpToDate/Diskless")
	if got, want := p.b.deviceSize(), p.a.e.Status().Volumes[0].Size; got != want {
		t.Errorf("the device has %d bytes, want %d", got, want)
	}
	p.b.release()
	p.settle(time.Second)
	p.succeeded(p.b, 100)
	p.want(p.b, "Primary/Secondary Connected UpToDate/UpToDate")
}

// A node whose disk cannot be attached has the size from the peer.
func TestSizeAfterFailedAttach(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	want := p.a.e.Status().Volumes[0].Size
	p.restart(p.b)
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskRead }
	p.b.e.Command(p.now, 99, Connect{})
	p.b.e.Command(p.now, 100, Attach{BackingSize: size, MetaSize: size})
	p.settle(2 * time.Second)
	held := p.b.held
	p.b.hold, p.b.held = nil, nil
	for _, io := range held {
		p.b.e.DiskDone(p.now, io.Token, EIO)
	}
	p.settle(time.Second)
	p.must(p.b, Promote{})
	p.want(p.b, "Primary/Secondary Connected Diskless/UpToDate")
	if got := p.b.deviceSize(); got != want {
		t.Errorf("the device has %d bytes, want %d", got, want)
	}
}

// A promotion of which the peer was to be asked, once the metadata is written, is decided
// alone when the connection breaks before.
func TestPromotionOutlivesConnection(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.up()
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && io.Meta }
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Secondary Connected UpToDate/UpToDate")
	p.b.e.Command(p.now, 100, Promote{})
	p.settle(0)
	p.hangup(p.b)
	p.releaseWrites(p.b)
	p.settle(time.Second)
	p.succeeded(p.b, 100)
	if p.b.deviceSize() <= 0 {
		t.Fatalf("there is no device\n%s", p.story())
	}
}

// A Primary whose newest data is on a disk that failed does not go on with the peer's
// old one, whenever that is attached.
func TestOldDiskOfPeerAttachedLate(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.restart(p.b)
	p.settle(time.Second)
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.a.fail = func(io DiskIO) Errno { return EIO }
	p.read(p.a, 0)
	p.settle(time.Second)
	p.want(p.a, "Primary/Unknown WFConnection Diskless/Outdated")
	p.a.fail = nil
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskRead }
	p.b.e.Command(p.now, 99, Connect{})
	p.b.e.Command(p.now, 100, Attach{BackingSize: size, MetaSize: size})
	p.settle(2 * time.Second)
	p.want(p.a, "Primary/Secondary Connected Diskless/Diskless")
	p.b.release()
	p.settle(time.Second)
	p.want(p.a, "Primary/Unknown StandAlone Diskless/DUnknown")
	if r := p.read(p.a, 0); !p.a.done[r] || r.Err != EIO {
		t.Errorf("read: done %v, errno %d", p.a.done[r], r.Err)
	}
}

// A promotion that the peer was asked for is refused when the nodes are disconnected by order, whoever gives it; the
// node is no Primary, and its next order is obeyed.
func TestPromotionEndsWithDisconnect(t *testing.T) {
	for name, leaves := range map[string]func(p *pair){
		"the peer, in order": func(p *pair) { p.a.e.Command(p.now, 50, Disconnect{}) },
		"the peer, by force": func(p *pair) { p.a.e.Command(p.now, 50, Disconnect{Force: true}) },
		"the peer's down":    func(p *pair) { p.a.e.Command(p.now, 50, Down{}) },
		"this node, and it breaks": func(p *pair) {
			p.b.e.Command(p.now, 50, Disconnect{})
			p.hangup(p.b)
		},
		"this node, by force": func(p *pair) { p.b.e.Command(p.now, 50, Disconnect{Force: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.must(p.a, Demote{})
			p.b.mute[MetaSock] = true // the consent does not arrive
			p.b.e.Command(p.now, 100, Promote{})
			p.settle(0)
			p.unanswered(p.b, 100)
			p.b.wire[MetaSock], p.b.mute = nil, [2]bool{}
			leaves(p)
			p.settle(time.Second)
			if err := p.b.reply[100]; err != sm.LeftMeanwhile {
				t.Fatalf("the promotion ends with %v\n%s", err, p.story())
			}
			if r := p.b.e.State(0).Role; r != sm.Secondary {
				t.Fatalf("the node is %v\n%s", r, p.story())
			}
			p.must(p.b, Promote{})
		})
	}
}

// A node that is told to leave while the peer decides on its promotion leaves as a Primary, if that agrees, and the peer's disk is Outdated;
// one that goes down is Primary no more before it leaves. There is no second Primary.
func TestLeavesWhileThePeerDecidesOnAPromotion(t *testing.T) {
	for cmd, want := range map[Command]error{Disconnect{}: sm.OutdatedDisk, Down{}: nil} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.must(p.a, Demote{})
		p.b.e.Command(p.now, 100, Promote{})
		p.b.e.Command(p.now, 101, cmd)
		p.settle(time.Second)
		p.succeeded(p.b, 100)
		p.succeeded(p.b, 101)
		if err := p.do(p.a, Promote{}); err != want {
			t.Errorf("%T, then a promotion of the peer: %v, want %v\n%s", cmd, err, want, p.story())
		}
		left := sm.Secondary
		if want != nil {
			left = sm.Primary
		}
		for _, ev := range p.b.events {
			if ev, is := ev.(StateChange); is && ev.To.Conn == sm.Disconnecting && ev.To.Role != left {
				t.Errorf("%T leaves as a %v, want %v\n%s", cmd, ev.To.Role, left, p.story())
			}
		}
	}
}

// The survivor is promoted by one order, also before it has noticed that the Primary is gone; but not when the Primary turns out
// to live, and leaves in order while the ping is under way.
func TestPromotionOfSurvivor(t *testing.T) {
	for _, alive := range []bool{false, true} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		if !alive {
			p.a.conn = "dead"
		}
		p.b.mute[MetaSock] = true
		p.b.e.Command(p.now, 100, Promote{})
		p.settle(0)
		p.unanswered(p.b, 100)
		if alive {
			p.a.e.Command(p.now, 50, Down{})
		}
		p.settle(5 * time.Second)
		if alive {
			if err := p.b.reply[100]; err != sm.LeftMeanwhile {
				t.Fatalf("the promotion ends with %v\n%s", err, p.story())
			}
			continue
		}
		p.succeeded(p.b, 100)
		p.want(p.b, "Primary/Unknown WFConnection UpToDate/DUnknown")
	}
}

// A Primary that answers the ping lives: a promotion that waits beside it is refused when the connection breaks, and the next order is one to go
// on without that node.
func TestPromotionBesideALivingPrimary(t *testing.T) {
	for _, answered := range []bool{false, true} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.b.mute[MetaSock] = !answered
		p.b.e.Command(p.now, 100, Promote{})
		p.settle(0)
		p.unanswered(p.b, 100)
		p.b.wire[MetaSock] = nil
		p.a.conn = "away"
		p.hangup(p.b)
		p.settle(time.Second)
		if !answered {
			p.succeeded(p.b, 100)
			continue
		}
		if err := p.b.reply[100]; err != sm.PrimaryLost || p.b.e.State(0).Role != sm.Secondary {
			t.Fatalf("the promotion ends with %v\n%s", err, p.story())
		}
		p.must(p.b, Promote{})
	}
}

// A node that is promoted without its peer may lack what was answered there last, if nobody waited for its disk, and says so.
func TestPromotedAloneSaysWhatMayBeMissing(t *testing.T) {
	for _, tt := range []struct {
		proto Protocol
		alone bool
		said  bool
	}{{ProtocolA, true, true}, {ProtocolB, true, true}, {ProtocolC, true, false}, {ProtocolA, false, false}} {
		p := newPair(t, 8<<20, NetOptions{Protocol: tt.proto})
		p.inSync()
		if tt.alone {
			p.b.e.ConnDown(p.now, NetworkFailure, nil)
			for p.work(p.b) {
			}
			p.a.conn = "away"
		} else {
			p.must(p.a, Demote{})
		}
		p.must(p.b, Promote{})
		if said := strings.Contains(p.story(), "may be missing here"); said != tt.said {
			t.Errorf("%v, alone %v: said %v\n%s", tt.proto, tt.alone, said, p.story())
		}
	}
}

// A promotion by force says what it takes for good, unless nothing was ever there.
func TestForcedPromotionSaysWhatMayBeLost(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.up()
	p.must(p.a, Promote{Force: true})
	p.settle(5 * time.Second)
	if p.a.noticed("by force") {
		t.Fatalf("of a new disk\n%s", p.story())
	}
	p.must(p.b, Disconnect{})
	p.want(p.b, "Secondary/Unknown StandAlone Outdated/DUnknown")
	p.must(p.b, Promote{Force: true})
	if !p.b.noticed("what was written on the peer alone is lost") {
		t.Fatalf("of an Outdated one\n%s", p.story())
	}
	p = newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.must(p.b, Invalidate{})
	p.must(p.b, Promote{Force: true})
	if !p.b.noticed("mixture of old and new") {
		t.Fatalf("of an Inconsistent one\n%s", p.story())
	}
}
