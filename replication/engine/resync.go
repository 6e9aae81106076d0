package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/statemachine"
)

const (
	syncAlign    = wire.MaxRequest  // a request neither crosses nor exceeds this
	syncWindow   = 4 << 20          // bytes asked for and not written yet
	lazyInterval = 10 * time.Second // between writes of bitmap pages during a resync
)

// resync is the bookkeeping of a resync, on either side. The Target asks for
// what is marked, block by block; the Source answers (wire 12).
type resync struct {
	run     uint64 // counts resyncs: what one has waited for, or asked for, says nothing of the next
	active  bool
	paused  bool
	total   int64 // blocks that were marked at the start
	failed  int64 // blocks that the Source could not read
	started Instant
	stopped Instant // of the pause that runs
	idle    time.Duration

	cursor   int64          // bit to look from
	inFlight int64          // bytes asked for
	asks     map[int64]*ask // of at most the window's bytes
	owed     int            // of them, not answered by the peer
	owedFrom Instant        // when the last one was, or the first of them was asked
	budget   bucket
	saving   bool // Target: the bitmap is being written; Source: its disk is being flushed
	target   targetSays
	fencing  bool // everything is written, the peer is being asked to have seen it
	lazyAt   Instant

	serving int           // blocks being read for the Target
	served  []servedBlock // at most maxReadQueue with what waits to be read

	abandoned int // blocks that were asked for by a resync that has ended since: the peer may still answer

	marks [2]mark // for the rate: an older and a newer sample
}

// targetSays is what the Source knows of the Target.
type targetSays uint8

const (
	targetSilent targetSays = iota // perhaps it does not know of the resync
	targetActive                   // it does, or there is nothing to copy: it may be done without this node having heard it
	targetDone                     // it has said that it has everything
)

type mark struct {
	at   Instant
	left int64
}

// ask is one P_RS_DATA_REQUEST that is not done. It keeps the own application's
// writes out of its range until the block is on the disk.
type ask struct {
	heldRange
	run      uint64
	off, n   int64
	answered bool
}

func (a *ask) rangeFree(*Engine) {}

// startResync takes the number of marked blocks as the total.
func (e *Engine) startResync(v *volume, paused bool) {
	v.resync = resync{run: v.resync.run, active: true, total: v.bm.Count(), started: e.now, asks: v.resync.asks, serving: v.resync.serving, served: v.resync.served, abandoned: v.resync.abandoned, lazyAt: e.now + lazyInterval}
	v.resync.marks[0] = mark{e.now, v.bm.Count()}
	v.resync.marks[1] = v.resync.marks[0]
	if v.resync.total == 0 {
		v.resync.target = targetActive
	}
	if v.resync.asks == nil {
		v.resync.asks = map[int64]*ask{}
	}
	e.pauseResync(v, paused)
	if v.state.Conn.Target() {
		e.saveTarget(v)
	} else if v.volatile() {
		v.resync.saving = true
		f := &sourceFlush{vol: v}
		f.covers = e.flushDisk(v, f)
	}
}

// sourceFlush makes durable what the Source is about to copy: it may come from
// a connection that ended before its epoch was confirmed, and once both nodes hold
// it nobody would know of its loss here.
type sourceFlush struct {
	vol    *volume
	covers uint64
}

func (f *sourceFlush) ioDone(e *Engine, err Errno) {
	f.vol.resync.saving = false
	if err != OK {
		e.flushFailed(f.vol, err)
		return
	}
	f.vol.flushed(f.covers)
	e.serveReads()
}

// saveTarget writes the merged bitmap before the first block is asked for: with
// the acknowledgement of a block the Source forgets it, and if this disk then
// loses what its cache holds, only the bitmap here knows.
func (e *Engine) saveTarget(v *volume) {
	v.resync.saving = true
	e.writePages(v, changedPages, func(e *Engine, err Errno) {
		v.resync.saving = false
		if err == OK {
			e.pumpResync(v)
		}
	})
}

func (e *Engine) pauseResync(v *volume, on bool) {
	r := &v.resync
	switch {
	case on && !r.paused:
		r.stopped = e.now
	case !on && r.paused:
		r.idle += e.now - r.stopped
		r.budget = bucket{}
	}
	r.paused = on
}

// stopResync ends the bookkeeping; what was asked for is not waited for any more.
func (e *Engine) stopResync(v *volume) {
	r := &v.resync
	for _, off := range slices.Sorted(maps.Keys(r.asks)) {
		if a := r.asks[off]; !a.answered {
			v.ranges.remove(e, &a.heldRange)
			delete(r.asks, off)
			r.abandoned++
		}
	}
	r.active, r.inFlight, r.owed, r.fencing = false, 0, 0, false
	e.writePages(v, lazyPages, nil)
}

