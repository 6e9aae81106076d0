package engine

import (
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// No packet of the peer reaches beyond the end of the device: the connection ends, and the disk does not hear of it.
func TestPacketsBeyondTheDevice(t *testing.T) {
	const size = 8 << 20
	probe := newPair(t, size, NetOptions{})
	probe.inSync()
	device := probe.a.e.Status().Volumes[0].Size
	end := wire.SectorOf(device)
	for name, c := range map[string]struct {
		sock Socket
		b    []byte
	}{
		"P_DATA":            {DataSock, framed(wire.CmdData, wire.BlockData{Sector: end, BlockID: 1}.Append(nil), 4096)},
		"P_DATA, last":      {DataSock, framed(wire.CmdData, wire.BlockData{Sector: end - 1, BlockID: 1}.Append(nil), 4096)},
		"P_TRIM":            {DataSock, framed(wire.CmdTrim, wire.TrimBlock{BlockData: wire.BlockData{Sector: end - 1}, Size: 4096}.Append(nil), 0)},
		"P_DATA_REQUEST":    {DataSock, framed(wire.CmdDataRequest, wire.BlockReq{Sector: end, Size: 4096}.Append(nil), 0)},
		"P_RS_DATA_REQUEST": {DataSock, framed(wire.CmdRSDataRequest, wire.BlockReq{Sector: end - 1, BlockID: wire.IDSyncer, Size: 4096}.Append(nil), 0)},
		"P_RS_DATA_REPLY":   {DataSock, framed(wire.CmdRSDataReply, wire.BlockData{Sector: end, BlockID: wire.IDSyncer}.Append(nil), 4096)},
		"P_OUT_OF_SYNC":     {DataSock, framed(wire.CmdOutOfSync, wire.BlockDesc{Sector: end, Size: 4096}.Append(nil), 0)},
		"P_WRITE_ACK":       {MetaSock, framed(wire.CmdWriteAck, wire.BlockAck{Sector: end, BlockID: 1, Size: 4096}.Append(nil), 0)},
		"P_NEG_ACK":         {MetaSock, framed(wire.CmdNegAck, wire.BlockAck{Sector: end, BlockID: 1, Size: 4096}.Append(nil), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, size, NetOptions{})
			p.inSync()
			n := p.b
			if c.sock == MetaSock {
				n = p.a // it has the writes
			}
			n.watch(func(io DiskIO) {
				if !io.Meta && (io.Off >= device || io.Off+io.Len > device) {
					t.Errorf("the disk gets %d bytes at %d of %d", io.Len, io.Off, device)
				}
			})
			n.e.Receive(p.now, c.sock, c.b)
			for p.work(n) {
			}
			if n.e.conn.up() {
				t.Errorf("the connection goes on\n%s", p.story())
			}
			if out := n.e.Status().Volumes[0].OutOfSync; out != 0 {
				t.Errorf("%d bytes are out of sync", out)
			}
		})
	}
}

// injectAck gives a an acknowledgement of its only write, on which the peer has said nothing.
func (p *pair) injectAck(cmd wire.Cmd) {
	p.t.Helper()
	for w := range p.a.e.unconfirmed(p.a.e.vols[0]) {
		ack := wire.BlockAck{Sector: wire.SectorOf(w.off), BlockID: w.id, Size: uint32(w.n)}
		p.a.e.Receive(p.now, MetaSock, framed(cmd, ack.Append(nil), 0))
		p.settle(0)
		return
	}
	p.t.Fatal("there is no write")
}

// A write that the peer's disk has refused is marked, also if that disk stays in use.
func TestRefusedWriteIsMarked(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolA, ProtocolC} {
		p := newPair(t, 8<<20, NetOptions{Protocol: protocol})
		p.inSync()
		p.b.mute[DataSock] = true
		r := p.begin(p.a, 1)
		p.injectAck(wire.CmdNegAck)
		if !p.a.done[r] || r.Err != OK || !p.a.marked() {
			t.Errorf("done %v, errno %d, marked %v\n%s", p.a.done[r], r.Err, p.a.marked(), p.story())
		}
	}
}

