package engine

import (
	"bytes"
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// release ends what was held.
func (p *pair) release(n *node) {
	n.hold = nil
	for len(n.held) > 0 {
		held := n.held
		n.held = nil
		for _, io := range held {
			if io.Op == DiskRead {
				copy(io.Data, n.disk[io.Off:io.Off+io.Len])
			}
			n.e.DiskDone(p.now, io.Token, OK)
		}
		p.settle(0)
	}
}

func zeroesFail(io DiskIO) Errno {
	if io.Op == DiskZero {
		return EIO
	}
	return OK
}

// TestZeroFailsOnPeer: zeroes that the peer's disk has not got make that disk a
// failed one. A failover must not bring the old content back.
func TestZeroFailsOnPeer(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.write(p.a, 1<<20, bytes.Repeat([]byte{9}, 4096))
	p.b.fail = zeroesFail
	r := &Request{Op: OpWriteZeroes, Off: 1 << 20, Len: 4096}
	p.a.e.Submit(p.now, r)
	p.settle(time.Second)
	if !p.a.done[r] || r.Err != OK {
		t.Fatalf("done %v errno %d, the own disk has the zeroes\n%s", p.a.done[r], r.Err, p.story())
	}
	p.want(p.a, "Primary/Secondary Connected UpToDate/Diskless")
	p.b.e.ConnDown(p.now, BrokenPipe, nil)
	p.a.conn = "away"
	if err := p.do(p.b, Promote{}); err == nil {
		t.Fatalf("the peer is Primary without the zeroes\n%s", p.story())
	}
}

// TestZeroFailsHere: the same on the Primary: it goes on with the peer's disk.
func TestZeroFailsHere(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.write(p.a, 1<<20, bytes.Repeat([]byte{9}, 4096))
	p.a.fail = zeroesFail
	r := &Request{Op: OpDiscard, Off: 1 << 20, Len: 4096}
	p.a.e.Submit(p.now, r)
	p.settle(time.Second)
	if !p.a.done[r] || r.Err != OK {
		t.Fatalf("done %v errno %d, the peer's disk has the zeroes\n%s", p.a.done[r], r.Err, p.story())
	}
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	rd := &Request{Op: OpRead, Off: 1 << 20, Len: 4096, Data: bytes.Repeat([]byte{1}, 4096)}
	p.a.e.Submit(p.now, rd)
	p.settle(0)
	if !p.a.done[rd] || rd.Err != OK || !bytes.Equal(rd.Data, make([]byte, 4096)) {
		t.Fatalf("done %v errno %d, the old content is back", p.a.done[rd], rd.Err)
	}
}

// TestZeroFailsOnSource: a resync whose Source fails at a discard comes to an end.
func TestZeroFailsOnSource(t *testing.T) {
	p := newPair(t, 32<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.settle(time.Second)
	p.write(p.a, 1<<20, bytes.Repeat([]byte{1}, 1<<20))
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskRead && !io.Meta }
	p.b.e.Command(p.now, 600, Connect{})
	p.settle(3 * time.Second)
	p.want(p.a, "Primary/Secondary SyncSource UpToDate/Inconsistent")
	p.a.fail = zeroesFail
	r := &Request{Op: OpDiscard, Off: 8 << 20, Len: 64 << 10}
	p.a.e.Submit(p.now, r)
	p.settle(100 * time.Millisecond)
	p.a.fail = nil
	p.release(p.a)
	p.settle(time.Minute)
	if st := p.a.e.State(0); st.Conn.Syncing() || st.Disk != sm.Diskless {
		t.Fatalf("%v: still a resync from a disk that has failed\n%s", st, p.story())
	}
	if !p.a.done[r] {
		t.Fatalf("the discard is never answered\n%s", p.story())
	}
}
