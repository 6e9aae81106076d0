package replication

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/urbd/urbd/replication/wire"
)

const (
	data = wire.CmdInitialData
	meta = wire.CmdInitialMeta
)

func TestPairingCrossing(t *testing.T) {
	own, theirs := &peerSocket{}, &peerSocket{accepted: true}
	t.Run("the lower address keeps its own", func(t *testing.T) {
		p := pairing{lower: true}
		if !p.dialed(data, own) {
			t.Fatal("the first dial is not wanted")
		}
		if drop := p.accept(data, theirs); drop != theirs {
			t.Fatalf("drops %v, want the peer's", drop)
		}
		if p.data.one() != own {
			t.Fatal("does not keep its own")
		}
	})
	t.Run("the higher address keeps what the peer did not close", func(t *testing.T) {
		for _, dead := range []*peerSocket{own, theirs} {
			p := pairing{}
			p.dialed(data, own)
			if drop := p.accept(data, theirs); drop != nil {
				t.Fatalf("drops %v before the peer has decided", drop)
			}
			if p.data.one() != nil || !p.crossed() {
				t.Fatal("has decided by itself")
			}
			if !p.died(dead) || p.data.one() == nil || p.data.one() == dead {
				t.Fatalf("kept %v", p.data.one())
			}
		}
	})
	t.Run("the peer speaks on the one it chose", func(t *testing.T) {
		p := pairing{}
		p.dialed(data, own)
		p.accept(data, theirs)
		if drop := p.spoke(own); drop != theirs || p.data.one() != own {
			t.Fatalf("drops %v", drop)
		}
	})
	t.Run("a dial that comes too late is given up unnoticed", func(t *testing.T) {
		p := pairing{lower: true}
		p.accept(data, theirs)
		if p.dialed(data, own) {
			t.Fatal("sends a first packet into a crossing it could have avoided")
		}
	})
	t.Run("a second accepted one replaces the first", func(t *testing.T) {
		p := pairing{}
		p.accept(data, theirs)
		newer := &peerSocket{accepted: true}
		if drop := p.accept(data, newer); drop != theirs || p.data.one() != newer {
			t.Fatalf("drops %v, keeps %v", drop, p.data.one())
		}
	})
	t.Run("meta may come first", func(t *testing.T) {
		p := pairing{}
		p.accept(meta, theirs)
		if !p.doubtful() || p.meta.one() != theirs {
			t.Fatal("not kept, or believed at once")
		}
	})
	t.Run("no answer to a crossing", func(t *testing.T) {
		p := pairing{}
		p.dialed(data, own)
		p.accept(data, theirs)
		if drop := p.giveUp(); len(drop) != 1 || drop[0] != own || p.data.one() != theirs {
			t.Fatalf("drops %v", drop)
		}
	})
}

// TestPairingAgrees plays every order of the messages of two nodes that both
// want one socket of a kind: they end with the same connection, whatever
// overtakes what, and also against the driver's rule.
func TestPairingAgrees(t *testing.T) {
	for _, driver := range []bool{false, true} {
		for _, lower := range []bool{false, true} {
			for seed := range uint64(500) {
				if err := playCrossing(seed, lower, driver); err != nil {
					t.Fatalf("driver %v, lower %v, seed %d: %v", driver, lower, seed, err)
				}
			}
		}
	}
}

// A node of the model: a pairing of ours, or the driver's rule (docs/drbd-wire.md 4.3 step 4).
type modelNode struct {
	pairing
	driver bool
	ends   map[int]*peerSocket // connection number to this node's end
}

func (n *modelNode) accept(s *peerSocket) *peerSocket {
	if !n.driver {
		return n.pairing.accept(data, s)
	}
	drop := n.data.one()
	n.data = side{accepted: s}
	return drop
}

func playCrossing(seed uint64, lower, driver bool) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	nodes := [2]*modelNode{
		{pairing: pairing{lower: lower}, ends: map[int]*peerSocket{}},
		{pairing: pairing{lower: !lower}, ends: map[int]*peerSocket{}, driver: driver},
	}
	var todo []func() // messages under way, delivered in random order
	var closeEnd func(from, conn int)
	closeEnd = func(from, conn int) {
		to := nodes[1-from]
		todo = append(todo, func() {
			if s := to.ends[conn]; s != nil {
				to.died(s)
			} else {
				closeEnd(from, conn) // the end of a stream comes behind its first packet
			}
		})
	}
	for from := range 2 {
		todo = append(todo, func() { // connection number from is dialled by node from
			me, to := nodes[from], nodes[1-from]
			own := &peerSocket{}
			me.ends[from] = own
			if !me.dialed(data, own) {
				return // closed without a first packet: the peer never learns of it
			}
			todo = append(todo, func() {
				s := &peerSocket{accepted: true}
				to.ends[from] = s
				if drop := to.accept(s); drop != nil {
					for conn, end := range to.ends {
						if end == drop {
							closeEnd(1-from, conn)
						}
					}
				}
			})
		})
	}
	for len(todo) > 0 {
		i := rng.IntN(len(todo))
		f := todo[i]
		todo = append(todo[:i], todo[i+1:]...)
		f()
	}
	for conn := range 2 {
		a, b := nodes[0].ends[conn], nodes[1].ends[conn]
		if a != nil && a == nodes[0].data.one() && b != nil && b == nodes[1].data.one() {
			return nil
		}
	}
	return fmt.Errorf("no connection is kept by both: %+v %+v", nodes[0].data, nodes[1].data)
}
