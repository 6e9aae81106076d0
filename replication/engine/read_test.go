package engine

import (
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// framed is a packet of the peer for volume 0, its payload zeroes.
func framed(cmd wire.Cmd, fixed []byte, payload int) []byte {
	b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Length: uint32(len(fixed) + payload)})
	return append(append(b, fixed...), make([]byte, payload)...)
}

// P_NEG_DREPLY for a read whose answer is coming in is a protocol error. The read
// is answered when the socket is closed, not before: the owner may still receive into its memory.
func TestReadRefusedWhileComingIn(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.settle(time.Second)
	p.b.mute = [2]bool{true, true}
	r := &Request{Op: OpRead, Off: 4096, Len: 4096, Data: make([]byte, 4096)}
	p.a.e.Submit(p.now, r)
	p.settle(0)
	id := remoteReadID(0, p.a.e.conn.remoteReads[0].gen)
	p.a.e.Receive(p.now, DataSock, framed(wire.CmdDataReply, wire.BlockData{Sector: 8, BlockID: id}.Append(nil), 4096)[:1000])
	p.a.e.Receive(p.now, MetaSock, framed(wire.CmdNegDReply, wire.BlockAck{Sector: 8, BlockID: id, Size: 4096}.Append(nil), 0))
	out := p.a.e.Drain()
	if p.a.e.conn.up() || len(out.Done) != 0 {
		t.Fatalf("connection up: %v, answered: %d; want it closing, and the read not answered", p.a.e.conn.up(), len(out.Done))
	}
	p.a.e.ConnClosed(p.now)
	if out := p.a.e.Drain(); len(out.Done) != 1 || r.Err != EIO {
		t.Fatalf("answered: %d, errno %d; want the read to fail", len(out.Done), r.Err)
	}
}

// TestReadForThePeerFails: a disk that cannot be read is given up, also if it was the peer who wanted to know, and the peer hears it.
func TestReadForThePeerFails(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.b.fail = func(io DiskIO) Errno {
		if io.Op == DiskRead && !io.Meta {
			return EIO
		}
		return OK
	}
	r := p.read(p.a, 4096)
	p.settle(time.Second)
	if !p.a.done[r] || r.Err != EIO {
		t.Errorf("the read is answered: %v, errno %d", p.a.done[r], r.Err)
	}
	if st := p.b.e.State(0); !st.Disk.Gone() {
		t.Errorf("the disk stays in use: %v", st)
	}
	if st := p.a.e.State(0); st.PeerDisk.Usable() {
		t.Errorf("the Primary does not know: %v", st)
	}
}
