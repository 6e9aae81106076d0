package engine

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// blockPacket is P_DATA or one of the replies: a fixed part and a block of zeroes.
func blockPacket(cmd wire.Cmd, d wire.BlockData, n int) []byte {
	b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Length: uint32(dataFixed + n)})
	return append(d.Append(b), make([]byte, n)...)
}

// trace is what a packet could have moved.
func (p *pair) trace(n *node) [6]int {
	c := &n.e.conn
	return [6]int{
		len(c.queue[DataSock].heads), len(c.queue[MetaSock].heads), c.in.open.len(), c.peerBusy,
		n.e.vols[0].effects.len(), int(n.e.vols[0].unacked),
	}
}

// TestNothingIsHeardAfterTheEnd: a volume leaves, and the end of the connection waits for a superblock. What comes from
// then on, however wrong, is neither parsed nor acted on nor answered; and if a socket dies, the connection ends without the disk.
func TestNothingIsHeardAfterTheEnd(t *testing.T) {
	for name, leave := range map[string]func(p *pair, n *node){
		"TearDown": func(p *pair, n *node) {
			req := wire.StateChgReq{Mask: sm.DisconnectChange.Mask, Val: sm.DisconnectChange.Val}
			n.e.Receive(p.now, DataSock, packets(1, wire.CmdConnStChgReq, req.Append(nil)))
		},
		"Disconnecting": func(p *pair, n *node) { n.e.Command(p.now, 100, Disconnect{Force: true}) },
	} {
		for _, primary := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				p := newPair(t, 8<<20, NetOptions{})
				p.inSync()
				n := p.b
				if primary {
					n = p.a
				}
				n.peer = &node{t: t, name: "void", e: n.peer.e, peer: n}
				n.hold = func(io DiskIO) bool { return io.Meta }
				leave(p, n)
				for p.work(n) {
				}
				if !n.e.conn.up() || n.e.hears() || !n.e.State(0).Conn.Ending() {
					t.Fatalf("the end does not wait: %v", n.e.State(0))
				}
				before := p.trace(n)
				disk := bytes.Clone(n.disk)
				block := wire.BlockData{Sector: 8, BlockID: 1, Flags: wire.DPSendWriteAck | wire.DPSendReceiveAck}
				for _, b := range [][]byte{
					blockPacket(wire.CmdData, block, 4096),
					blockPacket(wire.CmdDataReply, block, 4096),
					blockPacket(wire.CmdRSDataReply, block, 4096),
					discards(3),
					packets(1, wire.CmdBarrier, wire.Barrier{Number: 1}.Append(nil)),
					packets(1, wire.CmdStateChgReq, wire.StateChgReq{Mask: ^uint32(0)}.Append(nil)),
					packets(1, wire.CmdConnStChgReq, wire.StateChgReq{Mask: ^uint32(0)}.Append(nil)),
					packets(1, wire.CmdState, wire.State{Word: ^uint32(0)}.Append(nil)),
					bytes.Repeat([]byte("garbage"), 1000),
				} {
					for _, sock := range []Socket{DataSock, MetaSock} {
						if used := n.e.Receive(p.now, sock, b); used != len(b) || !n.e.ReceiveReady(sock) {
							t.Fatalf("%v: %d of %d bytes are dropped", sock, used, len(b))
						}
						n.e.PayloadFilled(p.now, sock, 1)
						for p.work(n) {
						}
					}
				}
				if after := p.trace(n); after != before || !bytes.Equal(disk, n.disk) {
					t.Errorf("something was acted on: %v, it was %v; the disk is the same: %v", after, before, bytes.Equal(disk, n.disk))
				}
				n.e.ConnDown(p.now, BrokenPipe, nil)
				if n.e.conn.phase != connClosing {
					t.Error("a dead socket does not end the connection as long as the disk hangs")
				}
			})
		}
	}
}

// A peer that breaks each connection at once gets one a second; one that has lasted is looked for again at once.
func TestShortConnectionsAreFarBetween(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.up()
	for _, c := range []struct{ lasted, after time.Duration }{{time.Minute, 0}, {shortLife / 2, time.Second}, {shortLife, 0}} {
		p.settle(c.lasted)
		p.a.events = nil
		p.a.e.ConnDown(p.now, NetworkFailure, nil)
		p.settle(0)
		found := false
		for _, ev := range p.a.events {
			if open, ok := ev.(OpenConnection); ok {
				if found = true; open.After != c.after {
					t.Errorf("after %v the peer is looked for in %v, want %v", c.lasted, open.After, c.after)
				}
			}
		}
		if !found {
			t.Fatalf("the peer is not looked for\n%s", p.story())
		}
	}
}

// TestPeerThatOwesAgain: a peer that is there and owes an answer may hold the writes of a Primary for the limit. When it does so
// again and again, they go on for longer each time before it is looked for; any other end, or an order, begins anew.
func TestPeerThatOwesAgain(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	pauses := func() (after []time.Duration) {
		for _, ev := range p.a.events {
			if open, ok := ev.(OpenConnection); ok {
				after = append(after, open.After)
			}
		}
		p.a.events = nil
		return after
	}
	p.a.events = nil
	p.b.mute[DataSock] = true // it hears nothing there, and answers pings
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	r := &Request{Op: OpWrite, Len: 4096, Data: make([]byte, 4096)}
	p.a.e.Submit(p.now, r)
	p.settle(6*unansweredLimit - time.Second)
	want := []time.Duration{0, 0, unansweredLimit, 2 * unansweredLimit, 4 * unansweredLimit, 4 * unansweredLimit}
	if got := pauses(); !slices.Equal(got, want) || !p.a.done[r] || r.Err != OK {
		t.Fatalf("the pauses are %v, want %v\n%s", got, want, p.story())
	}
	p.a.e.ConnDown(p.now, NetworkFailure, nil)
	p.settle(2*unansweredLimit + time.Second)
	if got := pauses(); slices.Max(got[:len(got)-1]) > time.Second || got[len(got)-1] != unansweredLimit {
		t.Fatalf("after another end the pauses are %v\n%s", got, p.story())
	}
	p.must(p.a, Disconnect{Force: true})
	if owing := p.a.e.conn.owing; owing != 0 {
		t.Fatalf("after an order the peer still owes %d answers", owing)
	}
}
