package sim

import (
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// halfOpen ends a connection for one of its sides: its route goes, its host takes the connection for dead. The other side holds
// it on. It still gets what was on its way; what it says itself gets nowhere, and is answered by a reset once the network is
// whole, or never. Meanwhile this side looks for the peer again, which does not listen: urbd, as the driver, has a listener
// only while it looks for one itself, so the two meet when the other side has found out.
func (l *link) halfOpen(e *end) {
	s, rng := l.s, l.s.cond.rng
	s.tell("connection %d is over for %s", e.number, e.n.name)
	s.counts[HalfOpen]++
	e.cut, e.other.cut = true, true
	for _, st := range e.other.out {
		e.other.loseWire(st)
	}
	e.other.resetFrom = engine.Never
	if rng.IntN(3) > 0 {
		e.other.resetFrom = s.now + between(rng, pick(rng, time.Millisecond, 200*time.Millisecond, 2*time.Second))
	}
	trouble := pick(rng, engine.BrokenPipe, engine.NetworkFailure)
	s.after(between(rng, pick(rng, time.Microsecond, 20*time.Millisecond)), func() { e.notice(trouble) })
}

// reset answers what is sent on a connection that the peer's host does not know any more.
func (e *end) reset() {
	s := e.n.s
	if e.resetFrom == 0 || e.resetFrom > s.now || s.link.blind() > s.now {
		return
	}
	e.resetFrom = engine.Never
	s.after(2*s.profile.netDelay, func() { e.notice(engine.BrokenPipe) })
}

// knock notes that a node looks for its peer while that holds an earlier connection, and does not listen.
func (l *link) knock() {
	for _, n := range l.s.nodes {
		if e := n.peer().end; n.seeking && e != nil && e.up && !e.closed && e.other.n.end != e.other && !e.knocked {
			e.knocked = true
			l.s.counts[HeldOn]++
			l.s.tell("%s looks for %s, which holds connection %d", n.name, n.peer().name, e.number)
		}
	}
}
