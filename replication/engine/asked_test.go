package engine

import (
	"runtime"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

func changeRequest(c sm.Change) []byte {
	return packets(1, wire.CmdStateChgReq, wire.StateChgReq{Mask: c.Mask, Val: c.Val}.Append(nil))
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// replies takes the codes of answers to requests for a change of volume 0, from what waits on meta, or is on its way to a peer that
// does not listen.
func (p *pair) replies(n *node) []int32 { return p.codes(n, wire.CmdStateChgReply) }

// connReplies takes those of answers to requests for the connection.
func (p *pair) connReplies(n *node) []int32 { return p.codes(n, wire.CmdConnStChgReply) }

func (p *pair) codes(n *node, cmd wire.Cmd) (codes []int32) {
	b := append(n.peer.wire[MetaSock], n.e.conn.queue[MetaSock].heads...)
	for len(b) > 0 {
		h, err := wire.DecodeHeader100(b)
		if err != nil {
			p.t.Fatal(err)
		}
		body := b[wire.HeaderLen100:][:h.Length]
		if h.Cmd == cmd {
			r, err := wire.DecodeStateChgReply(body)
			if err != nil {
				p.t.Fatal(err)
			}
			codes = append(codes, r.Code)
		}
		b = b[wire.HeaderLen100+int(h.Length):]
	}
	n.peer.wire[MetaSock], n.e.conn.queue[MetaSock].heads = nil, n.e.conn.queue[MetaSock].heads[:0]
	return codes
}

// TestOneRequestIsOpen: a peer asks ever again for what costs a Primary its disk, and does not confirm what it
// was sent. The same request gets the same answer a few times, another is refused at once, and nothing grows.
func TestOneRequestIsOpen(t *testing.T) {
	const many = 100000
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	n := p.a
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	n.e.Submit(p.now, &Request{Op: OpWrite, Len: 4096, Data: make([]byte, 4096)})
	p.settle(0)
	p.replies(n)

	same, other := changeRequest(sm.StartingSyncSChange), changeRequest(sm.DetachChange)
	before := heapInUse()
	for range many / 10 {
		for range 10 {
			n.e.Receive(p.now, DataSock, same)
		}
		n.e.Receive(p.now, DataSock, other)
		n.e.Drain()
		if codes := p.replies(n); len(codes) != 1 || codes[0] != sm.InTransientState.RefusalCode() {
			t.Fatalf("answers while a request is open: %v", codes)
		}
	}
	if grown := heapInUse() - before; grown > 1<<20 {
		t.Errorf("%d requests made the heap grow by %d bytes", many, grown)
	}
	p.want(n, "Primary/Secondary Connected UpToDate/UpToDate")

	p.b.mute[MetaSock] = true
	p.releaseWrites(p.b)
	p.settle(time.Second)
	p.want(n, "Primary/Secondary WFSyncUUID Inconsistent/UpToDate")
	codes := p.replies(n)
	if len(codes) != 1+maxAgain {
		t.Fatalf("the request was answered with %v, state %v\n%s", codes, n.e.State(0), p.story())
	}
	for _, c := range codes {
		if c != sm.CodeSuccess {
			t.Errorf("the same request gets the answers %v", codes)
		}
	}
	n.e.Receive(p.now, DataSock, other)
	if codes := p.replies(n); len(codes) != 1 {
		t.Errorf("the next request gets %v", codes)
	}
}

// TestRefusalsWaitForNothing: what is refused needs no superblock, so no answer waits for one that hangs.
func TestRefusalsWaitForNothing(t *testing.T) {
	const many = 100000
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	n := p.b
	n.peer = &node{t: t, name: "void", e: p.a.e, peer: n}
	n.hold = func(io DiskIO) bool { return io.Meta && n.e.vols[0].proof.since == 0 }
	n.e.Receive(p.now, DataSock, changeRequest(sm.DetachChange)) // granted when the disk has answered: the answer waits
	for p.work(n) {
	}
	if !n.e.settling(n.e.vols[0]) || n.e.vols[0].asked.stage != askAnswers {
		t.Fatalf("nothing waits for the superblock: %v", n.e.State(0))
	}
	p.replies(n)
	before := heapInUse()
	for range many / 100 {
		for range 100 {
			n.e.Receive(p.now, DataSock, changeRequest(sm.Change{Mask: ^uint32(0)}))
		}
		n.e.Drain()
		if codes := p.replies(n); len(codes) != 100 {
			t.Fatalf("%d answers to 100 requests", len(codes))
		}
	}
	if l, grown := n.e.vols[0].effects.len(), heapInUse()-before; l > maxEffects || grown > 1<<20 {
		t.Errorf("%d effects wait, the heap has grown by %d bytes", l, grown)
	}
}

// TestSuperblockHoldsThePeerUp: while a superblock hangs, no more of what the peer's packets owe is queued than a bound; its next packet
// waits, and goes on when the superblock is there.
func TestSuperblockHoldsThePeerUp(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	n := p.b
	n.peer = &node{t: t, name: "void", e: p.a.e, peer: n}
	n.hold = func(io DiskIO) bool { return io.Meta }
	v := n.e.vols[0]
	n.e.commit(v)
	for v.effects.len() <= maxEffects {
		v.effects.push(queuedEffect{effect: sm.SendState{}, state: v.state, ticket: v.meta.issued, link: n.e.conn.generation})
	}
	for p.work(n) {
	}
	b := packets(1, wire.CmdUnplugRemote, nil)
	if used := n.e.Receive(p.now, DataSock, b); used != 0 || n.e.ReceiveReady(DataSock) {
		t.Fatalf("takes %d bytes, ready for more: %v", used, n.e.ReceiveReady(DataSock))
	}
	if used := n.e.Receive(p.now, MetaSock, packets(1, wire.CmdPing, nil)); used == 0 {
		t.Error("pings are not answered")
	}
	p.release(n)
	if used := n.e.Receive(p.now, DataSock, b); used != len(b) || !n.e.ReceiveReady(DataSock) {
		t.Errorf("takes %d bytes when the superblock is written", used)
	}
}
