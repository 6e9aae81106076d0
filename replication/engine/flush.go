package engine

import "github.com/urbd/urbd/replication/wire"

// cacheState tells how much of what was written to a backing store may still
// be in its volatile cache. Writes are counted as they end.
type cacheState struct {
	written uint64 // writes that ended, and are not durable by themselves
	safe    uint64 // of them, the first so many are durable
}

// wrote notes the end of a write.
func (v *volume) wrote(fua bool) {
	if v.flush && !v.cfg.Disk.NoFlush && !fua {
		v.cache.written++
	}
}

// volatile reports whether a power loss could take back a write that has ended.
func (v *volume) volatile() bool { return v.cache.safe < v.cache.written }

// flushDisk makes durable what has ended by now; covers goes to flushed when it is done.
func (e *Engine) flushDisk(v *volume, owner ioOwner) (covers uint64) {
	e.startIO(v, DiskIO{Op: DiskFlush}, owner)
	return v.cache.written
}

// flushed notes that a flush has succeeded.
func (v *volume) flushed(covers uint64) { v.cache.safe = max(v.cache.safe, covers) }

// flushReq is a FLUSH of the application: everything answered before it is
// durable here, and with protocol C on the peer, when it is answered; on the peer
// with all protocols if this disk is not the good one.
type flushReq struct {
	vol    *volume
	req    *Request
	local  bool   // the own disk is still flushing
	covers uint64 // by the local flush
	lost   bool   // the connection ended before they were
	serial uint64 // epochs below it must be acknowledged; 0: none
}

func (e *Engine) startFlush(v *volume, r *Request) {
	if len(e.freeFlushes) == 0 {
		e.freeFlushes = append(e.freeFlushes, new(flushReq))
	}
	last := len(e.freeFlushes) - 1
	f := e.freeFlushes[last]
	e.freeFlushes = e.freeFlushes[:last]
	*f = flushReq{vol: v, req: r}
	v.activeWrites++
	if e.cfg.Net.Protocol == ProtocolC || !v.state.ReadsLocally() {
		f.askPeer(e)
	}
	e.flushes = append(e.flushes, f)
	if v.usable() && v.flush && !v.cfg.Disk.NoFlush {
		f.local = true
		f.covers = e.flushDisk(v, f)
		return
	}
	e.flushesAdvance()
}

// askPeer has the flush wait until the peer has confirmed everything that it was sent.
func (f *flushReq) askPeer(e *Engine) {
	if !e.conn.up() {
		return
	}
	e.closeEpoch()
	f.serial = e.conn.epochs.current
	if f.serial > e.conn.epochs.settled {
		e.unplug(f.vol)
	}
}

// unplug asks the peer to confirm epochs without waiting for more to come.
func (e *Engine) unplug(v *volume) {
	e.conn.queue[DataSock].packet(wire.CmdUnplugRemote, v.number, 0)
}

func (f *flushReq) ioDone(e *Engine, err Errno) {
	if err == OK {
		f.vol.flushed(f.covers)
	} else {
		e.flushFailed(f.vol, err) // f is not answered by what that leads to: it is local still
	}
	if f.local = false; f.serial == 0 && !f.vol.state.ReadsLocally() {
		f.askPeer(e) // the disk that was to hold the data does not count any more
	}
	e.flushesAdvance()
}

// flushesAdvance answers the flushes that have everything they wait for.
func (e *Engine) flushesAdvance() {
	keep := e.flushes[:0]
	ready := e.readyFlushes[:0]
	for _, f := range e.flushes {
		if f.local || f.serial > e.conn.epochs.settled {
			keep = append(keep, f)
			continue
		}
		ready = append(ready, f)
	}
	e.flushes, e.readyFlushes = keep, nil
	for _, f := range ready {
		e.flushDone(f)
	}
	e.readyFlushes = ready[:0]
}

func (e *Engine) flushDone(f *flushReq) {
	v, r := f.vol, f.req
	r.Err = OK
	if f.serial == 0 || f.lost {
		r.lacks |= peerLacks
	}
	switch {
	case !e.dataReachable(v):
		r.Err = EIO // nothing that counts was made durable: a disk that fails is Failed, and not back before this is answered
	case f.lost && !v.state.ReadsLocally():
		r.Err = EIO // what the peer has not confirmed may be nowhere
	}
	if v.state.Disk.Gone() {
		r.lacks |= ownCaches
	}
	f.vol, f.req = nil, nil
	e.freeFlushes = append(e.freeFlushes, f)
	v.activeWrites--
	e.done(v, r)
	e.writesIdle(v)
}
