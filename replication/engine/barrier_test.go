package engine

import (
	"testing"

	"github.com/urbd/urbd/replication/wire"
)

// A barrier ack that comes before the ack of one of its writes ends the connection,
// and every write of the epoch is answered and marked.
func TestBarrierAckTooEarly(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.mute = [2]bool{true, true}
	var writes [2]Request
	for i := range writes {
		writes[i] = Request{Op: OpWrite, Off: int64(i) << 20, Len: 4096, Data: make([]byte, 4096)}
		p.a.e.Submit(p.now, &writes[i])
	}
	p.settle(0)
	p.a.e.closeEpoch()
	ep := p.a.e.conn.epochs.open.at(0)
	if ep.count != 2 || ep.barrier == 0 {
		t.Fatalf("the epoch has %d writes, barrier %v", ep.count, ep.barrier)
	}
	p.a.e.Receive(p.now, MetaSock, framed(wire.CmdBarrierAck, wire.BarrierAck{Number: uint32(ep.serial), SetSize: ep.count}.Append(nil), 0))
	if p.a.e.conn.up() {
		t.Fatal("the connection goes on")
	}
	for p.work(p.a) {
	}
	v := p.a.e.vols[0]
	for i := range writes {
		if r := &writes[i]; !p.a.done[r] || r.Err != OK || !v.bm.AnySet(r.Off, r.Len) {
			t.Errorf("write %d: done %v, errno %d, marked %v", i, p.a.done[r], r.Err, v.bm.AnySet(r.Off, r.Len))
		}
	}
}

// TestBarrierAckOfAnotherEpoch: one that counts other writes than the epoch has, or names another epoch, ends the connection: what the peer
// has confirmed is not known.
func TestBarrierAckOfAnotherEpoch(t *testing.T) {
	for _, wrong := range []wire.BarrierAck{{SetSize: 1}, {SetSize: -1 & 0xffffffff}, {Number: 1}} {
		p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
		p.inSync()
		p.b.mute = [2]bool{true, true}
		p.a.e.Submit(p.now, &Request{Op: OpWrite, Len: 4096, Data: make([]byte, 4096)})
		p.settle(0)
		p.a.e.closeEpoch()
		ep := p.a.e.conn.epochs.open.at(0)
		ack := wire.BarrierAck{Number: uint32(ep.serial) + wrong.Number, SetSize: ep.count + wrong.SetSize}
		p.a.e.Receive(p.now, MetaSock, framed(wire.CmdBarrierAck, ack.Append(nil), 0))
		if p.a.e.conn.up() || !p.a.e.vols[0].bm.AnySet(0, 4096) {
			t.Errorf("%+v for epoch %d of %d writes: connection up: %v, marked: %v", ack, ep.serial, ep.count, p.a.e.conn.up(), p.a.e.vols[0].bm.AnySet(0, 4096))
		}
	}
}

// An order that waits until the peer has confirmed everything goes on with the last confirmation, and needs no clock.
func TestConfirmationEndsTheWaitOfAnOrder(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	r := &Request{Op: OpWrite, Len: 4096, Data: make([]byte, 4096)}
	p.a.e.Submit(p.now, r)
	for p.work(p.a) || p.work(p.b) {
	}
	p.a.e.Command(p.now, 77, Demote{})
	for p.work(p.a) || p.work(p.b) {
	}
	if err, done := p.a.reply[77]; !done || err != nil {
		t.Fatalf("answered %v, %v\n%s", done, err, p.story())
	}
}
