package engine

import "testing"

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
