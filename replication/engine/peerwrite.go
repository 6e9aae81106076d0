package engine

import (
	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/wire"
)

// peerKind says what a peerReq does for the peer.
type peerKind uint8

const (
	applyWrite   peerKind = iota // P_DATA
	applyZero                    // P_TRIM, P_ZEROES
	applyBlock                   // P_RS_DATA_REPLY
	applyDealloc                 // P_RS_DEALLOCATED
	serveRead                    // P_DATA_REQUEST
	serveBlock                   // P_RS_DATA_REQUEST, P_RS_THIN_REQ
)

// peerReq is one I/O on the local disk for the peer.
type peerReq struct {
	heldRange
	vol    *volume
	kind   peerKind
	off, n int64
	id     uint64
	flags  wire.DPFlags
	serial uint64 // of the receiving epoch
	link   uint64 // generation of the connection; answers of an older one are dropped
	run    uint64 // of the resync that was under way last when it came
	buf    []byte
	alone  bool                // the peer had no disk when it sent this: peerWorksHere
	log    *bitmap.ActivityLog // in which references are held, or nil
	ok     bool
}

func (e *Engine) newPeerReq(v *volume, kind peerKind, off, n int64, id uint64) *peerReq {
	if len(e.freePeerReqs) == 0 {
		e.freePeerReqs = append(e.freePeerReqs, new(peerReq))
	}
	last := len(e.freePeerReqs) - 1
	p := e.freePeerReqs[last]
	e.freePeerReqs = e.freePeerReqs[:last]
	*p = peerReq{vol: v, kind: kind, off: off, n: n, id: id, link: e.conn.generation, run: v.resync.run}
	e.conn.peerBusy++
	return p
}

// end gives p and its buffer back.
func (p *peerReq) end(e *Engine) {
	if p.log != nil {
		first, last := p.span()
		p.log.Put(first, last, p.vol.cache.written)
		e.retryLog(p.vol)
	}
	if p.buf != nil {
		e.giveBuffer(p.vol, p.buf)
		p.buf = nil
	}
	if p.alone {
		e.aloneEnds(p.vol)
	}
	if p.kind == applyZero {
		e.conn.zeroing--
	}
	p.vol = nil
	e.freePeerReqs = append(e.freePeerReqs, p)
	e.conn.peerBusy--
	e.poolFreed()
	e.closingAdvances()
}

// current reports whether the connection that p came over is still there.
func (p *peerReq) current(e *Engine) bool { return e.conn.up() && p.link == e.conn.generation }

// peerData takes a complete P_DATA.
func (e *Engine) peerData(v *volume, b block) error {
	n := int64(b.filled)
	p := e.joinPeerEpoch(v, applyWrite, b.fixed, n)
	p.buf = b.dst
	if n > 0 && b.dst == nil {
		e.refuseWrite(p)
		return nil
	}
	if n == 0 {
		p.ok = true
		e.peerWriteDone(p)
		return nil
	}
	v.received += n
	e.startPeerWrite(p)
	return nil
}

// peerZero takes P_TRIM and P_ZEROES. Both are carried out so that the range
// reads zeroes afterwards, on this disk as on the peer's.
func (e *Engine) peerZero(v *volume, got verdict, t wire.TrimBlock) error {
	n := int64(t.Size)
	if n == 0 || n%wire.SectorSize != 0 || n > wire.MaxTrim || !v.inside(t.Offset(), n) {
		return protocolErrorf("discard of %d bytes at %d is outside of the device of %d bytes", n, t.Offset(), v.size)
	}
	if err := v.aligned(t.Offset(), n); err != nil {
		return err
	}
	p := e.joinPeerEpoch(v, applyZero, t.BlockData, n)
	if got == refuse {
		e.refuseWrite(p)
		return nil
	}
	e.startPeerWrite(p)
	return nil
}

func (e *Engine) joinPeerEpoch(v *volume, kind peerKind, d wire.BlockData, n int64) *peerReq {
	in := &e.conn.in
	p := e.newPeerReq(v, kind, d.Offset(), n, d.BlockID)
	p.flags = d.Flags
	if p.alone = v.peerWorksHere(); p.alone {
		v.aloneWrites++
	}
	v.appWorks(e)
	if kind == applyZero {
		e.conn.zeroing++
	}
	p.serial = in.first + uint64(in.open.len()-1)
	ep := in.open.at(in.open.len() - 1)
	ep.count++
	ep.pending++
	v.unacked++
	return p
}