// With protocol C, that the peer has received a write is no answer, and nothing that was asked for: the connection ends.
func TestReceivedIsNotWritten(t *testing.T) {
	for _, c := range []struct {
		protocol Protocol
		ack      wire.Cmd
		done     bool
	}{
		{ProtocolC, wire.CmdRecvAck, false}, {ProtocolC, wire.CmdWriteAck, true}, {ProtocolB, wire.CmdRecvAck, true},
	} {
		p := newPair(t, 8<<20, NetOptions{Protocol: c.protocol})
		p.inSync()
		p.b.mute[DataSock] = true
		r := p.begin(p.a, 1)
		if p.a.done[r] {
			t.Fatalf("answered before the peer\n%s", p.story())
		}
		p.injectAck(c.ack)
		if connected := p.a.e.State(0).Conn == sm.Connected; connected != c.done || !p.a.done[r] {
			t.Errorf("protocol %d, %v: answered %v, connected %v", c.protocol, c.ack, p.a.done[r], connected)
		}
	}
}

// A disk that is not UpToDate serves no read of the peer, whatever the peer believes of it.
func TestStaleDiskServesNoReads(t *testing.T) {
	p := pausedResync(t, NetOptions{}, false)
	p.b.watch(func(io DiskIO) {
		if dataRead(io) {
			t.Error("the disk is read")
		}
	})
	p.a.mute[MetaSock] = true
	for _, cmd := range []wire.Cmd{wire.CmdDataRequest, wire.CmdRSDataRequest} {
		p.b.e.Receive(p.now, DataSock, framed(cmd, wire.BlockReq{BlockID: wire.IDSyncer, Size: 4096}.Append(nil), 0))
		p.settle(0)
	}
}

// What the peer may lack is known as soon as its disk is gone: the negative acknowledgements are on their way, but on
// another socket than the bitmap of a disk that is attached again.
func TestUnconfirmedWriteIsMarkedWithoutPeersDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
	p.inSync()
	p.a.mute[MetaSock] = true
	p.b.hold = dataWrite
	if r := p.begin(p.a, 1); !p.a.done[r] || p.a.marked() {
		t.Fatalf("the write is not done, or marked\n%s", p.story())
	}
	io := p.b.held[0]
	p.b.hold, p.b.held = nil, nil
	p.b.e.DiskDone(p.now, io.Token, EIO)
	p.settle(0)
	p.want(p.a, "Primary/Secondary Connected UpToDate/Failed")
	if !p.a.marked() {
		t.Errorf("not marked\n%s", p.story())
	}
	p.a.mute[MetaSock] = false
	p.settle(0)
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}

// TestFailedWriteOfThePeerIsMarked: a write of the peer that this disk could not take is missing here, and this node's own bitmap says so.
func TestFailedWriteOfThePeerIsMarked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.fail = func(io DiskIO) Errno {
		if dataWrite(io) {
			return EIO
		}
		return OK
	}
	p.write(p.a, 8192, make([]byte, 4096))
	p.settle(time.Second)
	if !p.b.e.State(0).Disk.Gone() || !p.b.onDisk(2) || p.b.onDisk(1) {
		t.Errorf("%v: the bitmap on the disk has block 1: %v, block 2: %v", p.b.e.State(0), p.b.onDisk(1), p.b.onDisk(2))
	}
}

// TestWaitingWriteToTheOnlyDiskIsMarked: what a peer without a disk writes here is out of sync from the moment it comes, also while it waits for an
// earlier write.
func TestWaitingWriteToTheOnlyDiskIsMarked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.write(p.a, 1<<20, make([]byte, 4096)) // the generation has begun
	p.b.hold = dataWrite
	p.a.conn = "away" // its packets are made here: two writes that overlap come at once
	for _, sector := range []uint64{0, 8} {
		p.b.e.Receive(p.now, DataSock, blockPacket(wire.CmdData, wire.BlockData{Sector: sector, BlockID: sector}, 8192))
	}
	for p.work(p.b) {
	}
	if len(p.b.held) != 1 || !p.b.e.vols[0].bm.AnySet(8192, 4096) {
		t.Errorf("%d writes are under way, the waiting one is marked: %v", len(p.b.held), p.b.e.vols[0].bm.AnySet(8192, 4096))
	}
}
