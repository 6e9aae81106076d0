package engine

import (
	"iter"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// barrierDelay is how long an epoch goes on after one of its writes was answered.
//
// Protocol C: the write is on both disks then, so nothing is out of order if a
// later one joins the same epoch; only a FLUSH needs to know what is durable, and
// it closes the epoch at once. Protocols A and B: a later write begins a new
// epoch, the delay is only for the barrier's packet to go along with it.
func (e *Engine) barrierDelay() time.Duration {
	if e.cfg.Net.Protocol == ProtocolC {
		return 20 * time.Millisecond
	}
	return time.Millisecond
}

// epochEnds reports whether the next write belongs into a new epoch.
func (e *Engine) epochEnds() bool {
	at := e.conn.epochs.closeAt
	return at != 0 && (e.cfg.Net.Protocol != ProtocolC || e.now >= at)
}

// epochs are the writes that the peer has not confirmed as durable, grouped by
// barrier: the transfer log of the connection (wire 11.5).
type epochs struct {
	open    fifo[epoch] // the last one is current
	current uint64      // serial of the current epoch
	settled uint64      // every epoch with a serial below it is acknowledged
	closeAt Instant     // when the current one is closed at the latest; 0: not wanted
}

type epoch struct {
	serial      uint64
	count       uint32
	since       Instant // when its first write was queued
	barrier     Instant // when its barrier was queued, 0 before
	first, last *write
	unacked     *write // those before it do not wait for the peer any more; nil: look from first
}

// waits reports whether one of the epoch's writes waits for the peer. Those that do not
// are passed once only, however often it is asked.
func (ep *epoch) waits() bool {
	if ep.unacked == nil {
		ep.unacked = ep.first
	}
	for w := ep.unacked; w != nil; w = w.next {
		ep.unacked = w
		if !w.acked {
			return true
		}
	}
	return false
}

func (c *conn) resetEpochs() {
	c.epochs.current++
	c.epochs.settled = c.epochs.current
	c.epochs.closeAt = 0
	c.epochs.open.takeAll()
	c.epochs.open.push(epoch{serial: c.epochs.current})
}

func (c *conn) closeEpochBy(t Instant) {
	if c.epochs.closeAt == 0 || t < c.epochs.closeAt {
		c.epochs.closeAt = t
	}
}

// joinEpoch puts w in the current epoch. A finished one is closed before.
func (e *Engine) joinEpoch(w *write) {
	s := &e.conn.epochs
	if e.epochEnds() {
		e.closeEpoch()
	}
	ep := s.open.at(s.open.len() - 1)
	w.serial = ep.serial
	if ep.last == nil {
		ep.first, ep.since = w, max(e.now, 1)
	} else {
		ep.last.next = w
	}
	ep.last = w
	ep.count++
}

// countEpoch closes the current epoch when it is full.
func (e *Engine) countEpoch() {
	s := &e.conn.epochs
	if int(s.open.at(s.open.len()-1).count) >= e.cfg.Net.MaxEpochSize {
		e.closeEpoch()
	}
}

// hurryEpoch asks the peer to confirm the epoch of a write at once.
func (e *Engine) hurryEpoch(w *write) {
	if w.serial == e.conn.epochs.current {
		e.closeEpoch()
		e.unplug(w.vol)
	}
}

// closeEpoch queues the barrier of the current epoch; an empty one has none.
func (e *Engine) closeEpoch() {
	s := &e.conn.epochs
	s.closeAt = 0
	ep := s.open.at(s.open.len() - 1)
	if ep.count == 0 || !e.conn.up() {
		return
	}
	ep.barrier = max(e.now, 1)
	q := &e.conn.queue[DataSock]
	q.packet(wire.CmdBarrier, 0, barrierFixed)
	q.heads = wire.Barrier{Number: uint32(ep.serial)}.Append(q.heads)
	s.current++
	s.open.push(epoch{serial: s.current})
}

// barrierAck settles the oldest epoch. One that must not come leaves the epoch as
// it is: its writes end with the connection.
func (e *Engine) barrierAck(p wire.BarrierAck) error {
	s := &e.conn.epochs
	ep := *s.open.front()
	if err := e.admitConn(wire.CmdBarrierAck, when(ep.barrier != 0)); err != nil {
		return err
	}
	if uint32(ep.serial) != p.Number || ep.count != p.SetSize {
		return protocolErrorf("barrier ack %d for %d writes, expected barrier %d for %d",
			p.Number, p.SetSize, uint32(ep.serial), ep.count)
	}
	if e.cfg.Net.Protocol == ProtocolC && ep.waits() {
		return protocolErrorf("barrier ack %d before the ack of a write at %d", p.Number, ep.unacked.off)
	}
	s.open.pop()
	s.settled = ep.serial + 1
	for w := ep.first; w != nil; {
		next := w.next
		w.acked = true
		w.peerOK = w.peerOK || e.cfg.Net.Protocol != ProtocolC && !w.refused
		w.settled = true
		w.advance(e)
		w = next
	}
	e.flushesAdvance()
	e.confirmationsAdvance()
	e.commandsAdvance()
	return nil
}

// unconfirmed are the writes of a volume that the peer has not confirmed as durable, in order.
func (e *Engine) unconfirmed(v *volume) iter.Seq[*write] {
	return func(yield func(*write) bool) {
		open := &e.conn.epochs.open
		for i := range open.len() {
			for w := open.at(i).first; w != nil; w = w.next {
				if w.vol == v && !yield(w) {
					return
				}
			}
		}
	}
}

// markUnconfirmed marks the ranges of a volume's writes that the peer has not
// confirmed as durable. Their requests go on waiting for their answers.
func (e *Engine) markUnconfirmed(v *volume) {
	for w := range e.unconfirmed(v) {
		w.lost()
		w.marked, w.old = true, true
	}
}

// lost marks the range of a write that the peer may lack. What the own disk was not given the peer counts, which knows that there is none
// here; and what does not get there is nowhere.
func (w *write) lost() {
	if w.local != localNone {
		w.vol.setOutOfSync(w.off, w.n)
	}
}

// loseEpochs ends every epoch because the connection is gone: whatever the peer
// has not confirmed may be missing on its disk. The bits are set first, all of
// them, so that no answer overtakes the knowledge.
func (e *Engine) loseEpochs() {
	s := &e.conn.epochs
	lost := s.open.takeAll()
	for _, f := range e.flushes {
		f.lost = f.lost || f.serial > s.settled
	}
	for _, ep := range lost {
		for w := ep.first; w != nil; w = w.next {
			w.acked, w.settled, w.peerOK, w.synced = true, true, false, false
			w.lost()
		}
	}
	e.conn.resetEpochs()
	for _, ep := range lost {
		for w := ep.first; w != nil; {
			next := w.next
			w.advance(e)
			w = next
		}
	}
	e.flushesAdvance()
}
