package engine

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// edge is one of the table of connection states.
type edge struct{ from, to string }

// walk adds the edges that the nodes of a pair have walked.
func (p *pair) walk(edges map[edge]bool) {
	for _, n := range []*node{p.a, p.b} {
		for _, ev := range n.events {
			change, ok := ev.(StateChange)
			if !ok {
				continue
			}
			if e := (edge{change.From.Conn.String(), change.To.Conn.String()}); e.from != e.to {
				edges[e] = true
			}
		}
	}
}

// stays are ways into a connection state in which a node then stays, the peer being where it may.
var stays = map[sm.Conn]func(t *testing.T) (*pair, *node){
	sm.WFConnection: func(t *testing.T) (*pair, *node) {
		p := newPair(t, 8<<20, NetOptions{})
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.must(p.a, Connect{})
		return p, p.a
	},
	sm.WFReportParams: func(t *testing.T) (*pair, *node) {
		p := newPair(t, 8<<20, NetOptions{})
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.must(p.a, Connect{})
		p.a.e.ConnUp(p.now, Link{Features: Features})
		p.a.conn = "up"
		p.settle(0)
		return p, p.a
	},
	sm.Connected: func(t *testing.T) (*pair, *node) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		return p, p.b
	},
	sm.StartingSyncS: func(t *testing.T) (*pair, *node) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.unheard(p.a, Invalidate{}, "Secondary/Primary StartingSyncS UpToDate/Consistent")
		return p, p.b
	},
	sm.StartingSyncT: func(t *testing.T) (*pair, *node) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.b.hold = p.b.isPages
		p.b.e.Command(p.now, 100, Invalidate{})
		p.settle(0)
		return p, p.b
	},
	sm.WFBitMapS: func(t *testing.T) (*pair, *node) {
		p := loneWriter(t)
		p.b.hold = p.b.isSuper // it says nothing more
		p.must(p.a, Connect{})
		return p, p.a
	},
	sm.WFBitMapT: func(t *testing.T) (*pair, *node) {
		p := loneWriter(t)
		p.a.hold = p.a.isSuper
		p.must(p.a, Connect{})
		return p, p.b
	},
	sm.WFSyncUUID: func(t *testing.T) (*pair, *node) {
		p := loneWriter(t)
		p.a.hold = func(io DiskIO) bool { return p.a.isSuper(io) && p.a.e.vols[0].state.Conn == sm.SyncSource }
		p.must(p.a, Connect{})
		return p, p.b
	},
	sm.SyncSource: func(t *testing.T) (*pair, *node) {
		p := loneWriter(t)
		p.a.hold = dataRead
		p.must(p.a, Connect{})
		return p, p.a
	},
	sm.SyncTarget: func(t *testing.T) (*pair, *node) {
		p := loneWriter(t)
		p.a.hold = dataRead
		p.must(p.a, Connect{})
		return p, p.b
	},
	sm.Behind: func(t *testing.T) (*pair, *node) {
		p := newPair(t, 8<<20, NetOptions{Protocol: ProtocolA})
		p.inSync()
		pullAhead(p, p.b)
		p.settle(0)
		return p, p.b
	},
	sm.PausedSyncS: func(t *testing.T) (*pair, *node) {
		p := pausedResync(t, NetOptions{}, false)
		return p, p.a
	},
	sm.PausedSyncT: func(t *testing.T) (*pair, *node) {
		p := pausedResync(t, NetOptions{}, false)
		return p, p.b
	},
}

// pullAhead has a node hear that its peer, a Primary with protocol A, pulls ahead.
func pullAhead(p *pair, n *node) {
	said := n.peer.e.vols[0].state
	said.Conn = sm.Ahead
	n.e.Receive(p.now, DataSock, framed(wire.CmdState, wire.State{Word: said.Word()}.Append(nil), 0))
}

// loneWriter is a pair in which a has written without b.
func loneWriter(t *testing.T) *pair { return loneWriterWith(t, NetOptions{}) }

