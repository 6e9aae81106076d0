package statemachine

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// twoNodes is two nodes and the wire between them.
type twoNodes struct {
	nodes   [2]*pairNode
	story   []string
	version int
}

func newPair() *twoNodes {
	p := &twoNodes{}
	rnd := new(uint64)
	for i, name := range []string{"A", "B"} {
		p.nodes[i] = &pairNode{name: name, rnd: rnd, s: Initial, u: UUIDs{Current: JustCreated}, bits: [pairBlocks]bool{true, true, true, true},
			log: func(f string, args ...any) { p.story = append(p.story, fmt.Sprintf(f, args...)) }}
		p.nodes[i].disk.u = p.nodes[i].u
	}
	p.nodes[0].peer, p.nodes[1].peer = p.nodes[1], p.nodes[0]
	return p
}

// meet connects the two if both look for each other.
func (p *twoNodes) meet(acceptor int) bool {
	a, b := p.nodes[0], p.nodes[1]
	if a.s.Conn != WFConnection || b.s.Conn != WFConnection || len(a.todo)+len(b.todo) > 0 {
		return false
	}
	for i, n := range p.nodes {
		n.inbox, n.up, n.known, n.rc = nil, true, false, i == acceptor
		n.fencing, n.asking = false, false
	}
	a.step(SocketsUp{})
	b.step(SocketsUp{})
	return true
}

// cut loses the wire with all that is on it.
func (p *twoNodes) cut() {
	for _, n := range p.nodes {
		n.inbox = nil
	}
	for _, n := range p.nodes {
		if n.up {
			n.down()
			n.step(PeerLost{NetworkFailure})
			n.inbox, n.peer.inbox = nil, nil
		}
	}
}

// pairActions are what may happen to a pair at any time.
var pairActions = map[string]func(p *twoNodes, n *pairNode, block int){
	"work":       func(_ *twoNodes, n *pairNode, _ int) { n.work() },
	"meet":       func(p *twoNodes, n *pairNode, block int) { p.meet(block % 2) },
	"cut":        func(p *twoNodes, _ *pairNode, _ int) { p.cut() },
	"write":      func(p *twoNodes, n *pairNode, b int) { p.version++; n.write(b, p.version) },
	"crash":      func(_ *twoNodes, n *pairNode, _ int) { n.crash() },
	"attach":     func(_ *twoNodes, n *pairNode, _ int) { n.attach() },
	"connect":    func(_ *twoNodes, n *pairNode, _ int) { n.step(Connect{}) },
	"disconnect": func(_ *twoNodes, n *pairNode, _ int) { n.request(Disconnect{}) },
	"leave":      func(_ *twoNodes, n *pairNode, _ int) { n.step(Disconnect{Force: true}) },
	"promote":    func(_ *twoNodes, n *pairNode, _ int) { n.request(Promote{}) },
	"force":      func(_ *twoNodes, n *pairNode, _ int) { n.request(Promote{Force: true}) },
	"demote":     func(_ *twoNodes, n *pairNode, _ int) { n.step(Demote{}) },
	"detach": func(_ *twoNodes, n *pairNode, _ int) {
		if n.spare() {
			n.request(Detach{})
		}
	},
	"fail": func(_ *twoNodes, n *pairNode, _ int) {
		if n.spare() {
			n.step(DiskFailed{})
		}
	},
	"invalidate": func(_ *twoNodes, n *pairNode, _ int) {
		if n.spare() { // or it is the only good data that is thrown away, by order
			n.request(Invalidate{})
		}
	},
	"overwrite": func(_ *twoNodes, n *pairNode, _ int) { n.request(InvalidateRemote{}) },
	"pause":     func(_ *twoNodes, n *pairNode, b int) { n.step(Pause{b%2 == 0}) },
	// By one administrator only: two that do it at once leave two generations of the same data, which the next
	// handshake calls a split brain.
	"skip sync": func(p *twoNodes, _ *pairNode, _ int) {
		p.nodes[0].step(SkipInitialSync{p.nodes[0].u.Current == JustCreated})
	},
}

// request is an event that may have the peer asked: one at a time.
func (n *pairNode) request(ev Event) {
	if !n.pend {
		n.step(ev)
	}
}

// spare says that this disk may go: there is another one, and no question about it on its way. Two disks
// that go at once may take a write with them that was on one of them only.
func (n *pairNode) spare() bool {
	return n.peer.s.Disk == UpToDate && !n.pend && !n.peer.pend
}