// rate is the limit in bytes per second.
func (v *volume) syncRate() int64 {
	if v.cfg.Disk.PlanAhead < 0 {
		return v.cfg.Disk.ResyncRate
	}
	return v.cfg.Disk.MaxRate
}

// pumpResync asks for more, at the end of a turn.
func (e *Engine) pumpResync(v *volume) {
	r := &v.resync
	if !r.active || r.paused || r.saving || r.fencing || v.state.Conn != statemachine.SyncTarget || e.settling(v) || !e.conn.up() {
		return
	}
	e.sample(v)
	rate := v.syncRate()
	r.budget.refill(e.now, rate, max(rate/10, syncAlign))
	window := max(min(syncWindow, int64(len(e.pool.mem))/4), v.cfg.Disk.FillTarget)
	for steps := 0; r.inFlight < window && r.budget.tokens > 0 && steps < 256; steps++ {
		bit, ok := v.bm.NextSet(r.cursor)
		if !ok {
			if r.cursor == 0 || r.inFlight > 0 {
				break
			}
			r.cursor = 0
			continue
		}
		if !e.askFor(v, bit) {
			break
		}
	}
	if e.now >= r.lazyAt {
		r.lazyAt = e.now + lazyInterval
		e.writePages(v, lazyPages, nil)
	}
	e.resyncProgress(v)
}

// askFor sends one request that begins at a marked block. It ends where the run
// of marked blocks, an aligned MiB or the device ends.
func (e *Engine) askFor(v *volume, bit int64) bool {
	r := &v.resync
	off := bit * bitmap.BlockSize
	limit := (syncAlign - off%syncAlign) / bitmap.BlockSize
	n := min(v.bm.Run(bit, limit)*bitmap.BlockSize, v.size-off)
	r.cursor = bit + (n+bitmap.BlockSize-1)/bitmap.BlockSize
	if v.ranges.overlaps(ownWrite, off, off+n) || v.ranges.overlaps(resyncAsk, off, off+n) {
		return true // its turn comes with the next round: something is on its way to the disk, for the resync before perhaps
	}
	a := &ask{run: r.run, off: off, n: n}
	v.ranges.add(&a.heldRange, resyncAsk, off, off+n, a)
	r.asks[off] = a
	r.inFlight += n
	if r.owed == 0 {
		r.owedFrom = e.now
	}
	r.owed++
	r.budget.tokens -= n
	q := &e.conn.queue[DataSock]
	q.packet(wire.CmdRSDataRequest, v.number, blockReqFixed)
	q.heads = wire.BlockReq{Sector: wire.SectorOf(off), BlockID: wire.IDSyncer, Size: uint32(n)}.Append(q.heads)
	return true
}

// resyncData takes a block that was asked for.
func (e *Engine) resyncData(v *volume, b block) error {
	off, n := b.fixed.Offset(), int64(b.filled)
	a := v.resync.asked(off, n)
	if a == nil || b.unwanted { // nobody wants it, or nobody did when it began to come: what was asked for since comes after it
		if b.dst != nil {
			e.giveBuffer(v, b.dst)
		}
		v.resync.abandoned--
		return nil
	}
	v.resync.heard(e.now)
	if b.dst == nil {
		e.ack(v, wire.CmdNegAck, off, wire.IDSyncer, n)
		e.askEnds(v, a)
		return nil
	}
	a.answered = true
	p := e.newPeerReq(v, applyBlock, off, n, wire.IDSyncer)
	p.buf, p.run = b.dst, a.run
	v.received += n
	if v.ranges.add(&p.heldRange, resyncWrite, off, off+n, p) {
		p.rangeFree(e)
	}
	return nil
}

// resyncs reports whether the resync of a number goes on. What comes to the disk for one that has ended clears no bits: the nodes have
// agreed on a bitmap since, or will, and the peer, who does not take the acknowledgement for good any more, would wait for ever for the block to be asked for.
func (v *volume) resyncs(run uint64) bool { return v.state.Conn.Syncing() && v.resync.run == run }

// resyncWritten is the end of a block's way: the disks are equal there.
func (e *Engine) resyncWritten(p *peerReq, err Errno) {
	v := p.vol
	if err == OK && v.resyncs(p.run) {
		v.clearOutOfSync(e, p.off, p.n)
	}
	e.askEnds(v, v.resync.asks[p.off])
	if p.current(e) {
		cmd := wire.CmdRSWriteAck
		if err != OK {
			cmd = wire.CmdNegAck
		}
		e.ack(v, cmd, p.off, wire.IDSyncer, p.n)
	}
	if err != OK {
		e.writeFailed(v, err)
	}
	p.end(e)
	e.resyncProgress(v)
}

// heard notes that the peer has answered for a block.
func (r *resync) heard(now Instant) {
	r.owed--
	r.owedFrom = now
}

func (e *Engine) askEnds(v *volume, a *ask) {
	r := &v.resync
	delete(r.asks, a.off)
	if r.active && a.run == r.run {
		r.inFlight -= a.n
	}
	v.ranges.remove(e, &a.heldRange)
}

