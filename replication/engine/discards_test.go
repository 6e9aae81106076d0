package engine

import (
	"testing"

	"github.com/urbd/urbd/replication/wire"
)

// TestDiscardsWaitForTheirWayOut: with protocol A the application goes on when its request is handed to TCP. Discards carry
// no payload that would fill the socket; a peer that zeroes slowly must slow them down all the same.
func TestDiscardsWaitForTheirWayOut(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
	p.inSync()
	r := &Request{Op: OpDiscard, Off: 4096, Len: 4096}
	p.a.e.Submit(p.now, r)
	for out := p.a.e.Drain(); len(out.Disk) > 0; out = p.a.e.Drain() { // the disk has done it, the socket takes nothing
		for _, io := range append([]DiskIO(nil), out.Disk...) {
			p.a.e.DiskDone(p.now, io.Token, OK)
		}
	}
	if v := p.a.e.vols[0]; v.upper != 1 || v.diskPending != 0 {
		t.Errorf("%d requests and %d I/Os under way before it was sent", v.upper, v.diskPending)
	}
	p.settle(0)
	if !p.a.done[r] || r.Err != OK {
		t.Errorf("sent: done %v, errno %d", p.a.done[r], r.Err)
	}
}

// TestDiscardsOnTheWire: a discard is P_TRIM, which a peer carries out so that space is freed, in its own way; a zero-out is
// P_ZEROES, where the peer knows it, and says whether space may be freed.
func TestDiscardsOnTheWire(t *testing.T) {
	for _, c := range []struct {
		r     Request
		know  bool // the peer knows P_ZEROES
		cmd   wire.Cmd
		flags wire.DPFlags
	}{
		{Request{Op: OpDiscard}, true, wire.CmdTrim, wire.DPDiscard},
		{Request{Op: OpDiscard}, false, wire.CmdTrim, wire.DPDiscard},
		{Request{Op: OpWriteZeroes}, true, wire.CmdZeroes, wire.DPZeroes | wire.DPDiscard},
		{Request{Op: OpWriteZeroes, NoUnmap: true}, true, wire.CmdZeroes, wire.DPZeroes},
		{Request{Op: OpWriteZeroes, NoUnmap: true}, false, wire.CmdTrim, wire.DPDiscard},
	} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		if !c.know {
			p.a.e.conn.features &^= featureZeroes
		}
		r := c.r
		r.Off, r.Len = 64<<10, 8192
		p.b.mute[DataSock] = true
		p.a.e.Submit(p.now, &r)
		p.settle(0)
		sent := p.b.wire[DataSock]
		h, err := wire.DecodeHeader100(sent)
		if err != nil {
			t.Fatal(err)
		}
		b, err := wire.DecodeTrimBlock(sent[wire.HeaderLen100:])
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Flags & (wire.DPDiscard | wire.DPZeroes); h.Cmd != c.cmd || got != c.flags || b.Offset() != r.Off || int64(b.Size) != r.Len {
			t.Errorf("%v, no unmap %v, zeroes known %v: %v", c.r.Op, c.r.NoUnmap, c.know, wire.Format(h.Cmd, sent[wire.HeaderLen100:]))
		}
	}
}