// refuseWrite answers a write for which there is no disk. It counts in its epoch.
func (e *Engine) refuseWrite(p *peerReq) {
	size := p.n
	if p.kind == applyZero {
		size = 0
	}
	e.ack(p.vol, wire.CmdNegAck, p.off, p.id, size)
	e.leaveEpoch(p)
	p.end(e)
}

func (e *Engine) startPeerWrite(p *peerReq) {
	if p.flags&wire.DPSendReceiveAck != 0 {
		e.ack(p.vol, wire.CmdRecvAck, p.off, p.id, p.n)
	}
	if p.alone {
		p.vol.setOutOfSync(p.off, p.n) // at once: a bitmap exchange may come before its turn
	}
	if p.vol.ranges.add(&p.heldRange, peerWrite, p.off, p.off+p.n, p) {
		p.rangeFree(e)
	}
}

// rangeFree goes on with whatever had to wait for its range.
func (p *peerReq) rangeFree(e *Engine) {
	v := p.vol
	switch p.kind {
	case serveBlock, serveRead:
		if !v.attached {
			p.ioDone(e, ENODEV) // it has gone while this waited
			return
		}
		e.startIO(v, DiskIO{Op: DiskRead, Off: p.off, Len: p.n, Data: p.buf}, p)
		return
	case applyWrite, applyZero:
		if p.alone {
			// The peer works on this disk alone: what it writes is remembered here.
			if !e.startGenerationFor(p) {
				e.useLog(v, p)
			}
			return
		}
	}
	p.apply(e)
}

func (p *peerReq) span() (first, last uint32) { return extents(p.off, p.n) }

func (p *peerReq) logHot(e *Engine, held *bitmap.ActivityLog) {
	p.log = held
	p.apply(e)
}

// apply writes to the disk what the peer has sent.
func (p *peerReq) apply(e *Engine) {
	v := p.vol
	if !v.usable() {
		p.ioDone(e, ENODEV) // it has gone while this waited, or what must be known of this cannot be written
		return
	}
	io := DiskIO{Op: DiskWrite, FUA: p.flags&wire.DPFUA != 0, Off: p.off, Len: p.n, Data: p.buf}
	if p.kind == applyZero || p.kind == applyDealloc {
		unmap := p.kind == applyDealloc || p.flags&wire.DPDiscard != 0
		io = DiskIO{Op: DiskZero, Unmap: unmap, Off: p.off, Len: p.n}
	}
	v.written += p.n
	e.startIO(v, io, p)
}

// ioDone is the end of the disk's part, of all kinds.
func (p *peerReq) ioDone(e *Engine, err Errno) {
	p.ok = err == OK
	if p.ok && p.kind <= applyDealloc {
		p.vol.wrote(p.flags&wire.DPFUA != 0 && p.kind == applyWrite)
		if p.kind == applyWrite {
			p.vol.wroteAt = p.off
		}
	}
	switch p.kind {
	case applyWrite, applyZero:
		p.vol.ranges.remove(e, &p.heldRange)
		if !p.ok {
			p.vol.setOutOfSync(p.off, p.n) // before the disk is let go with its last pages
			e.writeFailed(p.vol, err)
		}
		e.peerWriteDone(p)
	case applyBlock, applyDealloc:
		p.vol.ranges.remove(e, &p.heldRange)
		e.resyncWritten(p, err)
	case serveRead:
		e.readServed(p, err)
	case serveBlock:
		e.blockServed(p, err)
	}
}

// peerWriteDone acknowledges a write of the peer's application.
func (e *Engine) peerWriteDone(p *peerReq) {
	v := p.vol
	cmd := wire.CmdWriteAck
	if p.n > 0 {
		v.peerDirty = v.peerDirty || p.flags&wire.DPFUA == 0 || p.kind != applyWrite // a zero-out is never durable by itself
	}
	switch {
	case !p.ok:
		cmd = wire.CmdNegAck
	case p.flags&wire.DPMaySetInSync != 0 && v.resyncs(p.run):
		v.clearOutOfSync(e, p.off, p.n)
		cmd = wire.CmdRSWriteAck
	}
	if p.current(e) {
		if !p.ok || p.flags&wire.DPSendWriteAck != 0 {
			e.ack(v, cmd, p.off, p.id, p.n)
		}
		e.leaveEpoch(p)
	}
	p.end(e)
}

// ack queues an acknowledgement with the volume's next sequence number.
func (e *Engine) ack(v *volume, cmd wire.Cmd, off int64, id uint64, n int64) {
	v.seq++
	q := &e.conn.queue[MetaSock]
	q.packet(cmd, v.number, blockAckFixed)
	q.heads = wire.BlockAck{Sector: wire.SectorOf(off), BlockID: id, Size: uint32(n), Seq: v.seq}.Append(q.heads)
}
