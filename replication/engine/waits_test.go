package engine

import (
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// unansweredLimit is timeout times ko-count with the default options.
const unansweredLimit = 42 * time.Second

// timedOut reports whether a node has given a connection up because of the peer's silence.
func (n *node) timedOut() bool {
	for _, ev := range n.events {
		if c, ok := ev.(StateChange); ok && c.Cause == "Timeout: "+errNoAnswer.Error() {
			return true
		}
	}
	return false
}

// onlyPings lets the limit pass on a, whose peer answers pings and nothing else.
func (p *pair) onlyPings() {
	p.t.Helper()
	p.settle(unansweredLimit - 10*time.Second)
	if p.a.timedOut() {
		p.t.Fatalf("given up before the limit\n%s", p.story())
	}
	p.settle(20 * time.Second)
	if !p.a.timedOut() {
		p.t.Fatalf("not given up after the limit\n%s", p.story())
	}
}

func (p *pair) read(n *node, off int64) *Request {
	r := &Request{Op: OpRead, Off: off, Len: 4096, Data: make([]byte, 4096)}
	n.e.Submit(p.now, r)
	p.settle(0)
	return r
}

// TestReadIsOwed: a read that the peer does not answer.
func TestReadIsOwed(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	for range 10 { // reads that are answered do not count, however many there are
		if r := p.read(p.a, 0); !p.a.done[r] || r.Err != OK {
			t.Fatalf("done %v errno %d", p.a.done[r], r.Err)
		}
		p.settle(10 * time.Second)
	}
	if p.a.timedOut() {
		t.Fatalf("a peer that answers was given up\n%s", p.story())
	}
	p.b.mute[DataSock] = true
	r := p.read(p.a, 1<<20)
	p.onlyPings()
	if !p.a.done[r] || r.Err != EIO {
		t.Fatalf("done %v errno %d", p.a.done[r], r.Err)
	}
}

// TestWorthOfDiskIsOwed: a Primary that has attached a disk cannot use it, nor the
// peer's, before the peer has said what it is worth.
func TestWorthOfDiskIsOwed(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Detach{})
	p.settle(time.Second)
	p.b.mute[DataSock] = true
	p.a.e.Command(p.now, 77, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(0)
	p.want(p.a, "Primary/Secondary Connected Negotiating/UpToDate")
	r := p.read(p.a, 1<<20)
	p.onlyPings()
	if !p.a.done[r] {
		t.Fatalf("the read is still held\n%s", p.story())
	}
}

// TestIntroductionIsOwed: a peer that says nothing after the sockets are up.
func TestIntroductionIsOwed(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.b.mute[DataSock], p.a.mute[DataSock] = true, true
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk))})
		p.must(n, Connect{})
	}
	p.want(p.a, "Secondary/Unknown WFReportParams Inconsistent/DUnknown")
	p.onlyPings()
}

// TestReplyIsOwed: a request for a change that the peer does not answer.
func TestReplyIsOwed(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.up()
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.settle(time.Second)
	for i, c := range []Command{Promote{}, Disconnect{}} {
		p.b.mute[DataSock] = true
		id := uint64(60 + i)
		p.a.e.Command(p.now, id, c)
		p.onlyPings()
		p.b.mute[DataSock] = false
		p.settle(5 * time.Second)
		_, left := p.a.reply[id].(*LeaveError)
		if err, ok := p.a.reply[id]; !ok || left != (c == Disconnect{}) || !left && err != nil {
			t.Fatalf("%T: answered %v, %v\n%s", c, ok, err, p.story())
		}
		p.a.events = nil
	}
}

// TestVolumeThatPeerLacks: a volume that is not there on the peer owes nothing, as
// long as the others work.
func TestVolumeThatPeerLacks(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	v := &volume{number: 1, state: sm.Initial}
	v.cfg.Disk.defaults()
	mem := make([]byte, metaMemory)
	v.meta.record, v.meta.chunk = mem[:PageSize:PageSize], mem[PageSize:]
	p.a.e.vols = append(p.a.e.vols, v)
	p.up()
	p.settle(10 * time.Minute)
	p.want(p.a, "Secondary/Secondary Connected Inconsistent/Inconsistent")
	if v.state.Conn != sm.WFReportParams || p.a.timedOut() {
		t.Fatalf("volume 1 is %v\n%s", v.state, p.story())
	}
}

// TestResyncBlockIsOwed: a Source that sends no block of a resync. What the application
// writes there waits for it. A block that has come, and is being written, is not owed.
func TestResyncBlockIsOwed(t *testing.T) {
	target := func(hold func(p *pair) *node, op DiskOp) *pair {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.must(p.b, Disconnect{})
		p.write(p.a, 0, make([]byte, 4096))
		p.must(p.a, Demote{})
		hold(p).hold = func(io DiskIO) bool { return io.Op == op && !io.Meta }
		p.must(p.b, Connect{})
		p.settle(2 * time.Second)
		p.want(p.b, "Secondary/Secondary SyncTarget Inconsistent/UpToDate")
		p.a, p.b = p.b, p.a
		return p
	}
	p := target(func(p *pair) *node { return p.b }, DiskWrite)
	p.settle(3 * unansweredLimit)
	if p.a.timedOut() {
		t.Fatalf("a peer that has answered was given up\n%s", p.story())
	}
	target(func(p *pair) *node { return p.a }, DiskRead).onlyPings()
}

// TestPeerThatSendsLives: a ping that is not answered says nothing as long as the peer sends something else; the answer may be behind it.
func TestPeerThatSendsLives(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.mute[MetaSock] = true // a's answers to pings
	for range 50 {
		p.write(p.a, 0, make([]byte, 512))
		p.settle(400 * time.Millisecond)
	}
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.a.conn = "away"
	p.settle(time.Second)
	if p.b.e.State(0).Conn.Established() {
		t.Fatalf("a silent peer is not given up\n%s", p.story())
	}
}

// TestWriteIsOwed: a peer that gives signs of life and does not acknowledge a write, or the end of its epoch, is given up, and the application gets
// its answer.
func TestWriteIsOwed(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolA, ProtocolB, ProtocolC} {
		t.Run(protocolName(uint32(protocol)), func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{Protocol: protocol})
			p.inSync()
			p.b.hold = func(io DiskIO) bool { return !io.Meta }
			r := &Request{Op: OpWrite, Len: 4096, Data: make([]byte, 4096)}
			p.a.e.Submit(p.now, r)
			p.settle(unansweredLimit - time.Second)
			p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
			if answered := protocol != ProtocolC; p.a.done[r] != answered {
				t.Fatalf("before the limit the write is answered: %v", p.a.done[r])
			}
			p.settle(2 * time.Second)
			if st := p.a.e.State(0); st.Conn.Established() {
				t.Fatalf("the peer is not given up: %v\n%s", st, p.story())
			}
			if !p.a.done[r] || r.Err != OK {
				t.Fatalf("the write is answered: %v, errno %d", p.a.done[r], r.Err)
			}
		})
	}
}