func loneWriterWith(t *testing.T, net NetOptions) *pair {
	p := newPair(t, 8<<20, net)
	p.inSync()
	p.must(p.a, Disconnect{})
	p.write(p.a, 0, make([]byte, 4096))
	return p
}

// leavings are what may happen to a node in any of those states.
var leavings = map[string]func(p *pair, n *node){
	"timeout":         func(p *pair, n *node) { n.e.ConnDown(p.now, Timeout, nil) },
	"broken pipe":     func(p *pair, n *node) { n.e.ConnDown(p.now, BrokenPipe, nil) },
	"network failure": func(p *pair, n *node) { n.e.ConnDown(p.now, NetworkFailure, nil) },
	"nonsense":        func(p *pair, n *node) { n.e.Receive(p.now, DataSock, make([]byte, wire.HeaderLen100)) },
	"disconnect":      func(p *pair, n *node) { n.e.Command(p.now, 200, Disconnect{Force: true}) },
	"peer disconnects": func(p *pair, n *node) {
		ask := wire.StateChgReq{Mask: sm.DisconnectChange.Mask, Val: sm.DisconnectChange.Val}
		n.e.Receive(p.now, DataSock, framed(wire.CmdConnStChgReq, ask.Append(nil), 0))
	},
	"peer pulls ahead": pullAhead,
	"peer stops being ahead": func(p *pair, n *node) {
		n.e.Receive(p.now, DataSock, framed(wire.CmdState, wire.State{Word: n.peer.e.vols[0].state.Word()}.Append(nil), 0))
	},
	"sync UUID": func(p *pair, n *node) {
		n.e.Receive(p.now, DataSock, framed(wire.CmdSyncUUID, wire.SyncUUID{UUID: 0x1000}.Append(nil), 0))
	},
	"pause, sync UUID": func(p *pair, n *node) {
		n.e.Command(p.now, 200, PauseSync{On: true})
		n.e.Receive(p.now, DataSock, framed(wire.CmdSyncUUID, wire.SyncUUID{UUID: 0x1000}.Append(nil), 0))
	},
	"own disk fails":    func(p *pair, n *node) { n.e.readFailed(n.e.vols[0], EIO) },
	"peer's disk fails": func(p *pair, n *node) { n.peer.e.readFailed(n.peer.e.vols[0], EIO) },
	"pause":             func(p *pair, n *node) { n.e.Command(p.now, 200, PauseSync{On: true}) },
	"resume":            func(p *pair, n *node) { p.a.e.Command(p.now, 200, PauseSync{}) },
	"goes on": func(p *pair, n *node) {
		for _, n := range []*node{p.a, p.b} {
			n.mute = [2]bool{}
			if len(n.held) > 0 && n.held[0].Op == DiskRead {
				n.release()
			}
			p.releaseWrites(n)
		}
	},
	"pauses, and goes on": func(p *pair, n *node) {
		n.e.Command(p.now, 200, PauseSync{On: true})
		for _, n := range []*node{p.a, p.b} {
			n.mute = [2]bool{}
			p.releaseWrites(n)
		}
	},
}

// troubles are how a connection fails, and then is given up before it is looked for again.
var troubles = map[string]func(p *pair, n *node){
	"timeout": leavings["timeout"], "broken pipe": leavings["broken pipe"], "network failure": leavings["network failure"],
	"nonsense": leavings["nonsense"], "peer disconnects": leavings["peer disconnects"],
}

