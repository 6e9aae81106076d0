package engine

import (
	"errors"
	"fmt"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// unanswered is how long the peer may leave a request unanswered; 0: for ever.
func (e *Engine) unanswered() time.Duration {
	if e.cfg.Net.KOCount < 0 {
		return 0
	}
	return e.cfg.Net.Timeout * time.Duration(e.cfg.Net.KOCount)
}

var (
	errNoPing      = errors.New("the peer has not answered a ping in time")
	errSlowSend    = errors.New("the peer takes no data")
	errNoAck       = errors.New("the peer has not confirmed a write in time")
	errLeft        = errors.New("the peer has closed the connection")
	errNoBitmaps   = errors.New("the bitmap exchange makes no progress")
	errSlowBitmaps = fmt.Errorf("the bitmap exchange, which holds writes, is slower than %d KiB/s", leastBitmapRate>>10)
)

// pause is how long to wait before the peer is looked for again. A peer that owes an answer, that to a resync that it has asked for perhaps, holds
// writes for the limit: when it does so again and again, they go on in between for as long, then for twice and four times as long.
func (e *Engine) pause() time.Duration {
	c := &e.conn
	switch {
	case c.owing > 1:
		pause := e.unanswered() << min(c.owing-2, 2)
		e.notice(nil, Warn, fmt.Sprintf("the peer has owed an answer %d times in a row: writes go on without it, and it is looked for again in %v; "+
			"urbd disconnect and urbd connect do so at once", c.owing, pause))
		return pause
	case c.phase != connLive || e.now < c.upAt+shortLife:
		return time.Second
	}
	return 0
}

// Tick does what is due by now.
func (e *Engine) Tick(now Instant) {
	e.at(now)
	c := &e.conn
	if at := c.epochs.closeAt; at != 0 && e.now >= at {
		e.closeEpoch()
	}
	if c.up() {
		e.tickConn()
	}
	for _, cmd := range e.cmds {
		if cmd.retryAt != 0 && e.now >= cmd.retryAt {
			cmd.retryAt, cmd.stepped = 0, false
		}
	}
	e.checkDisks()
	e.refuseUnproven()
	e.commandsAdvance()
}

// tickConn looks after a connection that is up.
func (e *Engine) tickConn() {
	c := &e.conn
	switch {
	case c.leftAt != 0 && (c.request == nil || e.now >= c.leftAt+e.cfg.Net.PingTimeout):
		e.trouble(BrokenPipe, errLeft)
		return
	case c.pingAt != 0 && e.now >= e.pingDeadline():
		if c.heardAt <= c.pingAt {
			e.trouble(NetworkFailure, errNoPing)
			return
		}
		c.pingAt = max(c.heardAt, 1) // it lives; the answer is still due
	case c.pingAt == 0 && e.now >= c.metaAt+e.cfg.Net.PingInterval:
		e.ping()
	}
	limit := e.unanswered()
	if limit == 0 {
		return
	}
	switch {
	case e.stalledSend(limit):
		e.trouble(Timeout, errSlowSend)
	case e.oldestWrite() != 0 && e.now >= e.oldestWrite()+limit:
		e.trouble(Timeout, errNoAck)
	case e.oldestExchange() != 0 && e.now >= e.oldestExchange()+limit:
		e.trouble(Timeout, errNoBitmaps)
	case e.now >= e.slowExchange(limit):
		e.trouble(Timeout, errSlowBitmaps)
	case e.overdue(limit):
		e.trouble(Timeout, errNoAnswer)
	}
}

func (e *Engine) pingDeadline() Instant { return e.conn.pingAt + e.cfg.Net.PingTimeout }

func (e *Engine) stalledSend(limit time.Duration) bool {
	for i := range e.conn.queue {
		if q := &e.conn.queue[i]; q.flying && e.now >= q.since+limit {
			return true
		}
	}
	return false
}

// oldestWrite is when the peer was first given a write that it has not
// confirmed as it has to, 0 if there is none.
func (e *Engine) oldestWrite() Instant {
	s := &e.conn.epochs
	if s.open.len() == 0 {
		return 0
	}
	ep := s.open.front()
	if ep.barrier != 0 {
		return ep.barrier
	}
	if ep.waits() {
		return ep.since
	}
	return 0
}

// oldestExchange is when a bitmap exchange made its last progress, 0 if none runs. The
// volumes share the socket, and one bitmap may go before the other: the
// progress of one is that of all.
func (e *Engine) oldestExchange() Instant {
	at := Instant(0)
	for _, v := range e.vols {
		if t := max(v.since, e.conn.bitmapAt, 1); v.state.Conn.BitmapExchange() && (at == 0 || t < at) {
			at = t
		}
	}
	return at
}

// Deadline is when Tick has something to do.
func (e *Engine) Deadline() Instant {
	c := &e.conn
	at := Never
	if t := c.epochs.closeAt; t != 0 {
		at = min(at, t)
	}
	at = min(at, e.proofDeadline())
	for _, cmd := range e.cmds {
		if cmd.retryAt != 0 {
			at = min(at, cmd.retryAt)
		}
	}
	for _, v := range e.vols {
		at = min(at, e.diskDeadline(v))
	}
	if !c.up() {
		return at
	}
	if c.leftAt != 0 {
		at = min(at, c.leftAt+e.cfg.Net.PingTimeout)
	}
	if t := c.in.dueAt; t != 0 && c.in.flushing == 0 && c.in.finished() > 0 {
		at = min(at, t)
	}
	if t := c.serveAt; t != 0 {
		at = min(at, t)
	}
	if c.pingAt != 0 {
		at = min(at, e.pingDeadline())
	} else {
		at = min(at, c.metaAt+e.cfg.Net.PingInterval)
	}
	for _, v := range e.vols {
		at = min(at, e.resyncDeadline(v))
	}
	if limit := e.unanswered(); limit != 0 {
		at = min(at, e.limitDeadline(limit))
	}
	return at
}

func (e *Engine) limitDeadline(limit time.Duration) Instant {
	at := Never
	for i := range e.conn.queue {
		if q := &e.conn.queue[i]; q.flying {
			at = min(at, q.since+limit)
		}
	}
	if t := e.oldestWrite(); t != 0 {
		at = min(at, t+limit)
	}
	if t := e.oldestExchange(); t != 0 {
		at = min(at, t+limit)
	}
	at = min(at, e.slowExchange(limit))
	if t := e.oldestWait(); t != Never {
		at = min(at, t+limit)
	}
	return at
}

// resyncDeadline is when the Target may ask for more.
func (e *Engine) resyncDeadline(v *volume) Instant {
	r := &v.resync
	if !r.active || r.paused || r.saving || r.fencing || v.state.Conn != sm.SyncTarget || e.settling(v) || r.budget.at == 0 || r.budget.tokens > 0 {
		return Never // nothing is asked for now, or it is not time that is missing
	}
	return r.budget.due(v.syncRate())
}
