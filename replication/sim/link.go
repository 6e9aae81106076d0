package sim

import (
	"fmt"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// link is the network between the two nodes: one connection at a time, of two
// sockets, each a stream in both directions.
type link struct {
	s         *Sim
	stalled   engine.Instant    // nothing gets through before
	deaf      [2]engine.Instant // to the node, as long: a partition in one direction
	meeting   bool              // an attempt to connect is under way
	number    int               // of the last connection
	lied      int               // of the last one on which somebody lied
	misled    bool              // about a change of state, and the disks have not agreed since: see changes
	slandered bool              // about what a node is, and the same: the other one may take it for Outdated
	invented  []string          // generations that one has begun because of that, or that were said to be the data's
	smeared   bool              // and since no node has been without a mark in its bitmap
}

// end is a node's side of a connection.
type end struct {
	n       *node
	other   *end
	number  int
	up      bool // the engine knows
	closed  bool // here: nothing more is sent or received
	cut     bool // what is sent gets nowhere
	closing bool // the engine wants it closed, what is queued may still go out
	misfit  bool // a disk that did not fit was there meanwhile
	knocked bool // the peer looks for this node again, and has been counted
	// resetFrom is when what is sent begins to be answered by a reset; 0: it is not a matter of that.
	resetFrom engine.Instant
	out       [2]*stream
}

// stream is one direction of one socket, owned by the sending end.
type stream struct {
	from    *end
	sock    engine.Socket
	flight  []engine.Segment // of the send under way
	sending bool
	begun   bool // the first byte of the send is out
	onWire  int64
	pieces  []piece // in order of arrival
	last    engine.Instant
	reader  packetReader
	liar    *liar
	taken   int64 // bytes that the receiver has taken
	must    int64 // of them after which it has to end the connection, 0: it need not
}

// piece is bytes on their way; nil bytes are the end of the stream.
type piece struct {
	b  []byte
	at engine.Instant
}

// look lets the nodes find each other when both look.
func (l *link) look() {
	s := l.s
	l.knock()
	if l.meeting || !s.nodes[0].seeking || !s.nodes[1].seeking {
		return
	}
	l.meeting = true
	wait := max(s.nodes[0].blocked, s.nodes[1].blocked) - s.now
	if blind := l.blind(); blind > s.now {
		wait = max(wait, min(blind-s.now, 200*time.Millisecond)) // it may end early
	}
	s.after(max(wait, 0)+between(s.rng, 2*s.profile.netDelay), l.meet)
}

// blind is until when the nodes cannot find each other: that takes both directions.
func (l *link) blind() engine.Instant { return max(l.stalled, l.deaf[0], l.deaf[1]) }

func (l *link) meet() {
	l.meeting = false
	s := l.s
	if !s.nodes[0].seeking || !s.nodes[1].seeking {
		return
	}
	if l.blind() > s.now {
		l.look()
		return
	}
	l.number++
	misfit := s.nodes[0].misfit() || s.nodes[1].misfit()
	a, b := &end{n: s.nodes[0], number: l.number, misfit: misfit}, &end{n: s.nodes[1], number: l.number, misfit: misfit}
	a.other, b.other = b, a
	resolves := s.rng.IntN(2)
	for _, e := range []*end{a, b} {
		for sock := range e.out {
			e.out[sock] = &stream{from: e, sock: engine.Socket(sock)}
		}
		e.n.end, e.n.seeking = e, false
		info := engine.Link{ResolveConflicts: e.n.index == resolves, Features: engine.Features}
		s.after(between(s.rng, s.profile.netDelay), func() { e.begin(info) })
	}
	s.tell("connection %d", l.number)
	l.listen(a, b)
}

// begin tells the engine that its sockets are up.
func (e *end) begin(info engine.Link) {
	if e.closed || e.n.end != e || e.n.sleeps(func() { e.begin(info) }) {
		return
	}
	e.up = true
	e.n.eng.ConnUp(e.n.now(), info)
	e.n.s.counts[Reconnected]++
	e.n.s.cond.count(&e.n.s.counts)
	e.n.touched()
	for _, st := range e.other.out {
		st.deliver()
	}
	if e.cut {
		e.notice(engine.BrokenPipe)
	}
}

// startSend begins what a socket has to send.
func (n *node) startSend(sock engine.Socket) bool {
	e := n.end
	if n.eng == nil || e == nil || !e.up || e.closed || e.out[sock].sending {
		return false
	}
	segments := n.eng.NextSend(sock)
	if segments == nil {
		return false
	}
	st := e.out[sock]
	st.sending, st.begun = true, false
	st.flight = append(st.flight[:0], segments...)
	n.s.after(time.Duration(n.s.rng.Int64N(int64(50*time.Microsecond))), func() {
		st.begun = true
		st.push()
	})
	return true
}

// push moves bytes of the send to the wire as far as the window allows.
func (st *stream) push() {
	e, s := st.from, st.from.n.s
	if e.closed {
		return
	}
	for len(st.flight) > 0 && st.onWire < s.profile.window {
		n := 1 + s.rng.IntN(pick(s.rng, 100, s.profile.chunk, s.profile.chunk, s.profile.chunk, 256<<10, 256<<10))
		b := make([]byte, 0, min(n, st.left()))
		for len(st.flight) > 0 && len(b) < n {
			b = st.take(b, n-len(b))
		}
		if s.opt.Packets {
			st.reader.feed(st, b)
		}
		if st.liar != nil {
			b = st.liar.pass(b)
		}
		if len(b) > 0 {
			st.send(b)
		}
	}
	if len(st.flight) > 0 {
		return // goes on when something has arrived
	}
	s.after(time.Duration(s.rng.Int64N(int64(100*time.Microsecond))), func() {
		st.sent()
	})
}

// sent tells the engine that a send went out whole.
func (st *stream) sent() {
	e := st.from
	if e.closed || e.n.sleeps(st.sent) {
		return
	}
	st.sending = false
	e.n.eng.Sent(e.n.now(), st.sock)
	e.n.touched()
}

// left is how many bytes of the send are not on the wire.
func (st *stream) left() (n int) {
	for _, g := range st.flight {
		n += len(g.Head) + len(g.Body)
	}
	return n
}

// take appends up to n bytes of the flight to b.
func (st *stream) take(b []byte, n int) []byte {
	g := &st.flight[0]
	k := min(n, len(g.Head))
	b = append(b, g.Head[:k]...)
	g.Head, n = g.Head[k:], n-k
	if len(g.Head) == 0 {
		k = min(n, len(g.Body))
		b = append(b, g.Body[:k]...)
		g.Body = g.Body[k:]
	}
	if len(g.Head)+len(g.Body) == 0 {
		st.flight = st.flight[1:]
	}
	return b
}

// send puts a piece on the wire; nil is the end of the stream.
func (st *stream) send(b []byte) {
	e, s := st.from, st.from.n.s
	if e.cut {
		e.reset()
		return
	}
	delay := between(s.rng, s.profile.netDelay)
	if s.profile.netJitter > 0 {
		delay += time.Duration(s.rng.Int64N(int64(s.profile.netJitter)))
	}
	st.last = max(st.last, s.now+delay, s.link.stalled, s.link.deaf[e.other.n.index])
	st.pieces = append(st.pieces, piece{b, st.last})
	st.onWire += int64(len(b))
	s.agenda.plan(st.last, st.deliver)
}

// deliver hands over what has arrived. The receiver may want it in parts, in
// place, or not now.
func (st *stream) deliver() {
	to, s := st.from.other, st.from.n.s
	for len(st.pieces) > 0 && to.up && !to.closed {
		p := &st.pieces[0]
		if at := max(p.at, s.link.stalled, s.link.deaf[to.n.index], to.n.asleep); at > s.now {
			s.agenda.plan(at, st.deliver)
			return
		}
		if p.b == nil {
			st.pieces = nil
			to.n.tell("end of the %v stream", st.sock)
			to.notice(engine.BrokenPipe)
			return
		}
		if s.link.deaf[st.from.n.index] > s.now {
			s.counts[HeardOneWay]++
		}
		used, ok := to.receive(st.sock, p.b)
		st.judge(used)
		st.onWire -= int64(used)
		if p.b = p.b[used:]; len(p.b) == 0 && len(st.pieces) > 0 {
			st.pieces = st.pieces[1:]
		}
		to.n.touched()
		if !ok {
			s.counts[ReceiveStalled]++
			s.after(200*time.Microsecond, st.deliver)
			break
		}
	}
	if !st.from.closed && st.begun && len(st.flight) > 0 {
		st.push()
	}
}

// receive gives bytes to the engine, cut at random places.
func (e *end) receive(sock engine.Socket, b []byte) (used int, ok bool) {
	eng, s := e.n.eng, e.n.s
	for used < len(b) && !e.closed {
		if !eng.ReceiveReady(sock) {
			return used, false
		}
		n := len(b) - used
		if s.rng.IntN(3) == 0 {
			n = 1 + s.rng.IntN(n)
		}
		if space := eng.PayloadSpace(sock); space != nil && s.rng.IntN(2) == 0 {
			n = copy(space, b[used:used+n])
			eng.PayloadFilled(e.n.now(), sock, n)
			s.counts[ReceivedInPlace]++
			used += n
			continue
		}
		n = eng.Receive(e.n.now(), sock, b[used:used+n])
		used += n
		if n == 0 && eng.ReceiveReady(sock) {
			s.fail("%s: Receive takes nothing, and says that it could", e.n.name)
		}
	}
	return used, true
}

// notice tells the engine that its connection is gone.
func (e *end) notice(t engine.Trouble) {
	if e.closed || e.n.end != e || !e.up || e.n.sleeps(func() { e.notice(t) }) {
		return
	}
	e.n.eng.ConnDown(e.n.now(), t, fmt.Errorf("connection %d is gone", e.number))
	e.n.touched()
}
