package engine

import (
	"github.com/urbd/urbd/replication/wire"
)

// maxReadQueue bounds the requests of a peer that wait for memory, and the resync
// blocks that it was sent and has not acknowledged: more than any peer that keeps to
// its own limits sends.
const maxReadQueue = 1 << 14

// wantedRead is a read of the peer that waits for a buffer or for its turn.
type wantedRead struct {
	vol    *volume
	kind   peerKind
	off, n int64
	id     uint64
	order  uint64
}

// peerRead takes P_DATA_REQUEST, P_RS_DATA_REQUEST and P_RS_THIN_REQ.
func (e *Engine) peerRead(v *volume, got verdict, kind peerKind, p wire.BlockReq) error {
	n := int64(p.Size)
	if n <= 0 || n%wire.SectorSize != 0 || n > wire.MaxRequest || !v.inside(p.Offset(), n) {
		return protocolErrorf("read of %d bytes at %d is outside of the device of %d bytes", n, p.Offset(), v.size)
	}
	if err := v.aligned(p.Offset(), n); err != nil {
		return err
	}
	if got == refuse {
		e.refuseRead(v, kind, p.Offset(), n, p.BlockID)
		return nil
	}
	if e.conn.wantedReads+len(v.resync.served) >= maxReadQueue {
		return protocolErrorf("more than %d reads at once, or resync blocks without an acknowledgement", maxReadQueue)
	}
	q := &e.conn.wanted
	if kind == serveBlock {
		q = &v.pace.wanted
		v.resync.target = max(v.resync.target, targetActive)
	} else {
		v.appWorks(e)
	}
	e.conn.wantedReads++
	e.conn.wantedOrder++
	q.push(wantedRead{v, kind, p.Offset(), n, p.BlockID, e.conn.wantedOrder})
	e.serveReads()
	return nil
}

func (e *Engine) refuseRead(v *volume, kind peerKind, off int64, id2 int64, id uint64) {
	cmd := wire.CmdNegDReply
	if kind == serveBlock {
		cmd = wire.CmdNegRSDReply
	}
	e.ack(v, cmd, off, id, id2)
}

// serveReads starts the reads of the peer that there is memory for: half of the
// buffers at most, the rest is for what the peer sends.
func (e *Engine) serveReads() {
	c := &e.conn
	for c.up() && c.wantedReads > 0 {
		q := e.nextRead()
		if q == nil || c.servedBytes+bufferSize(q.front().n) > int64(len(e.pool.mem)/2) {
			return
		}
		w := *q.front()
		if !w.vol.attached || !w.vol.state.ReadsLocally() {
			e.takeRead(q)
			e.refuseRead(w.vol, w.kind, w.off, w.n, w.id)
			continue
		}
		buf := e.buffer(w.vol, served, int(w.n))
		if buf == nil {
			return
		}
		e.takeRead(q)
		p := e.newPeerReq(w.vol, w.kind, w.off, w.n, w.id)
		p.buf = buf
		c.servedBytes += bufferSize(w.n)
		if w.kind == serveBlock {
			w.vol.resync.serving++
			w.vol.pace.served(w.n)
		}
		w.vol.read += w.n
		kind := resyncRead
		if w.kind == serveRead {
			kind = peerReading
		}
		if w.vol.ranges.add(&p.heldRange, kind, p.off, p.off+p.n, p) {
			p.rangeFree(e)
		}
	}
}

func (e *Engine) takeRead(q *fifo[wantedRead]) {
	q.pop()
	e.conn.wantedReads--
}

// readServed answers P_DATA_REQUEST.
func (e *Engine) readServed(p *peerReq, err Errno) {
	v := p.vol
	v.ranges.remove(e, &p.heldRange)
	switch {
	case !p.current(e):
	case err != OK:
		e.ack(v, wire.CmdNegDReply, p.off, p.id, p.n)
		e.readFailed(v, err)
	default:
		e.reply(p, wire.CmdDataReply)
		return
	}
	p.sentOut(e)
}

// blockServed answers a resync request, and only then lets writes to the range
// go on: the stream carries the block before anything newer.
func (e *Engine) blockServed(p *peerReq, err Errno) {
	v := p.vol
	replied := false
	switch {
	case !p.current(e):
	case err != OK:
		e.ack(v, wire.CmdNegRSDReply, p.off, p.id, p.n)
		e.readFailed(v, err) // which ends the resync
	default:
		e.reply(p, wire.CmdRSDataReply)
		replied = true
	}
	v.ranges.remove(e, &p.heldRange)
	if !replied {
		p.sentOut(e)
	}
}

func (e *Engine) reply(p *peerReq, cmd wire.Cmd) {
	v := p.vol
	q := &e.conn.queue[DataSock]
	q.packet(cmd, v.number, dataFixed+int(p.n))
	q.heads = wire.BlockData{Sector: wire.SectorOf(p.off), BlockID: p.id}.Append(q.heads)
	q.body(p.buf, p)
	v.sent += p.n
	if p.kind == serveBlock {
		v.resync.served = append(v.resync.served, servedBlock{off: p.off, n: p.n})
	}
}

// sentOut ends a read for the peer: its buffer is free.
func (p *peerReq) sentOut(e *Engine) {
	e.conn.servedBytes -= bufferSize(p.n)
	if p.kind == serveBlock {
		p.vol.resync.serving--
	}
	p.end(e)
	e.serveReads()
}
