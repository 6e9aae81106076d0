package engine

import (
	"errors"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

var errNoAnswer = errors.New("the peer owes an answer, and gives signs of life only")

// oldestWait is since when the peer has owed an answer that is not the end of a
// write or a part of a bitmap: to a read, to a request for a change, to the request for a block of a
// resync as long as it answers to none, or its share of a handshake. Never: it owes none. Source: docs/drbd-wire.md 15.3.
func (e *Engine) oldestWait() Instant {
	c := &e.conn
	at := Never
	if c.readsSince != 0 {
		at = c.readsSince
	}
	if c.request != nil {
		at = min(at, c.request.since)
	}
	introduced := false
	for _, v := range e.vols {
		introduced = introduced || v.state.Conn.Established()
	}
	for _, v := range e.vols {
		if v.request != nil {
			at = min(at, v.request.since)
		}
		if v.elsewhere == asking {
			at = min(at, v.turned)
		}
		if v.refusedAt != 0 {
			at = min(at, v.refusedAt) // what has become of its disk
		}
		if v.owed.len() > 0 {
			at = min(at, v.owedSince) // a generation, where the disk cannot say what it lacks
		}
		if v.resync.owed > 0 {
			at = min(at, v.resync.owedFrom) // writes to the range wait for the block, too
		}
		switch st := v.state; {
		case st.Conn.BitmapExchange() || !st.AwaitsPeer():
		case st.Conn == sm.WFReportParams && introduced:
			// The peer may not have this volume, yet (wire 2.1).
		default:
			at = min(at, v.turned)
		}
	}
	return at
}

// overdue reports whether an answer is overdue.
func (e *Engine) overdue(limit time.Duration) bool {
	if t := e.conn.readsSince; t != 0 && e.now >= t+limit {
		e.recallReads()
	}
	t := e.oldestWait()
	return t != Never && e.now >= t+limit
}

// recallReads brings readsSince up to date. It is a lower bound while reads come and
// go; they are looked through only when it says that one may be too old.
func (e *Engine) recallReads() {
	oldest := Never
	for _, rd := range e.conn.remoteReads {
		if rd.req != nil {
			oldest = min(oldest, rd.since)
		}
	}
	if e.conn.readsSince = oldest; oldest == Never {
		e.conn.readsSince = 0
	}
}
