package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// packets are n equal packets without a payload.
func packets(n int, cmd wire.Cmd, body []byte) []byte {
	b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Length: uint32(len(body))})
	return bytes.Repeat(append(b, body...), n)
}

func discards(n int) []byte {
	t := wire.TrimBlock{BlockData: wire.BlockData{BlockID: 1, Flags: wire.DPDiscard}, Size: 4096}
	return packets(n, wire.CmdTrim, t.Append(nil))
}

// TestReceiveTakesAShare: of packets that cost nothing but time a bounded number is taken at once, in whatever pieces they come.
func TestReceiveTakesAShare(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	const all = 10*turnPackets + 1
	one := packets(1, wire.CmdUnplugRemote, nil)
	b := bytes.Repeat(one, all)
	rounds, used := 0, 0
	for ; used < len(b); rounds++ {
		n := p.b.e.Receive(p.now, DataSock, b[used:])
		if n == 0 || n > turnPackets*len(one) || !p.b.e.ReceiveReady(DataSock) {
			t.Fatalf("%d bytes are taken at once, ready for more: %v", n, p.b.e.ReceiveReady(DataSock))
		}
		used += n
	}
	if rounds != 11 {
		t.Errorf("%d packets are taken in %d rounds", all, rounds)
	}
}

// TestDiscardsAreBounded: a peer's discards carry nothing that fills a buffer. No more
// than a bound of them are taken while the disk is behind; then the rest.
func TestDiscardsAreBounded(t *testing.T) {
	const all = 3 * maxZeroing
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.conn = "away" // its packets are made here
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskZero }
	b := discards(all)
	used := 0
	for p.b.e.ReceiveReady(DataSock) {
		used += p.b.e.Receive(p.now, DataSock, b[used:])
	}
	if c := &p.b.e.conn; c.zeroing != maxZeroing || p.b.e.ReceiveReady(DataSock) {
		t.Fatalf("%d of %d discards are under way, ready for more: %v", c.zeroing, all, p.b.e.ReceiveReady(DataSock))
	}
	p.b.hold = nil
	for rounds := 0; used < len(b); rounds++ {
		if rounds > 100000 {
			t.Fatalf("%d of %d bytes are never taken", len(b)-used, len(b))
		}
		for _, io := range p.b.held {
			p.b.e.DiskDone(p.now, io.Token, OK)
		}
		p.b.held = nil
		p.work(p.b)
		used += p.b.e.Receive(p.now, DataSock, b[used:])
	}
	for p.work(p.b) {
	}
	if n := p.b.e.conn.zeroing; n != 0 {
		t.Fatalf("%d discards are left", n)
	}
}

// TestEpochsAreBounded: a peer that ends an epoch with every write, while the disk
// does not flush.
func TestEpochsAreBounded(t *testing.T) {
	p := cachedPair(t, NetOptions{})
	p.a.conn = "away"
	p.b.hold = dataFlush
	one := append(discards(1), packets(1, wire.CmdBarrier, wire.Barrier{Number: 1}.Append(nil))...)
	b := bytes.Repeat(one, 3*maxPeerEpochs)
	for used := 0; used < len(b); {
		n := p.b.e.Receive(p.now, DataSock, b[used:min(used+100*len(one), len(b))])
		for p.work(p.b) {
		}
		p.now += time.Millisecond
		if used += n; n == 0 {
			break
		}
	}
	if n := p.b.e.conn.in.open.len(); n > maxPeerEpochs+1 || p.b.e.ReceiveReady(DataSock) {
		t.Fatalf("%d epochs are open, ready for more: %v", n, p.b.e.ReceiveReady(DataSock))
	}
	p.release(p.b)
	if n := p.b.e.conn.in.open.len(); n > maxPeerEpochs || !p.b.e.ReceiveReady(DataSock) {
		t.Fatalf("%d epochs are open after the flush, ready for more: %v", n, p.b.e.ReceiveReady(DataSock))
	}
}

// TestAnswersAreBounded: of a peer that asks and does not read nothing more is taken, and it is given up when its time is over.
func TestAnswersAreBounded(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sock  Socket
		bytes []byte
	}{
		{"pings", MetaSock, packets(8192, wire.CmdPing, nil)},
		{"refused discards", DataSock, discards(4096)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			if tc.sock == DataSock {
				p.must(p.b, Detach{})
			}
			p.settle(time.Second)
			e := p.b.e
			if e.NextSend(MetaSock) == nil {
				e.ping()
				e.NextSend(MetaSock) // it does not land
			}
			for used, i := 1, 0; used > 0; i++ {
				if used = e.Receive(p.now, tc.sock, tc.bytes); i > 1000 {
					t.Fatal("it takes ever more")
				}
				e.Drain()
			}
			if n := len(e.conn.queue[MetaSock].heads); n > maxAnswers+100 || e.ReceiveReady(tc.sock) {
				t.Errorf("%d bytes of answers wait, ready for more: %v", n, e.ReceiveReady(tc.sock))
			}
			for e.conn.up() && p.now < time.Hour {
				p.now = max(e.Deadline(), p.now)
				e.Tick(p.now)
				e.Drain()
			}
			if st := e.State(0).String(); e.conn.up() {
				t.Errorf("%s: not given up", st)
			}
		})
	}
}

// TestServedBlocksAreBounded: a Target that asks for blocks and never acknowledges one.
func TestServedBlocksAreBounded(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	v := p.a.e.vols[0]
	v.state.Conn, v.state.PeerDisk = sm.SyncSource, sm.Inconsistent
	v.resync.served = make([]servedBlock, maxReadQueue)
	req := wire.BlockReq{Sector: 2048, BlockID: wire.IDSyncer, Size: 4096}
	p.a.e.Receive(p.now, DataSock, packets(1, wire.CmdRSDataRequest, req.Append(nil)))
	if st := v.state.String(); !strings.Contains(st, "ProtocolError") {
		t.Fatalf("%s: not given up", st)
	}
}

// TestReadsLeaveRoom: reads of the peer take half of the buffers at most, however small they are: the rest is for what it sends.
func TestReadsLeaveRoom(t *testing.T) {
	for _, n := range []uint32{512, 4096 + 512, wire.MaxRequest} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.must(p.a, Detach{})
		p.a.conn = "away" // its packets are made here
		p.b.hold = func(io DiskIO) bool { return io.Op == DiskRead }
		pool := p.b.e.pool
		reads := min(maxReadQueue-1, 2*len(pool.mem)/int(n))
		p.b.wire[DataSock] = packets(reads, wire.CmdDataRequest, wire.BlockReq{BlockID: 1, Size: n}.Append(nil))
		for p.work(p.b) {
		}
		if pool.used > int64(len(pool.mem)/2) || pool.used < int64(len(pool.mem)/4) {
			t.Errorf("reads of %d bytes take %d of %d bytes", n, pool.used, len(pool.mem))
		}
		for len(p.b.held) > 0 {
			io := p.b.held[0]
			p.b.held = p.b.held[1:]
			p.b.e.DiskDone(p.now, io.Token, OK)
			for p.work(p.b) {
			}
			p.a.wire = [2][]byte{}
		}
		if c := &p.b.e.conn; c.servedBytes != 0 || c.wantedReads != 0 || pool.used != 0 {
			t.Errorf("reads of %d bytes: %d bytes are served, %d reads wait, %d bytes of the buffers are in use at the end", n, c.servedBytes, c.wantedReads, pool.used)
		}
	}
}
