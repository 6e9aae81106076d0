package engine

import "time"

const (
	yieldTime     = 50 * time.Millisecond // the application works if it did so within
	yieldRequests = 1                     // resync blocks served at once meanwhile, beside c-min-rate
)

// pace is how the Source of a resync lets the application go first: while it works
// on the disk, few blocks are served at a time, and no fewer bytes a second than c-min-rate.
type pace struct {
	wanted fifo[wantedRead] // blocks that the Target has asked for
	appAt  Instant          // when the application, of either node, used the disk last; 0: never
	budget bucket           // of c-min-rate
}

// appWorks notes that the application, of this node or of the peer, uses the disk.
func (v *volume) appWorks(e *Engine) { v.pace.appAt = max(e.now, 1) }

// mayServe reports whether the next block that the Target wants has its turn. If only
// time is missing, serveAt says until when.
func (e *Engine) mayServe(v *volume) bool {
	p, rate := &v.pace, v.cfg.Disk.MinRate
	yields := p.appAt != 0 && e.now-p.appAt <= yieldTime && rate > 0
	switch {
	case !v.attached || !v.state.ReadsLocally():
		return true // to be refused
	case v.resync.saving:
		return false
	case !yields || v.resync.serving < yieldRequests:
		return true
	}
	p.budget.refill(e.now, rate, max(rate/10, 1))
	if p.budget.tokens > 0 {
		return true
	}
	at := min(p.appAt+yieldTime+1, p.budget.due(rate))
	if c := &e.conn; c.serveAt == 0 || at < c.serveAt {
		c.serveAt = at
	}
	return false
}

// served counts a block against c-min-rate, however it got its turn.
func (p *pace) served(n int64) {
	if p.budget.tokens > 0 {
		p.budget.tokens -= n
	}
}

// nextRead is the queue of the peer's read that is to be served next, the oldest of
// those that may be; nil if none may. A block that has to wait holds nothing up but
// the blocks behind it.
func (e *Engine) nextRead() *fifo[wantedRead] {
	c := &e.conn
	c.serveAt = 0
	var next *fifo[wantedRead]
	if c.wanted.len() > 0 {
		next = &c.wanted
	}
	for _, v := range e.vols {
		q := &v.pace.wanted
		if q.len() > 0 && (next == nil || q.front().order < next.front().order) && e.mayServe(v) {
			next = q
		}
	}
	return next
}

// forgetReads drops what the peer has asked for.
func (e *Engine) forgetReads() {
	e.conn.wanted.takeAll()
	for _, v := range e.vols {
		v.pace.wanted.takeAll()
	}
	e.conn.wantedReads, e.conn.serveAt = 0, 0
}

// bucket limits bytes per second.
type bucket struct {
	tokens int64   // bytes that may go now; negative after one that was larger
	at     Instant // up to which they are counted, 0: not yet
}

// refill adds what has come since; at most limit bytes are saved up.
func (b *bucket) refill(now Instant, rate, limit int64) {
	if b.at == 0 {
		b.tokens, b.at = limit, max(now, 1)
		return
	}
	n := int64(float64(rate) * (now - b.at).Seconds())
	if b.tokens += n; b.tokens >= limit {
		b.tokens, b.at = limit, now
		return
	}
	b.at += time.Duration(float64(n) / float64(rate) * float64(time.Second)) // fractions of a byte go on counting
}

// due is when there is a token again.
func (b *bucket) due(rate int64) Instant {
	return b.at + time.Duration(float64(1-b.tokens)/float64(rate)*float64(time.Second)) + time.Millisecond
}
