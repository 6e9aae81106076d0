package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// newPairOfTwo is a pair with two volumes, each with a disk of its own, in sync and a
// Primary.
func newPairOfTwo(t *testing.T, size int64) *pair {
	p := newPair(t, size, NetOptions{})
	for _, n := range []*node{p.a, p.b} {
		e, err := New(Config{
			Resource: "r0", Volumes: []VolumeConfig{{}, {Number: 1}}, Buffers: make([]byte, MinBuffers+2*VolumeBuffers), Random: n.e.cfg.Random,
		})
		if err != nil {
			t.Fatal(err)
		}
		n.e, n.second = e, append([]byte(nil), n.disk...)
		for vol := range 2 {
			p.must(n, Attach{Vol: vol, BackingSize: size, MetaSize: size})
		}
		p.must(n, Connect{})
	}
	for vol := range 2 {
		p.must(p.a, NewCurrentUUID{Vol: vol, ClearBitmap: true})
	}
	p.must(p.a, Promote{})
	p.settle(time.Second)
	for i, st := range p.a.e.Status().Volumes {
		if got := st.State.String(); got != "Primary/Secondary Connected UpToDate/UpToDate" {
			t.Fatalf("volume %d of a is %s\n%s", i, got, p.story())
		}
	}
	return p
}

// together fails the test unless the volumes of a node are in the same state of the connection.
func (p *pair) together(n *node) sm.Conn {
	p.t.Helper()
	c := n.e.vols[0].state.Conn
	if !statesAll(n.e.vols, c) {
		p.t.Fatalf("%s: %v beside %v\n%s", n.name, n.e.vols[0].state, n.e.vols[1].state, p.story())
	}
	return c
}

// A connection that one volume cannot do without stays for all of them.
func TestDisconnectAsksEveryVolume(t *testing.T) {
	p := newPairOfTwo(t, 8<<20)
	p.must(p.a, Detach{Vol: 1})
	if err := p.do(p.a, Disconnect{}); !errors.Is(err, sm.NoUpToDateDisk) {
		t.Fatalf("disconnect: %v", err)
	}
	if c := p.together(p.a); c != sm.Connected {
		t.Errorf("the connection is %v\n%s", c, p.story())
	}
}

// One volume loses its disk while the peer is asked for the end of the connection: the
// volumes stay together, and come back to the peer.
func TestDiskLostWhileDisconnecting(t *testing.T) {
	p := newPairOfTwo(t, 8<<20)
	p.b.mute[DataSock] = true // the question is on its way
	p.a.e.Command(p.now, 100, Disconnect{})
	p.settle(0)
	p.a.fail = func(io DiskIO) Errno {
		if io.Vol == 1 {
			return EIO
		}
		return OK
	}
	r := &Request{Vol: 1, Op: OpRead, Len: 4096, Data: make([]byte, 4096)}
	p.a.e.Submit(p.now, r)
	p.settle(0)
	if d := p.a.e.vols[1].state.Disk; d.Usable() {
		t.Fatalf("the disk is %v", d)
	}
	p.b.mute[DataSock] = false
	p.settle(10 * time.Second)
	if err, ok := p.a.reply[100]; !ok || err == nil {
		t.Errorf("disconnect: answered %v, %v", ok, err)
	}
	if c := p.together(p.a); c != sm.Connected {
		t.Errorf("the connection is %v\n%s", c, p.story())
	}
}

// A promotion that the peer has not answered when the connection breaks is carried out
// on every volume, or on none: not one begins a generation for nothing.
func TestPromotionAloneOfAll(t *testing.T) {
	p := newPairOfTwo(t, 8<<20)
	p.must(p.a, Demote{})
	p.must(p.b, Detach{Vol: 0})
	p.a.mute[DataSock] = true
	p.b.e.Command(p.now, 100, Promote{})
	p.settle(0)
	before := p.b.e.vols[1].uuids
	p.hangup(p.b)
	p.settle(time.Second)
	if err, ok := p.b.reply[100]; !ok || !errors.Is(err, sm.NoUpToDateDisk) {
		t.Errorf("promotion: answered %v, %v", ok, err)
	}
	if got := p.b.e.vols[1].uuids; got != before {
		t.Errorf("generations %v, before %v", got, before)
	}
	p.together(p.b)
}

// A disk that was given up keeps the buffers of what it has not ended, all there were. The other volumes go on with those of their own, in
// both directions.
func TestGivenUpDiskLetsTheOtherVolumesGoOn(t *testing.T) {
	p := newPairOfTwo(t, 64<<20)
	p.b.hold = func(io DiskIO) bool { return io.Vol == 0 }
	for i := int64(0); p.b.e.ReceiveReady(DataSock); i++ {
		if i == 60 {
			t.Fatal("the buffers are never used up")
		}
		p.give(p.a, &Request{Op: OpWrite, Off: i << 20, Len: 1 << 20, Data: filled(1, 1<<20)})
	}
	p.b.id++
	p.b.e.Command(p.now, p.b.id, Detach{Vol: 0, Force: true})
	p.settle(time.Second)
	if p.b.e.Abandoned() == 0 {
		t.Fatal("the disk has kept nothing")
	}
	for i := range int64(20) {
		p.ends(p.a, p.give(p.a, &Request{Vol: 1, Op: OpWrite, Off: i << 20, Len: 1 << 20, Data: filled(byte(i), 1<<20)}), OK)
	}
	p.must(p.a, Detach{Vol: 1})
	r := p.give(p.a, &Request{Vol: 1, Op: OpRead, Off: 5 << 20, Len: 1 << 20, Data: make([]byte, 1<<20)})
	if p.ends(p.a, r, OK); r.Data[0] != 5 || r.Data[1<<20-1] != 5 {
		t.Fatalf("%d is read", r.Data[0])
	}
	p.comesBack(p.b, OK)
	if n := p.b.e.pool.used; n != 0 {
		t.Fatalf("%d bytes are still kept", n)
	}
}

