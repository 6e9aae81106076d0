package engine

import (
	"errors"

	"github.com/urbd/urbd/replication/wire"
)

const (
	flightSegments = 256     // pieces of one send; a send is one system call
	flightBytes    = 4 << 20 // payload of one send

	// maxQueued bounds what waits on one socket without a payload, in bytes: far more
	// than all requests of an application, or answers to those of a peer that reads them.
	maxQueued = 4 << 20
)

var errUnread = errors.New("more waits to be sent than a peer that reads lets wait")

// sendOwner is told when its payload is no longer needed: it went out, or the
// connection is gone.
type sendOwner interface{ sentOut(e *Engine) }

// sendQueue is what waits to be sent on one socket, and the one send in flight.
// Heads are encoded one after the other into one buffer; only payloads make pieces.
type sendQueue struct {
	heads  []byte // at most maxQueued at the end of a turn; nothing is taken of a peer beyond maxAnswers on meta
	bodies []queuedBody
	bytes  int64 // payload queued

	flying       bool
	since        Instant
	flightHeads  []byte
	flightBodies []queuedBody
	segments     []Segment
}

type queuedBody struct {
	end   int // of the head bytes before it
	data  []byte
	owner sendOwner
}

// packet queues the header of a packet whose fixed part and payload follow. n is their length.
func (q *sendQueue) packet(cmd wire.Cmd, vol int, n int) {
	q.heads = wire.AppendHeader100(q.heads, wire.Header{Cmd: cmd, Volume: uint16(vol), Length: uint32(n)})
}

// body queues a payload by reference; owner may be nil.
func (q *sendQueue) body(data []byte, owner sendOwner) {
	q.bodies = append(q.bodies, queuedBody{end: len(q.heads), data: data, owner: owner})
	q.bytes += int64(len(data))
}

func (q *sendQueue) empty() bool { return len(q.heads) == 0 }

// take moves what is queued into flight, up to the limits.
func (q *sendQueue) take(now Instant) []Segment {
	n, bytes := 0, 0
	for n < len(q.bodies) && n < flightSegments && bytes < flightBytes {
		bytes += len(q.bodies[n].data)
		n++
	}
	upTo := len(q.heads)
	if n < len(q.bodies) {
		upTo = q.bodies[n-1].end
	}
	q.flightHeads = append(q.flightHeads[:0], q.heads[:upTo]...)
	q.flightBodies = append(q.flightBodies[:0], q.bodies[:n]...)
	q.heads = q.heads[:copy(q.heads, q.heads[upTo:])]
	rest := copy(q.bodies, q.bodies[n:])
	clear(q.bodies[rest:])
	q.bodies = q.bodies[:rest]
	for i := range q.bodies {
		q.bodies[i].end -= upTo
	}
	q.bytes -= int64(bytes)
	q.flying, q.since = true, now
	return q.cut()
}

// cut lays the flight out as segments.
func (q *sendQueue) cut() []Segment {
	q.segments = q.segments[:0]
	at := 0
	for _, b := range q.flightBodies {
		q.segments = append(q.segments, Segment{Head: q.flightHeads[at:b.end], Body: b.data})
		at = b.end
	}
	if at < len(q.flightHeads) {
		q.segments = append(q.segments, Segment{Head: q.flightHeads[at:]})
	}
	return q.segments
}

// landed ends the flight and tells the owners of its payloads.
func (q *sendQueue) landed(e *Engine) {
	q.flying = false
	for i := range q.flightBodies {
		if o := q.flightBodies[i].owner; o != nil {
			o.sentOut(e)
		}
	}
	clear(q.flightBodies)
	q.flightBodies = q.flightBodies[:0]
}

// drop forgets what is queued and tells the owners; the flight lands by itself.
func (q *sendQueue) drop(e *Engine) {
	bodies := q.bodies
	q.heads, q.bodies, q.bytes = q.heads[:0], nil, 0
	for i := range bodies {
		if o := bodies[i].owner; o != nil {
			o.sentOut(e)
		}
	}
}

// boundQueues gives a peer up that has this node say ever more and does not listen.
func (e *Engine) boundQueues() {
	for i := range e.conn.queue {
		if len(e.conn.queue[i].heads) > maxQueued && e.conn.up() {
			e.trouble(Timeout, errUnread)
		}
	}
}

// NextSend moves everything queued on a socket into flight and returns it as
// one send, or nil if there is nothing or a send is in flight. The owner answers with Sent.
func (e *Engine) NextSend(sock Socket) []Segment {
	q := &e.conn.queue[sock]
	if q.flying || q.empty() || !e.conn.up() && !e.conn.lingering {
		return nil
	}
	return q.take(e.now)
}

// Sent reports that the send in flight on the socket went out whole. After
// ConnClosed nothing is in flight any more, and Sent must not be called.
func (e *Engine) Sent(now Instant, sock Socket) {
	e.at(now)
	q := &e.conn.queue[sock]
	if !q.flying {
		panic("engine: Sent without a send in flight")
	}
	q.landed(e)
	if sock == DataSock {
		e.dataSent()
	}
}
