package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
)

// release carries out the reads that were held, and holds no more.
func (n *node) release() {
	held := n.held
	n.hold, n.held = nil, nil
	for _, io := range held {
		copy(io.Data, n.disk[io.Off:io.Off+io.Len])
		n.e.DiskDone(0, io.Token, OK)
	}
}

// attachInHandshake has a read its metadata while the handshake runs, so that the
// attach, command 100, waits for the end of it. The peer never says a word.
func attachInHandshake(t *testing.T) *pair {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{KOCount: -1})
	n := p.a
	n.e.Command(p.now, 1, Connect{})
	n.hold = func(DiskIO) bool { return true }
	n.e.Command(p.now, 100, Attach{BackingSize: size, MetaSize: size})
	for p.work(n) {
	}
	n.e.ConnUp(p.now, Link{Features: Features})
	n.conn = "up"
	n.release()
	for p.work(n) {
	}
	if a := n.e.vols[0].attach; a == nil || !a.ready {
		t.Fatalf("the attach does not wait\n%s", p.story())
	}
	return p
}

// An attach that waits for a handshake goes on when the connection is lost.
func TestAttachHandshakeLost(t *testing.T) {
	p := attachInHandshake(t)
	p.a.e.ConnDown(p.now, BrokenPipe, nil)
	for p.work(p.a) {
	}
	p.want(p.a, "Secondary/Unknown WFConnection Inconsistent/DUnknown")
	if err, ok := p.a.reply[100]; !ok || err != nil {
		t.Fatalf("attach: answered %v, %v", ok, err)
	}
	p.must(p.a, Down{})
}

// An attach that waits for a handshake is over when its disk is let go.
func TestAttachDetachedInHandshake(t *testing.T) {
	p := attachInHandshake(t)
	p.a.e.Command(p.now, 101, Detach{Force: true})
	for p.work(p.a) {
	}
	p.want(p.a, "Secondary/Unknown WFReportParams Diskless/DUnknown")
	if err, ok := p.a.reply[100]; !ok || err == nil {
		t.Errorf("attach: answered %v, %v", ok, err)
	}
	if err, ok := p.a.reply[101]; !ok || err != nil {
		t.Errorf("detach: answered %v, %v", ok, err)
	}
	closed := 0
	for _, ev := range p.a.events {
		if _, ok := ev.(CloseBacking); ok {
			closed++
		}
	}
	if closed != 1 {
		t.Errorf("the backing store was given back %d times", closed)
	}
}

// pairOfTwoAndOne is a pair in which a has a volume 1 that b does not have. Both volumes of
// a are on one memory, which is good enough for what has no data.
func pairOfTwoAndOne(t *testing.T) *pair {
	p := newPair(t, 8<<20, NetOptions{})
	e, err := New(Config{
		Resource: "r0", Volumes: []VolumeConfig{{}, {Number: 1}}, Net: NetOptions{KOCount: -1},
		Buffers: make([]byte, MinBuffers+2*VolumeBuffers), Random: p.a.e.cfg.Random,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.a.e = e
	return p
}

// handshakes reports whether volume 1 of a waits for the peer's parameters.
func (p *pair) handshakes() bool { return p.a.e.vols[1].state.Conn == statemachine.WFReportParams }

// A volume that the peer does not have keeps no attach of another one waiting.
func TestAttachBesideUnknownVolume(t *testing.T) {
	p := pairOfTwoAndOne(t)
	p.a.hold = func(DiskIO) bool { return true }
	p.a.e.Command(p.now, 100, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.a.e.Command(p.now, 101, Connect{})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.b, Promote{Force: true})
	p.must(p.b, Connect{})
	if !p.handshakes() {
		t.Fatalf("volume 1 is %v", p.a.e.vols[1].state)
	}
	p.a.release()
	p.settle(5 * time.Second)
	p.want(p.a, "Secondary/Primary Connected UpToDate/UpToDate")
	if err, ok := p.a.reply[100]; !ok || err != nil {
		t.Errorf("attach: answered %v, %v", ok, err)
	}
	p.must(p.a, Down{})
}

// A Primary with a volume that the peer does not have goes down: it is demoted when
// the handshake is over, and its disks are let go after that.
func TestDownBesideUnknownVolume(t *testing.T) {
	p := pairOfTwoAndOne(t)
	for i := range p.a.e.vols {
		p.must(p.a, Attach{Vol: i, BackingSize: 8 << 20, MetaSize: 8 << 20})
	}
	p.must(p.a, Promote{Force: true})
	p.must(p.a, Connect{})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.b, Connect{})
	if !p.handshakes() {
		t.Fatalf("volume 1 is %v", p.a.e.vols[1].state)
	}
	l := p.a.e.vols[1].layout
	p.must(p.a, Down{})
	p.want(p.a, "Secondary/Unknown StandAlone Diskless/DUnknown")
	sb, err := metadata.DecodeSuperblock(p.a.disk[l.Superblock:][:PageSize])
	if err != nil || sb.Flags.Has(metadata.PrimaryInd) {
		t.Fatalf("superblock: %v, flags %v: it looks like a crash of a Primary", err, sb.Flags)
	}
}

// A disk is taken into use when the writes that began without it are answered, those
// too that wait for one another.
func TestAttachWaitsForWrites(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.b.mute[DataSock] = true
	first := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)}
	second := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{2}, 4096)}
	p.a.e.Submit(p.now, first)
	p.a.e.Submit(p.now, second)
	p.a.e.Command(p.now, 100, Attach{BackingSize: size, MetaSize: size})
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected Attaching/UpToDate")
	p.b.mute[DataSock] = false
	p.settle(5 * time.Second)
	if !p.a.done[first] || !p.a.done[second] || second.Err != OK {
		t.Fatalf("the writes are not answered\n%s", p.story())
	}
	if err, ok := p.a.reply[100]; !ok || err != nil {
		t.Errorf("attach: answered %v, %v", ok, err)
	}
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	if p.a.disk[0] != 2 || p.b.disk[0] != 2 {
		t.Errorf("the disks have %d and %d", p.a.disk[0], p.b.disk[0])
	}
}

