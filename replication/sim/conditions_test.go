package sim

import (
	"testing"
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// TestClock: whatever a clock shows, it has just shown it when it is asked at the time that it said.
func TestClock(t *testing.T) {
	for _, c := range []clock{exact, {1, 2}, {2, 3}, {9, 10}, {11, 10}, {3, 2}, {2, 1}} {
		for _, local := range []engine.Instant{0, 1, 2, 7, time.Millisecond + 1, 3 * time.Hour, 100*time.Hour - 1} {
			at := c.shows(local)
			if c.reads(at) < local || at > 0 && c.reads(at-1) >= local {
				t.Errorf("%v shows %v at %v, and reads %v then, %v before", c, local, at, c.reads(at), c.reads(at-1))
			}
		}
		if c.shows(engine.Never) != engine.Never {
			t.Errorf("%v: never comes", c)
		}
	}
}

// newPair is two connected nodes without faults.
func newPair(t *testing.T, seed uint64) *Sim {
	t.Helper()
	s := newSim(Options{Seed: seed, Plain: true})
	s.build()
	s.setup()
	s.run(10*time.Second, nil)
	return s
}

func (s *Sim) connected() bool {
	for _, n := range s.nodes {
		if n.state(0).Conn != sm.Connected {
			return false
		}
	}
	return true
}

// TestOneWay: a partition in one direction is found out by a ping, which one of the nodes hears, or its answer. What goes the other
// way arrives, and they do not meet before it is over.
func TestOneWay(t *testing.T) {
	for i := range 2 {
		s := newPair(t, 7)
		deaf, before := s.nodes[i], s.counts
		s.link.partition(deaf, 20*time.Second)
		until := s.now + 20*time.Second
		if !s.run(15*time.Second, func() bool { return !s.connected() && s.nodes[1-i].state(0).Conn < sm.Connected }) {
			t.Fatal("nobody has noticed")
		}
		if s.run(until-s.now-1, s.connected) {
			t.Error("the nodes have met in a partition")
		}
		if n := s.counts[PingTimeout] - before[PingTimeout]; n < len(s.vols) {
			t.Errorf("%d volumes were left because of a ping, there are %d", n, len(s.vols))
		}
		if s.counts[HeardOneWay] == before[HeardOneWay] || s.counts[PingDeaf] == before[PingDeaf] {
			t.Errorf("nothing was heard the other way, or no ping found out:\n%v", &s.counts)
		}
		if !s.run(20*time.Second, s.connected) {
			t.Error("the nodes do not meet after a partition")
		}
	}
}

// TestHalfOpen: who takes a connection for dead looks for its peer, which holds it on until a ping is not answered, or what it
// sends is answered by a reset.
func TestHalfOpen(t *testing.T) {
	for i := range 2 {
		for seed := range uint64(10) {
			s := newPair(t, seed)
			number := s.link.number
			s.link.halfOpen(s.nodes[i].end)
			if !s.run(20*time.Second, func() bool { return s.link.number > number && s.connected() }) {
				t.Fatal("the nodes do not meet again")
			}
			if s.counts[HeldOn] != 1 {
				t.Errorf("%d times a node looked for its peer, which held the old connection", s.counts[HeldOn])
			}
		}
	}
}

// TestStall: a daemon that gets no processor answers nothing; when it goes on its deadlines are past, and it goes on all the same.
func TestStall(t *testing.T) {
	s := newPair(t, 7)
	n, number := s.nodes[0], s.link.number
	turn := n.eng.Status()
	n.stall(10 * time.Second)
	s.run(9*time.Second, nil)
	if is := n.eng.Status(); is.Conn != turn.Conn || n.asleep < s.now {
		t.Errorf("the daemon has worked without a processor: %+v", is)
	}
	if s.nodes[1].state(0).Conn == sm.Connected {
		t.Error("the peer has not noticed")
	}
	if !s.run(20*time.Second, func() bool { return s.link.number > number && s.connected() }) {
		t.Error("the nodes do not meet again")
	}
}
