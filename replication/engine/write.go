package engine

import (
	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// A write is one application write, discard or zero-out, and its entry in the
// transfer log: it outlives the answer to the application until the peer has
// acknowledged its epoch, because only then is it known to be durable there.
type write struct {
	heldRange
	vol *volume
	req *Request // nil once answered
	op  Op
	off int64
	n   int64
	id  uint64 // block id on the wire
	gen uint32
	idx uint32

	log     *bitmap.ActivityLog // in which references are held, or nil
	remote  bool                // sent to the peer as data
	strict  bool                // done when the peer has written it: protocol C, or its disk is the good one
	serial  uint64              // its epoch
	run     uint64              // of the resync that was under way last when it was sent
	next    *write              // in the epoch
	local   phase
	sending bool // the payload is queued or in flight
	acked   bool // what the protocol asks of the peer has happened, or cannot any more
	refused bool // the peer has answered P_NEG_ACK
	settled bool // the epoch was acknowledged, or the connection is gone
	localOK bool
	peerOK  bool
	synced  bool // the peer has cleared its bits of the range
	old     bool // the range was marked since
	marked  bool // because of this write
}

// phase of the local part of a write.
type phase uint8

const (
	localNone phase = iota
	localBusy
	localDone
)

// writeTable gives writes their block ids and finds them again.
type writeTable struct {
	all  []*write
	free []*write
}

func (t *writeTable) get() *write {
	if len(t.free) == 0 {
		w := &write{idx: uint32(len(t.all))}
		t.all = append(t.all, w)
		t.free = append(t.free, w)
	}
	w := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	gen := w.gen + 1
	*w = write{idx: w.idx, gen: gen, id: uint64(gen)<<32 | uint64(w.idx)}
	return w
}

func (t *writeTable) put(w *write) {
	w.vol, w.req, w.next, w.id = nil, nil, nil, 0
	t.free = append(t.free, w)
}

// find returns the write with a block id, or nil.
func (t *writeTable) find(id uint64) *write {
	if i := uint32(id); int(i) < len(t.all) && t.all[i].id == id && t.all[i].vol != nil {
		return t.all[i]
	}
	return nil
}

// startWrite takes an admitted request. Stages: order, activity log, launch.
func (e *Engine) startWrite(v *volume, r *Request) {
	w := e.writes.get()
	w.vol, w.req, w.op, w.off, w.n = v, r, r.Op, r.Off, r.Len
	r.write = w
	v.activeWrites++
	if v.ranges.add(&w.heldRange, ownWrite, w.off, w.off+w.n, w) {
		w.rangeFree(e)
	}
}

// rangeFree goes on with the activity log: nothing overlaps the write any more.
func (w *write) rangeFree(e *Engine) {
	e.useLog(w.vol, w)
}

func (w *write) span() (first, last uint32) { return extents(w.off, w.n) }

func (w *write) logHot(e *Engine, held *bitmap.ActivityLog) {
	w.log = held
	w.launch(e)
}

// launch sends the write both ways at once.
func (w *write) launch(e *Engine) {
	v, r := w.vol, w.req
	if e.holdsBack(v) {
		v.waiting.push(w)
		return
	}
	v.appWorks(e)
	st := v.state
	local, remote := v.usable(), st.ReplicatesData() && e.conn.up()
	if !e.dataReachable(v) || !local && !remote {
		w.acked, w.settled = true, true
		w.advance(e)
		return
	}
	if remote {
		w.strict = e.cfg.Net.Protocol == ProtocolC || !v.state.ReadsLocally()
		e.sendWrite(w)
		if !local {
			v.elsewhere = max(v.elsewhere, goneOn)
		}
	} else {
		w.acked, w.settled = true, true
		e.mark(v, w.off, w.n)
	}
	if !local {
		w.advance(e)
		return
	}
	w.local = localBusy
	io := DiskIO{Op: DiskWrite, FUA: r.FUA, Off: w.off, Len: w.n, Data: r.Data}
	if w.op != OpWrite {
		io = DiskIO{Op: DiskZero, Unmap: !r.NoUnmap, Off: w.off, Len: w.n}
	}
	v.written += w.n
	e.startIO(v, io, w)
}

// relaunch sends the writes that waited for a change to be known to the peer, or for one to be made.
func (e *Engine) relaunch(v *volume) {
	for v.waiting.len() > 0 && !e.holdsBack(v) {
		v.waiting.pop().launch(e)
	}
}

// sendWrite queues the write for the peer, in the current epoch.
func (e *Engine) sendWrite(w *write) {
	c, v, r := &e.conn, w.vol, w.req
	e.joinEpoch(w)
	w.remote, w.run = true, v.resync.run
	v.seq++
	c.apInFlight += w.n
	p := wire.BlockData{Sector: wire.SectorOf(w.off), BlockID: w.id, Seq: v.seq, Flags: e.writeFlags(w)}
	q := &c.queue[DataSock]
	switch w.op {
	case OpWrite:
		q.packet(wire.CmdData, v.number, dataFixed+int(w.n))
		q.heads = p.Append(q.heads)
		w.sending = true
		q.body(r.Data, w)
		v.sent += w.n
	default:
		cmd := wire.CmdTrim // a peer that knows P_ZEROES frees the space of this one as it does for its own users
		p.Flags |= wire.DPDiscard
		if w.op == OpWriteZeroes && c.features&featureZeroes != 0 {
			cmd = wire.CmdZeroes
			p.Flags |= wire.DPZeroes
			if r.NoUnmap {
				p.Flags &^= wire.DPDiscard
			}
		}
		q.packet(cmd, v.number, trimFixed)
		q.heads = wire.TrimBlock{BlockData: p, Size: uint32(w.n)}.Append(q.heads)
		w.sending = true
		q.body(nil, w)
	}
	e.countEpoch()
}

// writeFlags are the dp_flags of a write (wire 11.2, 11.4).
func (e *Engine) writeFlags(w *write) wire.DPFlags {
	f := wire.DPRWSync
	if w.req.FUA {
		f |= wire.DPFUA
	}
	if w.vol.state.MaySetInSync() {
		f |= wire.DPMaySetInSync | wire.DPSendWriteAck
	}
	switch {
	case w.strict:
		f |= wire.DPSendWriteAck
	case e.cfg.Net.Protocol == ProtocolB:
		f |= wire.DPSendReceiveAck
	}
	return f
}

// ioDone is the end of the local part.
func (w *write) ioDone(e *Engine, err Errno) {
	if w.localOK = err == OK; err == OK {
		w.vol.wrote(w.req != nil && w.req.FUA && w.op == OpWrite)
		if w.op == OpWrite {
			w.vol.wroteAt = w.off
		}
	} else {
		w.mark(e)
		e.writeFailed(w.vol, err) // w does not end by what that leads to: it is busy still
	}
	w.local = localDone
	v := w.vol
	w.advance(e)
	e.workEnds(v)
}

// sentOut is the end of the payload's way out.
func (w *write) sentOut(e *Engine) {
	w.sending = false
	if e.cfg.Net.Protocol == ProtocolA && !w.strict {
		w.acked = true
	}
	w.advance(e)
}

// advance answers the application when everything its protocol asks for has
// happened, and ends the write when the epoch is settled as well.
func (w *write) advance(e *Engine) {
	if w.local == localBusy || w.sending || !w.acked {
		return
	}
	if w.settled {
		w.account(e) // before the next write of the range may begin, which marks it anew
	}
	if w.req != nil && w.homeless() {
		e.hurryEpoch(w)
		return
	}
	if w.req != nil {
		w.answer(e)
	}
	if w.settled {
		w.finish(e)
	}
}

// homeless reports whether a write of protocol A or B is on no disk that counts, as far as is known: the own one
// has been lost, or given up, since it began. Then that the peer has received it is not enough.
func (w *write) homeless() bool {
	return w.remote && !w.strict && !w.settled && !w.refused && !w.peerOK && !w.here()
}

// failedHere reports whether the own disk was given the write, and lacks it.
func (w *write) failedHere() bool { return w.local == localDone && !w.localOK }

// here reports whether the own disk has the write for good.
func (w *write) here() bool { return w.localOK && w.vol.state.ReadsLocally() }

func (w *write) answer(e *Engine) {
	v, r := w.vol, w.req
	r.Err = EIO
	there := w.remote && w.peerGood()
	if w.here() || there {
		r.Err = OK // a disk that is not UpToDate will be overwritten: its copy alone is none
		switch {
		case !there:
			r.lacks |= peerLacks
		case w.failedHere():
			r.lacks |= ownLacks
		}
	}
	r.write, w.req = nil, nil
	v.activeWrites--
	v.ranges.remove(e, &w.heldRange)
	if w.remote && w.serial == e.conn.epochs.current {
		e.conn.closeEpochBy(e.now + e.barrierDelay())
	}
	if r.FUA && w.op != OpWrite && r.Err == OK {
		e.startFlush(v, r) // there is no zero-out that is durable by itself
	} else {
		e.done(v, r)
	}
	e.writesIdle(v)
	if v.leaving == leavingFlushed {
		e.diskIdle(v)
	}
}

// peerGood reports whether the peer has done its part, on a disk that counts: what a disk has that is still being
// resynced is overwritten by the next one. Protocols A and B hear of a failure only later; the
// application is not told then, the bits are set.
func (w *write) peerGood() bool {
	return w.vol.state.PeerDisk == sm.UpToDate && (w.peerOK || !w.strict && !w.settled && !w.refused)
}

// account settles the bits of the range: in sync only if both disks have it, and the resync goes on in which it was sent. Both nodes have
// agreed on a bitmap since, otherwise, and a bit that is cleared here alone would stay on the other.
func (w *write) account(e *Engine) {
	switch {
	case w.localOK && w.peerOK && w.synced && !w.old && w.vol.resyncs(w.run):
		w.vol.clearOutOfSync(e, w.off, w.n)
	case w.remote && w.local != localNone && !(w.localOK && w.peerOK):
		w.mark(e)
	}
}

// mark notes that one disk lacks the write, once: when its epoch ends later, a resync may
// have brought the range already, and a bit that is set then would stay.
func (w *write) mark(e *Engine) {
	if !w.marked {
		w.marked = true
		e.mark(w.vol, w.off, w.n)
	}
}

func (w *write) finish(e *Engine) {
	v := w.vol
	if w.remote {
		e.conn.apInFlight -= w.n
	}
	held := w.log
	if held != nil {
		first, last := w.span()
		held.Put(first, last, v.cache.written)
	}
	e.writes.put(w)
	if held != nil {
		e.retryLog(v)
	}
}
