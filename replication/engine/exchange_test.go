package engine

import (
	"bytes"
	"strings"
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
	p, say := alone(t, 512<<20, 2, NetOptions{Timeout: 2 * time.Second, KOCount: 1})
	e := p.a.e
	for vol := range uint16(2) {
		introduce(p, say, vol, 1<<32, sm.UpToDate)
	}
	for range 4 {
		if !p.wait(time.Second) {
			t.Fatalf("given up although a packet has come\n%s", p.story())
		}
		say(0, wire.CmdBitmap, make([]byte, 4080))
	}
	for i := range 2 {
		if conn := e.vols[i].state.Conn; conn != sm.WFBitMapT {
			t.Fatalf("volume %d is %v", i, conn)
		}
	}
	if p.wait(2 * time.Second) {
		t.Fatal("nothing comes, and it is waited for")
	}
}

// A Primary's writes are held while bitmaps are exchanged. A peer that sends a packet within each limit, and no more, holds them for a bounded
// time; one on a slow link, at a quarter more than the least rate, is waited for.
func TestExchangeHasAnEnd(t *testing.T) {
	for _, c := range []struct {
		name   string
		every  time.Duration // a packet of 4080 bytes
		honest bool
	}{{"slow link", 200 * time.Millisecond, true}, {"trickle", 345 * time.Millisecond, false}} {
		t.Run(c.name, func(t *testing.T) {
			p, say := alone(t, 512<<20, 1, NetOptions{Timeout: 350 * time.Millisecond, KOCount: 1}, Promote{Force: true})
			e := p.a.e
			introduce(p, say, 0, sm.JustCreated, sm.Inconsistent)
			if conn := e.vols[0].state.Conn; conn != sm.WFBitMapS {
				t.Fatalf("the node is %v\n%s", conn, p.story())
			}
			r := &Request{Op: OpWrite, Len: 4096, Data: make([]byte, 4096)}
			e.Submit(p.now, r)
			left, up := (e.vols[0].size/4096+63)/64*8, true
			for ; up && left > 0; left -= 4080 {
				if up = p.wait(c.every); up {
					say(0, wire.CmdBitmap, make([]byte, min(4080, left)))
				}
			}
			if up {
				say(0, wire.CmdBitmap, nil)
			}
			if up != c.honest || !up && !strings.Contains(p.story(), errSlowBitmaps.Error()) {
				t.Fatalf("the connection is up: %v, %d bytes are missing\n%s", up, left, p.story())
			}
			if conn := e.vols[0].state.Conn; up && conn != sm.SyncSource {
				t.Fatalf("the node is %v\n%s", conn, p.story())
			}
			if !up && (!p.a.done[r] || r.Err != OK) {
				t.Fatalf("the write is answered: %v, errno %d\n%s", p.a.done[r], r.Err, p.story())
			}
		})
	}
}

// alone has node a of a pair, with some volumes on one memory, carry out orders and meet a peer that says what say is called with.
func alone(t *testing.T, size int64, volumes int, net NetOptions, orders ...Command) (p *pair, say func(vol uint16, cmd wire.Cmd, body []byte)) {
	p = newPair(t, size, NetOptions{})
	n := p.a
	cfg := Config{Resource: "r0", Net: net, Buffers: make([]byte, MinBuffers+volumes*VolumeBuffers), Random: n.e.cfg.Random}
	for i := range volumes {
		cfg.Volumes = append(cfg.Volumes, VolumeConfig{Number: i})
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.e = e
	for i := range volumes {
		p.must(n, Attach{Vol: i, BackingSize: size, MetaSize: size})
	}
	for _, c := range append(orders, Connect{}) {
		p.must(n, c)
	}
	e.ConnUp(p.now, Link{Features: Features})
	n.conn = "up"
	say = func(vol uint16, cmd wire.Cmd, body []byte) {
		b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Volume: vol, Length: uint32(len(body))})
		e.Receive(p.now, DataSock, append(b, body...))
		for p.work(n) {
		}
	}
	say(0, wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil))
	return p, say
}

// introduce says a Secondary's share of a handshake.
func introduce(p *pair, say func(vol uint16, cmd wire.Cmd, body []byte), vol uint16, current uint64, disk sm.Disk) {
	sectors := wire.SectorOf(p.a.e.vols[vol].size)
	if sectors == 0 {
		sectors = wire.SectorOf(p.a.e.vols[vol].layout.DataLimit)
	}
	say(vol, wire.CmdSyncParam89, wire.SyncParam89{}.Append(nil))
	say(vol, wire.CmdSizes, wire.Sizes{DSize: sectors, CSize: sectors, MaxBioSize: wire.MaxRequest}.Append(nil))
	say(vol, wire.CmdUUIDs, wire.UUIDs{Current: current}.Append(nil))
	peer := sm.State{Role: sm.Secondary, Conn: sm.WFConnection, Disk: disk, PeerDisk: sm.DUnknown}
	say(vol, wire.CmdState, wire.State{Word: peer.Word()}.Append(nil))
}

// wait has a alone go on for a while, and reports whether its connection is up.
func (p *pair) wait(d time.Duration) bool {
	p.now += d
	p.a.e.Tick(p.now)
	for p.work(p.a) {
	}
	return p.a.e.conn.up()
}

// The own bitmap waits until the disk has taken down that it is old, the disk never does, and is given up: the bitmap is not sent any more, and the exchange after the next
// attach has its own.
func TestBitmapOfAnExchangeThatIsOver(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.write(p.a, 0, filled(3, 4096))
	super := p.b.e.vols[0].layout.Superblock
	p.b.hold = func(io DiskIO) bool { return io.Meta && io.Op == DiskWrite && io.Off == super }
	p.b.e.Command(p.now, 99, Connect{})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary WFBitMapT Outdated/UpToDate")
	p.must(p.b, Detach{Force: true})
	p.releaseWrites(p.b)
	p.settle(0)
	if p.b.e.vols[0].exchange.ownSent {
		t.Errorf("the bitmap of a disk that is gone was sent\n%s", p.story())
	}
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.inSyncAgain()
}
