package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

const stateSize = 20 // bytes of a P_STATE

// loseDiskBeforeState has a hear everything of the peer but its last P_STATE, lose its disk, and
// then hear that.
func (p *pair) loseDiskBeforeState() {
	p.t.Helper()
	last := p.a.wire[DataSock]
	cut := len(last) - stateSize
	if cut <= 0 {
		p.t.Fatalf("%d bytes are on their way\n%s", len(last), p.story())
	}
	p.a.wire[DataSock] = last[:cut:cut]
	p.b.mute[DataSock], p.a.mute[DataSock] = true, false
	for p.work(p.a) {
	}
	if !p.a.e.vols[0].peerKnown {
		p.t.Fatalf("the generations have not come\n%s", p.story())
	}
	p.a.fail = func(io DiskIO) Errno { return EIO }
	r := &Request{Op: OpRead, Len: 4096, Data: make([]byte, 4096)}
	p.a.e.Submit(p.now, r)
	for p.work(p.a) {
	}
	if d := p.a.e.vols[0].state.Disk; d.Usable() {
		p.t.Fatalf("the disk is %v\n%s", d, p.story())
	}
	p.a.fail = nil
	p.a.wire[DataSock] = append(p.a.wire[DataSock], last[cut:]...)
	for p.work(p.a) {
	}
	p.b.mute[DataSock] = false
	p.settle(time.Second)
}

// older fails the test if a reads what it had overwritten.
func (p *pair) older() {
	p.t.Helper()
	if got := p.a.e.vols[0].state.Conn; got != sm.StandAlone {
		p.t.Errorf("the connection is %v\n%s", got, p.story())
	}
	if r := p.read(p.a, 0); !p.a.done[r] || r.Err != EIO {
		p.t.Errorf("read: done %v, errno %d, data %d", p.a.done[r], r.Err, r.Data[0])
	}
}

// A Primary that loses its disk in the middle of a handshake does not go on with the
// older data of the peer.
func TestDiskLostInHandshake(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{})
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.a.mute[DataSock], p.b.mute[DataSock] = true, true
	p.must(p.b, Connect{})
	p.loseDiskBeforeState()
	p.older()
}

// Nor does one that loses it while the peer attaches.
func TestDiskLostWhilePeerAttaches(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.must(p.b, Detach{})
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.a.mute[DataSock] = true
	p.b.e.Command(p.now, 100, Attach{BackingSize: size, MetaSize: size})
	p.settle(0)
	p.loseDiskBeforeState()
	p.older()
}

// servedUnwritten has a, Primary without a disk, meet b with the generation that its own disk has: nothing was written since.
func (p *pair) servedUnwritten() {
	p.t.Helper()
	p.inSync()
	p.must(p.a, Detach{})
	p.must(p.b, Disconnect{Force: true})
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	p.noGeneration(p.b)
}

// A Primary without a disk writes, and never hears of the generation that the peer begins for that. The own disk is not
// attached alone: it would be a second successor of one set of data. Nor does it go on with the peer, because the generation
// may be for writes of others. When its applications have ended, it follows the peer.
func TestUnheardGenerationOfWrite(t *testing.T) {
	const size = 8 << 20
	for _, attach := range []bool{false, true} {
		p := newPair(t, size, NetOptions{})
		p.servedUnwritten()
		p.a.mute = [2]bool{true, true}
		w := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)}
		p.a.e.Submit(p.now, w)
		p.settle(0)
		if v := p.b.e.vols[0]; v.uuids.Bitmap == 0 || p.a.e.vols[0].exposed != v.uuids.Bitmap {
			t.Fatalf("generations %v, known there: %016X\n%s", v.uuids, p.a.e.vols[0].exposed, p.story())
		}
		p.a.wire = [2][]byte{}
		p.must(p.b, Disconnect{Force: true})
		p.a.mute = [2]bool{}
		if !p.a.done[w] || w.Err != EIO {
			t.Fatalf("the write: done %v, errno %d\n%s", p.a.done[w], w.Err, p.story())
		}
		if attach {
			if err := p.do(p.a, Attach{BackingSize: size, MetaSize: size}); err == nil || !strings.Contains(err.Error(), "connect first") {
				t.Fatalf("attach: %v\n%s", err, p.story())
			}
		}
		p.must(p.b, Connect{})
		p.settle(5 * time.Second)
		p.want(p.a, "Primary/Unknown StandAlone Diskless/DUnknown")
		p.must(p.a, Demote{})
		p.must(p.a, Attach{BackingSize: size, MetaSize: size})
		p.must(p.a, Connect{})
		p.inSyncAgain()
	}
}