// One volume leaves for good, and the end waits for its superblock, when the connection breaks: the others leave with it, and do not look for
// the peer without it for ever.
func TestVolumesLeaveTogether(t *testing.T) {
	p := newPairOfTwo(t, 8<<20)
	v := p.b.e.vols[0]
	p.b.hold = hangs
	p.b.e.writeSuper(v, lazyPages, nil)
	p.b.e.step(v, sm.Refused{Why: mismatchf("for good")}, "a test")
	p.b.e.ConnDown(p.now, NetworkFailure, nil)
	p.comesBack(p.b, OK)
	if c := p.together(p.b); c != sm.StandAlone {
		t.Errorf("the connection is %v\n%s", c, p.story())
	}
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
	if c := p.together(p.b); c != sm.Connected {
		t.Errorf("the connection is %v\n%s", c, p.story())
	}
}

// A promotion that the peer grants for one volume and refuses for the other is taken back.
func TestPromotionOfOneVolumeOnly(t *testing.T) {
	p := newPairOfTwo(t, 8<<20)
	p.must(p.a, Demote{})
	p.b.conn = "away" // its packets are made here
	p.a.e.Command(p.now, 100, Promote{})
	for p.work(p.a) {
	}
	for vol, code := range []int32{sm.CodeSuccess, sm.TwoPrimaries.RefusalCode()} {
		b := wire.AppendHeader100(nil, wire.Header{Cmd: wire.CmdStateChgReply, Volume: uint16(vol), Length: 4})
		p.a.e.Receive(p.now, MetaSock, wire.StateChgReply{Code: code}.Append(b))
		for p.work(p.a) {
		}
		p.a.e.Tick(p.now)
	}
	for p.work(p.a) {
	}
	if err, ok := p.a.reply[100]; !ok || err == nil {
		t.Errorf("promotion: answered %v, %v", ok, err)
	}
	for i, v := range p.a.e.vols {
		if v.state.Role != sm.Secondary {
			t.Errorf("volume %d is %v\n%s", i, v.state, p.story())
		}
	}
}

// A volume of the Primary has not been able to introduce itself, because a superblock of its hangs: the order to leave waits for that, and the peer
// lets go of every volume as one that the Primary writes on without.
func TestLeaveFollowsTheIntroduction(t *testing.T) {
	p := newPairOfTwo(t, 8<<20)
	p.part()
	p.a.hold = func(io DiskIO) bool { return io.Vol == 1 && io.Meta && io.Op == DiskWrite }
	e := p.a.e
	e.at(p.now)
	e.writeSuper(e.vols[1], noPages, nil)
	p.meet()
	if a, b := e.State(1).Conn, p.b.e.State(1).Conn; a <= sm.WFReportParams || b != sm.WFReportParams {
		t.Fatalf("volume 1 is %v here and %v there\n%s", a, b, p.story())
	}
	e.Command(p.now, 100, Disconnect{})
	p.settle(time.Second)
	p.unanswered(p.a, 100)
	p.comesBack(p.a, OK)
	p.succeeded(p.a, 100)
	for vol := range 2 {
		if st := p.b.e.State(vol); st.Disk != sm.Outdated {
			t.Errorf("volume %d of b is %v\n%s", vol, st, p.story())
		}
	}
}

// A packet for a connection that is over waits for a superblock of one volume while the others have found the peer again: the next one does not get it.
func TestPacketOfAnEndedConnection(t *testing.T) {
	p := newPairOfTwo(t, 8<<20)
	p.a.hold = func(io DiskIO) bool { return io.Vol == 1 && io.Meta && io.Op == DiskWrite }
	e := p.a.e
	e.at(p.now)
	e.writeSuper(e.vols[1], noPages, func(*Engine, Errno) {})
	e.Command(p.now, 100, PauseSync{Vol: 1, On: true}) // it is said by P_STATE
	p.settle(0)
	p.part()
	p.a.conn, p.b.conn = "open", "open"
	p.settle(2 * time.Second)
	if v := e.vols[1]; v.effects.len() == 0 || v.effects.front().link == e.conn.generation || !e.conn.up() {
		t.Fatalf("%d effects wait, connection %d\n%s", v.effects.len(), e.conn.generation, p.story())
	}
	p.b.events = nil
	p.comesBack(p.a, OK)
	p.must(p.a, PauseSync{Vol: 1})
	p.settle(10 * time.Second)
	for _, ev := range p.b.events {
		if ch, is := ev.(StateChange); is && ch.To.Conn.Ending() {
			t.Errorf("%v: %s\n%s", ch.To, ch.Cause, p.story())
		}
	}
	for vol := range 2 {
		if st := p.b.e.State(vol); !st.Redundant() {
			t.Errorf("volume %d of b is %v\n%s", vol, st, p.story())
		}
	}
}

// A node leaves with one volume that has no disk, for which nothing has to become durable: the disk of the other is Outdated all the same.
func TestLeaveWithoutOneDisk(t *testing.T) {
	for diskless := range 2 {
		p := newPairOfTwo(t, 8<<20)
		p.must(p.b, Detach{Vol: diskless})
		p.must(p.b, Disconnect{})
		if d := p.b.e.vols[1-diskless].state.Disk; d != sm.Outdated {
			t.Errorf("volume %d is %v\n%s", 1-diskless, d, p.story())
		}
		p.together(p.b)
	}
}