// asked finds what was asked for and not answered, or nil.
func (r *resync) asked(off, n int64) *ask {
	if a := r.asks[off]; a != nil && a.n == n && !a.answered {
		return a
	}
	return nil
}

// awaits is how an answer about a block stands to what was asked for.
func (r *resync) awaits(off, n int64, id uint64) outstanding {
	switch {
	case id != wire.IDSyncer:
		return nothing
	case r.asked(off, n) != nil:
		return asked
	case r.abandoned > 0:
		return abandoned
	}
	return nothing
}

// resyncRefused takes P_NEG_RS_DREPLY and P_RS_CANCEL.
func (e *Engine) resyncRefused(v *volume, cmd wire.Cmd, p wire.BlockAck) error {
	r, off, n := &v.resync, p.Offset(), int64(p.Size)
	got, err := e.admitPacket(v, cmd, r.awaits(off, n, p.BlockID))
	if err != nil {
		return err
	}
	if got == drop {
		r.abandoned--
		return nil
	}
	r.heard(e.now)
	e.askEnds(v, r.asked(off, n))
	if cmd == wire.CmdNegRSDReply {
		r.failed += v.bm.CountRange(off, n)
	}
	e.resyncProgress(v)
	return nil
}

// resyncProgress looks whether the Target is done. Before it says so, the peer
// must have seen every acknowledgement, also the flush of what was written: a ping
// there and back on the socket of the acks (wire 12.6). The Source has seen them when no bit is left.
func (e *Engine) resyncProgress(v *volume) {
	r := &v.resync
	if r.active && r.target == targetDone && v.state.Conn.Source() && v.bm.Count() == 0 {
		e.resyncDone(v)
		return
	}
	if !r.active || r.paused || r.fencing || v.state.Conn != statemachine.SyncTarget || e.settling(v) || v.asksToDetach() ||
		r.inFlight > 0 || v.bm.Count() > r.failed {
		return
	}
	r.fencing = true
	e.flushSynced(v)
}

// asksToDetach reports whether the peer was asked to let the disk go. It may have agreed, and write without it: the disk does not become good any more. If
// the peer refuses, the resync ends after that.
func (v *volume) asksToDetach() bool {
	return v.request != nil && v.request.change == statemachine.DetachChange
}

// flushSynced makes the resynced blocks durable before the disk is called UpToDate.
func (e *Engine) flushSynced(v *volume) {
	if !v.volatile() {
		e.fenceResync(v)
		return
	}
	e.conn.peerBusy++
	f := &syncFlush{vol: v, link: e.conn.generation, run: v.resync.run}
	f.covers = e.flushDisk(v, f)
}

type syncFlush struct {
	vol       *volume
	link, run uint64
	covers    uint64
}

func (f *syncFlush) ioDone(e *Engine, err Errno) {
	e.conn.peerBusy--
	if err == OK {
		f.vol.flushed(f.covers)
	}
	if err != OK {
		e.flushFailed(f.vol, err)
	} else if f.link == e.conn.generation && e.conn.up() && f.vol.resync.waitsIn(f.run) {
		e.fenceResync(f.vol)
	}
	e.closingAdvances()
}

// waitsIn reports whether it is the resync of that number which waits for its end.
func (r *resync) waitsIn(run uint64) bool { return r.active && r.fencing && r.run == run }

func (e *Engine) fenceResync(v *volume) { e.fence(targetFence, v, v.resync.run) }

// targetFenced ends a resync on the Target: the peer has seen every acknowledgement.
func (e *Engine) targetFenced(v *volume, run uint64) {
	r := &v.resync
	if !r.waitsIn(run) {
		return
	}
	r.fencing = false
	if v.state.Conn != statemachine.SyncTarget || v.bm.Count() > r.failed || v.asksToDetach() {
		return // it was paused, or an application's write has failed meanwhile
	}
	e.resyncDone(v)
}

// sample remembers how much is left, for the rate.
func (e *Engine) sample(v *volume) {
	r := &v.resync
	if e.now-r.marks[1].at >= 2*time.Second {
		r.marks[0], r.marks[1] = r.marks[1], mark{e.now, v.bm.Count()}
	}
}

func (e *Engine) syncStatus(v *volume) *SyncStatus {
	r := &v.resync
	if !r.active {
		return nil
	}
	left := v.bm.Count()
	s := &SyncStatus{
		Total: max(r.total, left) * bitmap.BlockSize, Left: left * bitmap.BlockSize, Failed: r.failed * bitmap.BlockSize,
		Started: r.started, Elapsed: e.now - r.started - r.idle,
	}
	if d := e.now - r.marks[0].at; d > 0 {
		s.Rate = int64(float64(max(r.marks[0].left-left, 0)*bitmap.BlockSize) / d.Seconds())
	}
	return s
}
