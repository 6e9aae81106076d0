package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// A bitmap that comes before the handshake is over is against the protocol, and marks nothing.
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
	if n.e.conn.up() || v.bm.Count() != 0 {
		t.Fatalf("connection up: %v, %d blocks marked; want the end of the connection", n.e.conn.up(), v.bm.Count())
	}
}

// Two volumes exchange their bitmaps: that of the first may take longer than the limit, as
// long as something comes. Both volumes are on one memory, which is good enough for what has no data.
func TestExchangeOneAfterTheOther(t *testing.T) {
	const size = 512 << 20
	p := newPair(t, size, NetOptions{})
	n := p.a
	e, err := New(Config{
		Resource: "r0", Volumes: []VolumeConfig{{}, {Number: 1}}, Net: NetOptions{Timeout: 2 * time.Second, KOCount: 1},
		Buffers: make([]byte, MinBuffers+2*VolumeBuffers), Random: n.e.cfg.Random,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.e = e
	say := func(vol uint16, cmd wire.Cmd, body []byte) {
		b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Volume: vol, Length: uint32(len(body))})
		e.Receive(p.now, DataSock, append(b, body...))
		for p.work(n) {
		}
	}
	for i := range 2 {
		p.must(n, Attach{Vol: i, BackingSize: size, MetaSize: size})
	}
	p.must(n, Connect{})
	e.ConnUp(p.now, Link{Features: Features})
	n.conn = "up"
	say(0, wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil))
	for vol := range uint16(2) {
		sectors := wire.SectorOf(e.vols[vol].size)
		say(vol, wire.CmdSyncParam89, wire.SyncParam89{}.Append(nil))
		say(vol, wire.CmdSizes, wire.Sizes{DSize: sectors, CSize: sectors, MaxBioSize: wire.MaxRequest}.Append(nil))
		say(vol, wire.CmdUUIDs, wire.UUIDs{Current: 1 << 32}.Append(nil))
		peer := sm.State{Role: sm.Secondary, Conn: sm.WFConnection, Disk: sm.UpToDate, PeerDisk: sm.DUnknown}
		say(vol, wire.CmdState, wire.State{Word: peer.Word()}.Append(nil))
	}
	wait := func(d time.Duration) bool {
		p.now += d
		e.Tick(p.now)
		return e.conn.up()
	}
	for range 4 {
		if !wait(1500 * time.Millisecond) {
			t.Fatalf("given up although a packet has come\n%s", p.story())
		}
		say(0, wire.CmdBitmap, make([]byte, 4080))
	}
	for i := range 2 {
		if conn := e.vols[i].state.Conn; conn != sm.WFBitMapT {
			t.Fatalf("volume %d is %v", i, conn)
		}
	}
	if wait(2 * time.Second) {
		t.Fatal("nothing comes, and it is waited for")
	}
}
