package engine

import (
	"github.com/urbd/urbd/replication/wire"
)

// startRead serves a read from the own disk if its content is good there, and
// from the peer's otherwise (metadata 8.7).
func (e *Engine) startRead(v *volume, r *Request) {
	v.activeReads++
	switch {
	case v.attached && (v.state.ReadsLocally() || v.state.ReadsCleanLocally() && !v.bm.AnySet(r.Off, r.Len)):
		v.read += r.Len
		v.appWorks(e)
		rd := e.reads.get()
		rd.vol, rd.req = v, r
		e.startIO(v, DiskIO{Op: DiskRead, Off: r.Off, Len: r.Len, Data: r.Data[:r.Len]}, rd)
	case v.state.ReadsRemotely() && e.conn.up():
		e.readRemotely(v, r)
	default:
		e.readDone(v, r, EIO)
	}
}

func (e *Engine) readDone(v *volume, r *Request, err Errno) {
	r.Err = err
	v.activeReads--
	e.done(v, r)
}

// localRead is a read on its way to the own disk.
type localRead struct {
	vol *volume
	req *Request
}

func (l *localRead) ioDone(e *Engine, err Errno) {
	v, r := l.vol, l.req
	l.vol, l.req = nil, nil
	e.reads.free = append(e.reads.free, l)
	if err == OK {
		e.readDone(v, r, OK)
		return
	}
	e.mark(v, r.Off, r.Len)
	e.readFailed(v, err)
	switch {
	case !v.state.ReadsRemotely() || !e.conn.up():
		e.readDone(v, r, EIO)
	case r.Held != 0:
		e.readDone(v, r, EAGAIN) // the device may still write to this memory
	default:
		e.readRemotely(v, r)
	}
}

type readTable struct{ free []*localRead }

func (t *readTable) get() *localRead {
	if n := len(t.free); n > 0 {
		l := t.free[n-1]
		t.free = t.free[:n-1]
		return l
	}
	return new(localRead)
}

// remoteRead is a read that the peer serves. Its block id is its place in the table.
type remoteRead struct {
	vol   *volume
	req   *Request
	gen   uint32
	since Instant
}

// readRemotely asks the peer for the blocks.
func (e *Engine) readRemotely(v *volume, r *Request) {
	c := &e.conn
	i := -1
	for n := range c.remoteReads {
		if c.remoteReads[n].req == nil {
			i = n
			break
		}
	}
	if i < 0 {
		c.remoteReads = append(c.remoteReads, new(remoteRead))
		i = len(c.remoteReads) - 1
	}
	rd := c.remoteReads[i]
	rd.vol, rd.req, rd.since = v, r, max(e.now, 1)
	rd.gen++
	if c.readsSince == 0 {
		c.readsSince = rd.since
	}
	if c.epochs.closeAt != 0 {
		e.closeEpoch()
	}
	q := &c.queue[DataSock]
	q.packet(wire.CmdDataRequest, v.number, blockReqFixed)
	q.heads = wire.BlockReq{Sector: wire.SectorOf(r.Off), BlockID: remoteReadID(i, rd.gen), Size: uint32(r.Len)}.Append(q.heads)
}

// Remote reads have the top bit of their block id set; writes do not.
func remoteReadID(i int, gen uint32) uint64 { return 1<<63 | uint64(gen&0x7fffffff)<<32 | uint64(i) }

// remoteReadOf finds the read that an answer of the peer names, or nil.
func (e *Engine) remoteReadOf(v *volume, id, sector uint64) *remoteRead {
	i := int(uint32(id))
	if i >= len(e.conn.remoteReads) {
		return nil
	}
	rd := e.conn.remoteReads[i]
	if rd.req == nil || rd.vol != v || remoteReadID(i, rd.gen) != id || wire.SectorOf(rd.req.Off) != sector {
		return nil
	}
	return rd
}

// remoteReadEnds answers the request behind rd.
func (e *Engine) remoteReadEnds(rd *remoteRead, err Errno) {
	v, r := rd.vol, rd.req
	rd.vol, rd.req = nil, nil
	if err == OK {
		v.received += r.Len
	}
	e.readDone(v, r, err)
}

// receiving is the read whose answer is coming in, or nil. Its memory is the
// owner's to receive into until the socket is closed.
func (c *conn) receiving() *remoteRead { return c.recv[DataSock].block.read }

// loseRemoteReads tries the reads that the peer owes us elsewhere: locally if
// that has become possible, else they fail. The one that is coming in waits until
// the socket is closed.
func (e *Engine) loseRemoteReads() {
	for _, rd := range e.conn.remoteReads {
		if rd.req == nil || rd == e.conn.receiving() {
			continue
		}
		v, r := rd.vol, rd.req
		rd.vol, rd.req = nil, nil
		v.activeReads--
		e.admit(v, r)
	}
}
