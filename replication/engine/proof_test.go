package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// What a disk does not answer any more.
var hanging = map[string]func(DiskIO) bool{
	"everything": hangs,
	"data":       func(io DiskIO) bool { return !io.Meta },
	"metadata":   func(io DiskIO) bool { return io.Meta },
	"a block":    func(io DiskIO) bool { return io.Op == DiskRead }, // no cache to flush, and the metadata elsewhere
	"a write":    dataWrite,                                         // that was under way before
}

// leavesHung has node n ask for what makes the other node's disk, which hangs, the only good one: it is refused, and nothing has changed, until
// the disk answers again.
func (p *pair) leavesHung(n *node, cmd Command, hang func(DiskIO) bool) {
	p.t.Helper()
	hung := n.peer
	before, peerBefore := n.e.State(0), hung.e.State(0)
	hung.hold = hang
	p.a.e.Submit(p.now, &Request{Op: OpWrite, Len: 4096, Data: filled(1, 4096)})
	p.settle(0)
	n.e.Command(p.now, 100, cmd)
	p.settle(proofPatience - time.Second)
	p.unanswered(n, 100)
	p.settle(2 * time.Second)
	if err := n.reply[100]; err == nil {
		p.t.Fatalf("%T: answered %v\n%s", cmd, err, p.story())
	}
	if n.e.State(0) != before || hung.e.State(0) != peerBefore || p.outdatedOnDisk(n) {
		p.t.Fatalf("%T: %v and %v, Outdated on disk %v\n%s", cmd, n.e.State(0), hung.e.State(0), p.outdatedOnDisk(n), p.story())
	}
	p.comesBack(hung, OK)
	p.must(n, cmd)
}

// A disk that hangs does not become the only good one on the word of its own node, whoever asks. (A Primary that detaches waits for
// its writes to be confirmed first.)
func TestPeerIsNotLetGoForAHungDisk(t *testing.T) {
	all := []string{"everything", "data", "metadata", "a block", "a write"}
	for name, c := range map[string]struct {
		who  func(p *pair) *node
		cmd  Command
		what []string
	}{
		"Secondary, disconnect": {func(p *pair) *node { return p.b }, Disconnect{}, all},
		"Secondary, down":       {func(p *pair) *node { return p.b }, Down{}, all},
		"Secondary, detach":     {func(p *pair) *node { return p.b }, Detach{}, all},
		"Secondary, invalidate": {func(p *pair) *node { return p.b }, Invalidate{}, all},
		"Primary, detach":       {func(p *pair) *node { return p.a }, Detach{}, []string{"metadata", "a block"}},
	} {
		for _, what := range c.what {
			t.Run(name+", "+what, func(t *testing.T) {
				p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
				p.inSync()
				p.leavesHung(c.who(p), c.cmd, hanging[what])
			})
		}
	}
}

// The peer is not asked to let itself be overwritten from a disk that hangs: the order can be taken back.
func TestHungDiskOverwritesNobody(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.b.hold = hanging["a block"]
	p.b.e.Command(p.now, 100, InvalidateRemote{Vol: 0})
	p.settle(10 * time.Second)
	p.unanswered(p.b, 100)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	if end, _ := p.b.e.Withdraw(p.now, 100); end != Withdrawn {
		t.Fatalf("taken back: %v\n%s", end, p.story())
	}
	p.comesBack(p.b, OK)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.must(p.b, InvalidateRemote{Vol: 0})
	p.inSyncAgain()
}

// While the disk has to answer, the same request is answered as often as it was made, within a bound, another at once in the negative. When the disk
// has answered the peer may go; when it has failed, not.
func TestRequestThatWaitsForTheDisk(t *testing.T) {
	connRequest := func(c sm.Change) []byte {
		return packets(1, wire.CmdConnStChgReq, wire.StateChgReq{Mask: c.Mask, Val: c.Val}.Append(nil))
	}
	busy, no := sm.InTransientState.RefusalCode(), sm.NoUpToDateDisk.RefusalCode()
	for name, c := range map[string]struct {
		ends func(p *pair)
		want []int32
	}{
		"answers": {func(p *pair) { p.comesBack(p.a, OK) }, []int32{busy, sm.CodeSuccess}},
		"fails":   {func(p *pair) { p.comesBack(p.a, EIO) }, []int32{busy, no, no, no}},
		"hangs":   {func(p *pair) { p.settle(proofPatience) }, []int32{busy, no, no, no}},
		"is slow": {func(p *pair) { p.settle(proofPatience - time.Millisecond) }, []int32{busy}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.b.conn = "deaf"
			p.a.hold = hangs
			leave := connRequest(sm.DisconnectSelfChange)
			for range 3 {
				p.a.e.Receive(p.now, DataSock, leave)
			}
			p.a.e.Receive(p.now, DataSock, connRequest(sm.DisconnectChange))
			p.settle(0)
			c.ends(p)
			if got := p.connReplies(p.a); !slices.Equal(got, c.want) {
				t.Fatalf("answers %v, want %v\n%s", got, c.want, p.story())
			}
		})
	}
}
