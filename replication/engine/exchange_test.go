package engine

import (
	"bytes"
	"testing"

	"github.com/urbd/urbd/replication/wire"
)

// A bitmap that comes before the handshake is over does not count, and the device
// may get another size between two of its packets.
func TestExchangeNotWanted(t *testing.T) {
	const size = 256 << 20
	p := newPair(t, size, NetOptions{})
	n := p.a
	for _, c := range []Command{Attach{BackingSize: size, MetaSize: size}, Connect{}} {
		p.must(n, c)
	}
	v := n.e.vols[0]
	v.bm.ClearAll()
	n.e.ConnUp(p.now, Link{Features: Features})
	n.conn = "up"
	n.e.Receive(p.now, DataSock, framed(wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil), 0))
	marks := framed(wire.CmdBitmap, bytes.Repeat([]byte{0xff}, wire.MaxBitmap), 0)
	n.e.Receive(p.now, DataSock, marks)
	n.e.Receive(p.now, DataSock, framed(wire.CmdSizes, wire.Sizes{DSize: 8, CSize: 8, MaxBioSize: wire.MaxRequest}.Append(nil), 0))
	if v.size != 4096 {
		t.Fatalf("the size is %d", v.size)
	}
	n.e.Receive(p.now, DataSock, marks)
	if !n.e.conn.up() || v.bm.Count() != 0 {
		t.Fatalf("connection up: %v, %d blocks marked; want the bitmap dropped", n.e.conn.up(), v.bm.Count())
	}
}
