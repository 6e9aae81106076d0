package sim

import (
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// close is the engine's order to end the connection, or to stop looking for one.
func (l *link) close(n *node, linger time.Duration) {
	n.seeking = false
	e := n.end
	life := n.life
	if e == nil {
		l.s.after(0, func() { n.closedAll(life) })
		return
	}
	if linger == 0 || !e.up {
		e.shut(l.s.rng.IntN(2) == 0)
		l.s.after(between(l.s.rng, 100*time.Microsecond), func() { n.closedAll(life) })
		return
	}
	e.closing = true
	until := l.s.now + n.lasts(linger)
	var poll func()
	poll = func() {
		if n.life != life || n.sleeps(poll) {
			return
		}
		n.react()
		if busy := e.out[0].sending || e.out[1].sending; busy && l.s.now < until && !e.closed {
			l.s.after(time.Millisecond, poll)
			return
		}
		e.shut(true)
		n.closedAll(life)
	}
	l.s.after(0, poll)
}

func (n *node) closedAll(life int) {
	if n.life != life || n.sleeps(func() { n.closedAll(life) }) {
		return
	}
	n.end = nil
	n.eng.ConnClosed(n.now())
	n.touched()
}

// shut closes this end. In order, the peer gets what was sent and then the end
// of the streams; else what is on its way is lost, and it gets the end at once.
func (e *end) shut(inOrder bool) {
	if e.closed {
		return
	}
	e.closed = true
	s := e.n.s
	for _, st := range e.out {
		st.flight, st.sending = nil, false
		if e.cut {
			continue
		}
		if !inOrder {
			e.loseWire(st)
		}
		if st.sock == engine.MetaSock && s.rng.IntN(10) > 0 {
			st.last = max(st.last, e.out[engine.DataSock].last) // data is closed first
		}
		st.send(nil)
	}
	if e.other.closed {
		s.tell("connection %d is closed", e.number)
	}
}

func (e *end) loseWire(st *stream) {
	if len(st.pieces) > 0 {
		e.n.s.counts[BytesLost]++
	}
	st.pieces, st.onWire = nil, 0
}

// cut severs the connection: what is on its way is lost, and each side notices
// on its own, or has to find out by a ping.
func (l *link) cut() {
	s := l.s
	e := s.nodes[s.rng.IntN(2)].end
	if e == nil || e.cut {
		return
	}
	s.counts[Cut]++
	e.sever()
}

func (e *end) sever() {
	s := e.n.s
	s.tell("connection %d is cut", e.number)
	for _, side := range []*end{e, e.other} {
		side.cut = true
		for _, st := range side.out {
			side.loseWire(st)
		}
		if s.rng.IntN(4) == 0 {
			s.counts[LateNotice]++
			continue // only silence will tell
		}
		trouble := pick(s.rng, engine.BrokenPipe, engine.NetworkFailure)
		s.after(between(s.rng, pick(s.rng, time.Microsecond, time.Millisecond, 300*time.Millisecond)), func() { side.notice(trouble) })
	}
}

// stall keeps everything on its way for d.
func (l *link) stall(d time.Duration) {
	l.s.counts[Stall]++
	l.s.tell("the link stalls for %v", d)
	l.stalled = max(l.stalled, l.s.now+d)
}

// partition lets nothing through to one node for d, while the other hears all.
func (l *link) partition(n *node, d time.Duration) {
	l.s.counts[OneWay]++
	l.s.tell("nothing gets to %s for %v", n.name, d)
	l.deaf[n.index] = max(l.deaf[n.index], l.s.now+d)
}

// died is what the network makes of a dead daemon: its host closes the
// sockets; without power there is silence, or a reset once the host is back.
func (l *link) died(n *node, power bool) {
	e := n.end
	n.end = nil
	if e == nil {
		return
	}
	if !power {
		e.shut(l.s.rng.IntN(2) == 0)
		return
	}
	e.closed = true
	for _, st := range e.out {
		st.flight, st.sending = nil, false
		e.loseWire(st)
	}
	other := e.other
	other.cut = true
	if l.s.rng.IntN(2) == 0 {
		l.s.after(between(l.s.rng, 200*time.Millisecond), func() { other.notice(engine.NetworkFailure) })
	}
}