// TestEdges walks the table of connection states: from every state that a node can stay in, whatever may happen. What it
// does not walk stands in testdata/edges.unwalked, with the reason why.
func TestEdges(t *testing.T) {
	walked := map[edge]bool{}
	for conn, enter := range stays {
		for name, leave := range leavings {
			t.Run(fmt.Sprintf("%v, %s", conn, name), func(t *testing.T) {
				p, n := enter(t)
				if got := n.e.vols[0].state.Conn; got != conn {
					t.Fatalf("%s is %v\n%s", n.name, got, p.story())
				}
				leave(p, n)
				p.settle(0)
				p.walk(walked)
			})
		}
	}
	for name, fail := range troubles {
		t.Run(name+", disconnect", func(t *testing.T) {
			p, n := stays[sm.Connected](t)
			fail(p, n)
			n.e.Command(p.now, 200, Disconnect{Force: true})
			p.settle(time.Second)
			p.want(n, "Secondary/Unknown StandAlone UpToDate/DUnknown")
			p.walk(walked)
		})
	}
	for name, story := range walks {
		t.Run(name, func(t *testing.T) { story(t).walk(walked) })
	}
	reasons := unwalked(t)
	for _, e := range sm.Transitions() {
		edge := edge{e.From.String(), e.To.String()}
		reason, listed := reasons[edge]
		switch {
		case walked[edge] && listed:
			t.Errorf("%v -> %v is walked, and testdata/edges.unwalked says that it is not: %s", e.From, e.To, reason)
		case !walked[edge] && !listed:
			t.Errorf("%v -> %v (%s) is not walked: do so, or give the reason in testdata/edges.unwalked", e.From, e.To, e.Label)
		}
		delete(reasons, edge)
		delete(walked, edge)
	}
	for e := range reasons {
		t.Errorf("testdata/edges.unwalked: %s -> %s is no edge of the table", e.from, e.to)
	}
	for e := range walked {
		t.Errorf("%s -> %s was walked, and is no edge of the table", e.from, e.to)
	}
}

// walks are edges that need a story of their own.
var walks = map[string]func(t *testing.T) *pair{
	"the peer pulls ahead during a resync": func(t *testing.T) *pair {
		p := loneWriterWith(t, NetOptions{Protocol: ProtocolA})
		p.a.hold = dataRead
		p.must(p.a, Connect{})
		pullAhead(p, p.b)
		p.settle(0)
		leavings["pause, sync UUID"](p, p.b)
		p.settle(0)
		p.want(p.b, "Secondary/Primary PausedSyncT Inconsistent/UpToDate user_isp")
		pullAhead(p, p.b)
		p.settle(0)
		p.want(p.b, "Secondary/Primary Behind Inconsistent/UpToDate user_isp")
		return p
	},
	"disconnect before the peer is looked for": func(t *testing.T) *pair {
		p := newPair(t, 8<<20, NetOptions{})
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.a.hold = p.a.isSuper
		p.a.e.Command(p.now, 100, NewCurrentUUID{}) // what follows waits until the superblock is durable
		p.a.e.Command(p.now, 101, Connect{})
		p.settle(0)
		p.want(p.a, "Secondary/Unknown Unconnected Inconsistent/DUnknown")
		p.a.e.Command(p.now, 102, Disconnect{})
		p.settle(0)
		p.releaseWrites(p.a)
		p.succeeded(p.a, 102)
		return p
	},
}

// unwalked reads testdata/edges.unwalked: "FROM -> TO: reason", where FROM and TO may be several states, with "|".
func unwalked(t *testing.T) map[edge]string {
	t.Helper()
	f, err := os.Open("testdata/edges.unwalked")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := map[edge]bool{}
	for _, e := range sm.Transitions() {
		table[edge{e.From.String(), e.To.String()}] = true
	}
	reasons := map[edge]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		states, reason, ok1 := strings.Cut(line, ": ")
		from, to, ok2 := strings.Cut(states, " -> ")
		if !ok1 || !ok2 || reason == "" {
			t.Fatalf("testdata/edges.unwalked: %q", line)
		}
		for f := range strings.SplitSeq(from, "|") {
			for to := range strings.SplitSeq(to, "|") {
				e := edge{f, to}
				if _, twice := reasons[e]; twice {
					t.Errorf("testdata/edges.unwalked: %s -> %s stands there twice", f, to)
				}
				if !table[e] {
					t.Errorf("testdata/edges.unwalked: %s -> %s is no edge of the table", f, to)
				}
				reasons[e] = reason
			}
		}
	}
	return reasons
}
