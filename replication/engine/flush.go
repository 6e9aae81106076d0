package engine

import "github.com/urbd/urbd/replication/wire"

// flushReq is a FLUSH of the application: everything answered before it is
// durable here, and with protocol C on the peer, when it is answered.
type flushReq struct {
	vol    *volume
	req    *Request
	local  bool   // the own disk is still flushing
	serial uint64 // epochs below it must be acknowledged; 0: none
	err    Errno
}

func (e *Engine) startFlush(v *volume, r *Request) {
	f := &flushReq{vol: v, req: r}
	if n := len(e.freeFlushes); n > 0 {
		f = e.freeFlushes[n-1]
		e.freeFlushes = e.freeFlushes[:n-1]
		*f = flushReq{vol: v, req: r}
	}
	v.activeWrites++
	if e.cfg.Net.Protocol == ProtocolC && e.conn.up() {
		e.closeEpoch()
		f.serial = e.conn.epochs.current
		if f.serial > e.conn.epochs.settled {
			e.unplug(v)
		}
	}
	e.flushes = append(e.flushes, f)
	if v.usable() && v.flush && !v.cfg.Disk.NoFlush {
		f.local = true
		e.startIO(v, DiskIO{Op: DiskFlush}, f)
		return
	}
	e.flushesAdvance()
}

// unplug asks the peer to confirm epochs without waiting for more to come.
func (e *Engine) unplug(v *volume) {
	e.conn.queue[DataSock].packet(wire.CmdUnplugRemote, v.number, 0)
}

func (f *flushReq) ioDone(e *Engine, err Errno) {
	f.local, f.err = false, err
	if err != OK {
		e.flushFailed(f.vol, err)
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
	if f.err != OK && !v.state.ReplicatesData() {
		r.Err = EIO
	}
	f.vol, f.req = nil, nil
	e.freeFlushes = append(e.freeFlushes, f)
	v.activeWrites--
	e.done(v, r)
	e.writesIdle(v)
}