// A Primary without a disk does not go on with what others have written on the peer's disk meanwhile.
func TestDiskOfPeerWrittenByOthers(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.servedUnwritten()
	p.must(p.b, Disconnect{Force: true})
	p.must(p.b, Promote{})
	p.write(p.b, 0, bytes.Repeat([]byte{1}, 4096))
	p.must(p.b, Demote{})
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Unknown StandAlone Diskless/DUnknown")
}

// A write that never came to the peer is no reason to refuse the own disk, once the peer has said so.
func TestAttachAloneAfterLostWrite(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.b.mute[DataSock] = true
	p.a.e.Submit(p.now, &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)})
	p.settle(0)
	p.b.wire[DataSock] = nil
	p.must(p.b, Disconnect{Force: true})
	p.b.mute[DataSock] = false
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
	p.noGeneration(p.b)
	p.must(p.b, Disconnect{Force: true})
	p.must(p.a, Attach{BackingSize: size, MetaSize: size})
	p.want(p.a, "Primary/Unknown WFConnection UpToDate/DUnknown")
	p.must(p.b, Connect{})
	p.inSyncAgain()
}

// A disk that was given up is not attached again without the peer, which may have begun a
// generation that was never heard of here.
func TestAttachAloneAfterDetach(t *testing.T) {
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.must(p.b, Disconnect{Force: true})
	err := p.do(p.a, Attach{BackingSize: size, MetaSize: size})
	if err == nil || !strings.Contains(err.Error(), "connect first") || strings.Contains(err.Error(), "FFFFFFFF") {
		t.Fatalf("attach: %v\n%s", err, p.story())
	}
}

// A Primary loses its disk when it has compared it with the peer's, which is older, and the peer has not heard of it: what it says waits for a
// superblock. The peer hears of a Primary without a disk, and calls its own good.
func TestDiskLostBeforeThePeerHearsOfIt(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.must(p.a, Demote{})
	p.must(p.a, Disconnect{Force: true})
	p.must(p.a, Promote{})
	p.write(p.a, 0, filled(1, 4096))
	p.must(p.a, Demote{})
	p.must(p.a, Connect{})
	p.a.hold = func(io DiskIO) bool { return io.Meta && io.Op == DiskWrite }
	p.a.e.Command(p.now, 100, Promote{})
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary WFBitMapS UpToDate/Consistent")
	p.want(p.b, "Secondary/Unknown WFReportParams UpToDate/DUnknown")
	p.fails(p.a, takesNothing)
	p.settle(time.Second)
	p.older()
}

// The generation that a Primary begins alone cannot be written, because its disk hangs, and is taken back; but it gets there in the end, and the disk is attached
// again beside the peer's, which has none at first. The users worked on that data: it is copied to the peer when that has its disk again.
func TestTakenBackGenerationIsOnTheDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	p.must(p.b, Detach{})
	p.part()
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskWrite && io.Meta }
	p.a.e.Command(p.now, 100, Promote{})
	p.settle(time.Second)
	p.must(p.a, Detach{Force: true})
	p.meet()
	p.comesBack(p.a, OK)
	p.want(p.a, "Primary/Secondary Connected Diskless/Diskless")
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
	p.write(p.a, 0, filled(9, 4096))
}
