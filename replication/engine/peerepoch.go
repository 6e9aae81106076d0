package engine

import (
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// ackDelay is how long finished epochs wait for company before the disk is
// flushed and the peer is told; P_UNPLUG_REMOTE ends the wait.
const ackDelay = 10 * time.Millisecond

// peerEpochs are the epochs of the peer's writes that are not acknowledged yet.
type peerEpochs struct {
	open     fifo[peerEpoch] // the last one is current; at most maxPeerEpochs others
	first    uint64          // serial of the front
	flushing int             // disks being flushed
	upTo     uint64          // epochs below it are covered by that flush
	dueAt    Instant         // when finished epochs are acknowledged at the latest, 0: none waits
}

type peerEpoch struct {
	number  uint32
	count   uint32 // writes
	pending int    // of them not on the disk
	closed  bool
}

// leaveEpoch takes a finished write out of its epoch.
func (e *Engine) leaveEpoch(p *peerReq) {
	in := &e.conn.in
	p.vol.unacked--
	in.open.at(int(p.serial-in.first)).pending--
	e.epochsAdvance()
}

// peerBarrier closes the peer's current epoch. An empty one is never acknowledged.
func (e *Engine) peerBarrier(number uint32) {
	in := &e.conn.in
	ep := in.open.at(in.open.len() - 1)
	if ep.count == 0 {
		return
	}
	ep.number, ep.closed = number, true
	in.open.push(peerEpoch{})
	e.epochsAdvance()
}

// finished counts the epochs at the front whose writes are all done.
func (in *peerEpochs) finished() int {
	n := 0
	for n < in.open.len() && in.open.at(n).closed && in.open.at(n).pending == 0 {
		n++
	}
	return n
}

// epochsAdvance sees to it that finished epochs are acknowledged in time.
func (e *Engine) epochsAdvance() {
	in := &e.conn.in
	if in.dueAt == 0 && in.finished() > 0 {
		in.dueAt = e.now + ackDelay
	}
}

// hurryEpochs makes finished epochs, and the next to finish, due at once.
func (e *Engine) hurryEpochs() { e.conn.in.dueAt = max(e.now, 1) }

// settlePeerEpochs makes finished epochs durable and acknowledges them: one
// flush for all of them. It is called at the end of a turn; acknowledgements that
// need no flush go along with other acks of the turn.
func (e *Engine) settlePeerEpochs() {
	in := &e.conn.in
	if !e.conn.up() || in.flushing > 0 || in.dueAt == 0 {
		return
	}
	n := in.finished()
	if n == 0 {
		return
	}
	dirty := false
	for _, v := range e.vols {
		if v.needsPeerFlush() && !v.attached {
			e.trouble(NetworkFailure, &DiskError{Vol: v.number, What: "the disk is gone, and writes of the peer may be missing there"})
			return
		}
		dirty = dirty || v.needsPeerFlush()
	}
	if e.now < in.dueAt && (dirty || e.conn.queue[MetaSock].empty()) {
		return
	}
	in.upTo = in.first + uint64(n)
	in.dueAt = 0
	if !dirty {
		e.ackEpochs()
		return
	}
	for _, v := range e.vols {
		if v.needsPeerFlush() {
			v.peerDirty = false
			in.flushing++
			e.conn.peerBusy++
			f := e.newEpochFlush()
			f.vol, f.link = v, e.conn.generation
			f.covers = e.flushDisk(v, f)
		}
	}
}

func (v *volume) needsPeerFlush() bool {
	return v.peerDirty && v.flush && !v.cfg.Disk.NoFlush
}

// epochFlush makes the writes of the peer on one disk durable.
type epochFlush struct {
	vol    *volume
	link   uint64
	covers uint64
}

func (e *Engine) newEpochFlush() *epochFlush {
	n := len(e.freeEpochFlushes)
	if n == 0 {
		return new(epochFlush)
	}
	f := e.freeEpochFlushes[n-1]
	e.freeEpochFlushes = e.freeEpochFlushes[:n-1]
	return f
}

func (f *epochFlush) ioDone(e *Engine, err Errno) {
	defer func() { e.freeEpochFlushes = append(e.freeEpochFlushes, f) }()
	e.conn.peerBusy--
	if err == OK {
		f.vol.flushed(f.covers)
	} else {
		e.flushFailed(f.vol, err)
	}
	if f.link == e.conn.generation && e.conn.up() {
		in := &e.conn.in
		if err != OK {
			// The barrier cannot be acknowledged: let the peer mark the epoch out of sync.
			e.trouble(NetworkFailure, &DiskError{Vol: f.vol.number, What: "the disk refused a flush", Errno: err})
		} else if in.flushing--; in.flushing == 0 {
			e.ackEpochs()
		}
	}
	e.closingAdvances()
}

// ackEpochs acknowledges every finished epoch below upTo, in order.
func (e *Engine) ackEpochs() {
	in := &e.conn.in
	q := &e.conn.queue[MetaSock]
	for in.first < in.upTo {
		ep := in.open.pop()
		in.first++
		q.packet(wire.CmdBarrierAck, 0, barrierFixed)
		q.heads = wire.BarrierAck{Number: ep.number, SetSize: ep.count}.Append(q.heads)
	}
	e.epochsAdvance()
}

func (c *conn) resetPeerEpochs() {
	c.in.first += uint64(c.in.open.len())
	c.in.open.takeAll()
	c.in.open.push(peerEpoch{})
	c.in.flushing, c.in.dueAt = 0, 0
	c.in.upTo = c.in.first
}