// What the peer said before it knew of a disk is no answer to it: its generations may
// be others since, and the handshake would be decided on old ones.
func TestAttachHearsOldState(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{})
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.must(p.a, Demote{})
	p.must(p.a, PauseSync{On: true})
	p.must(p.b, Connect{})
	p.settle(2 * time.Second)
	p.want(p.b, "Secondary/Secondary PausedSyncT Inconsistent/UpToDate peer_isp")
	p.must(p.b, Detach{})
	p.settle(time.Second)
	p.b.mute[DataSock] = true
	p.must(p.a, PauseSync{})
	p.b.e.Command(p.now, 100, Attach{BackingSize: size, MetaSize: size})
	p.settle(0)
	p.want(p.b, "Secondary/Secondary Connected Negotiating/UpToDate peer_isp")
	p.b.events = nil
	p.b.mute[DataSock] = false
	p.settle(2 * time.Second)
	p.want(p.b, "Secondary/Secondary Connected UpToDate/UpToDate")
	p.equal()
	for _, ev := range p.b.events {
		if c, ok := ev.(StateChange); ok && strings.Contains(c.Cause, "full resync") {
			t.Errorf("%+v", c)
		}
	}
}

// A Source that never heard of the end of a resync finds it out when the Target's disk is attached
// again. Both have to decide on what it had before that.
func TestAttachAfterUnheardEnd(t *testing.T) { unheardEnd(t) }

// unheardEnd is that pair, afterwards.
func unheardEnd(t *testing.T) *pair {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{})
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	p.must(p.b, Connect{})
	p.settle(2 * time.Second)
	p.want(p.a, "Primary/Secondary SyncSource UpToDate/Inconsistent")
	p.a.mute[DataSock] = true
	p.releaseWrites(p.b)
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.a.wire[DataSock] = nil // the end is lost
	p.hangup(p.a)
	p.hangup(p.b)
	p.a.mute[DataSock] = false
	p.must(p.b, Detach{})
	p.write(p.a, 1<<20, bytes.Repeat([]byte{2}, 4096))
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
	p.b.events = nil
	p.must(p.b, Attach{BackingSize: size, MetaSize: size})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
	resynced := false
	for _, ev := range p.b.events {
		c, ok := ev.(StateChange)
		resynced = resynced || ok && c.Cause == "handshake: resync from the peer"
	}
	if !resynced {
		t.Errorf("both nodes did not decide alike\n%s", p.story())
	}
	return p
}

// What one handshake was decided on is no answer in the next one: the generations have
// gone on, and the Target would end with those of before.
func TestAttachAfterCorrection(t *testing.T) {
	p := unheardEnd(t)
	p.must(p.b, Detach{})
	p.write(p.a, 2<<20, bytes.Repeat([]byte{3}, 4096))
	p.settle(time.Second)
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
	if a, b := p.a.e.vols[0].uuids, p.b.e.vols[0].uuids; (a.Current^b.Current)&^1 != 0 {
		t.Errorf("generations %v and %v of equal disks\n%s", a, b, p.story())
	}
}