// settle lets both nodes do everything that is to be done, with the wire whole, until nothing is left.
func (p *twoNodes) settle() error {
	for _, n := range p.nodes {
		n.step(Pause{false})
		n.step(DetachDone{})
	}
	for range 400 {
		worked := p.meet(0)
		for _, n := range p.nodes {
			for n.work() {
				worked = true
			}
		}
		if !worked {
			return nil
		}
	}
	return errors.New("the nodes never come to rest")
}

// verdict is how the pair ended, after it has settled.
func (p *twoNodes) verdict() (string, error) {
	a, b := p.nodes[0], p.nodes[1]
	for _, n := range p.nodes {
		var refused *HandshakeError
		var rule Refusal
		apart := n.s.Conn == StandAlone || n.s.Disk == Diskless
		switch {
		case !apart:
		case errors.As(n.refused, &refused):
			return string(refused.Reason), nil
		case errors.As(n.why, &rule), errors.As(n.refused, &rule):
			return string(rule), nil
		case n.primary() && (n.exposed^n.u.Current)&^RoleBit != 0:
			return "a Primary whose data is nowhere any more", nil
		default:
			return "", fmt.Errorf("%s is apart for no reason", n.name)
		}
	}
	switch {
	case a.s.Conn != Connected || b.s.Conn != Connected:
		return "", errors.New("stuck")
	case a.s.Disk != b.s.PeerDisk || b.s.Disk != a.s.PeerDisk || a.s.Role != b.s.Peer || b.s.Role != a.s.Peer:
		return "", errors.New("they see each other as what they are not")
	case a.s.Disk == Inconsistent && b.s.Disk == Inconsistent:
		return "both Inconsistent", nil
	case !a.s.Redundant():
		return "", errors.New("not redundant")
	case a.data != b.data:
		return "", fmt.Errorf("both UpToDate, and the data differs: %v %v", a.data, b.data)
	case a.count() != 0 && a.u.Bitmap != 0, masked(a.u).Current != masked(b.u).Current:
		return "", fmt.Errorf("both UpToDate, and the generations differ: %v %v", a.u, b.u)
	}
	return "equal", nil
}

// TestPair lets two nodes live through anything, then lets them settle: they are equal, or say why
// they part. Meanwhile every application reads what it wrote.
func TestPair(t *testing.T) {
	var names []string
	for name := range pairActions {
		names = append(names, name)
	}
	// What makes things go on is drawn more often than what stops them.
	for range 12 {
		names = append(names, "work", "work", "work", "write", "meet")
	}
	names = append(names, "connect", "connect", "attach", "attach")
	draw := rapid.SampledFrom(sorted(names))
	ends := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		p := newPair()
		defer func() {
			if rt.Failed() {
				for _, line := range p.story {
					rt.Log(line)
				}
			}
		}()
		if rapid.Bool().Draw(rt, "start in sync") {
			p.inSync()
		}
		for range rapid.IntRange(0, 150).Draw(rt, "length") {
			name := draw.Draw(rt, "action")
			n := p.nodes[rapid.IntRange(0, 1).Draw(rt, "node")]
			block := rapid.IntRange(0, pairBlocks-1).Draw(rt, "block")
			p.story = append(p.story, "--- "+name+" "+n.name)
			pairActions[name](p, n, block)
			p.check(rt)
		}
		p.story = append(p.story, "--- settle")
		for range 3 { // what was refused in a transient state is tried again
			for _, n := range p.nodes {
				if n.s.Disk == Diskless && len(n.todo) == 0 {
					n.attach()
				}
				if n.s.Conn == StandAlone && n.why == nil {
					n.step(Connect{})
				}
			}
			if err := p.settle(); err != nil {
				rt.Fatal(err)
			}
			p.check(rt)
		}
		end, err := p.verdict()
		if err != nil {
			rt.Fatalf("%v\nA %v %v %v %v\nB %v %v %v %v", err, p.nodes[0].s, p.nodes[0].u, p.nodes[0].data, p.nodes[0].bits, p.nodes[1].s, p.nodes[1].u, p.nodes[1].data, p.nodes[1].bits)
		}
		ends[end]++
	})
	t.Logf("ends: %v", ends)
	if ends["equal"] == 0 {
		t.Errorf("no pair ended equal: %v", ends)
	}
}

func (p *twoNodes) check(rt *rapid.T) {
	for _, n := range p.nodes {
		for b := range pairBlocks {
			if err := n.read(b); err != nil {
				rt.Fatal(err)
			}
		}
	}
}

// inSync is a pair that was set up without a first sync, A Primary.
func (p *twoNodes) inSync() {
	for _, n := range p.nodes {
		n.attach()
		n.step(Connect{})
	}
	p.settle()
	p.nodes[0].step(SkipInitialSync{true})
	p.settle()
	p.nodes[0].step(Promote{})
	p.settle()
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}
