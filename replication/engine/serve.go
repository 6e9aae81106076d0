package engine

import sm "github.com/urbd/urbd/statemachine"

// servesDiskless reports whether this node is the disk of a Primary that has none.
func (v *volume) servesDiskless() bool {
	return v.state.Role != sm.Primary && v.state.Peer == sm.Primary && v.state.PeerDisk < sm.Inconsistent && v.state.Conn.Established()
}

// peerWorksHere reports whether what the peer writes is on this disk alone. That its disk may go is not enough: until it
// says that it has gone, what comes was written there, too, and if it never hears the answer, all that follows.
func (v *volume) peerWorksHere() bool {
	return v.state.PeerDisk < diskInconsistent && v.peerGone
}

// startGenerationFor starts a data generation before the first write of a
// Primary without a disk is carried out here: from then on the peer's disk is
// old. When the peer asks to detach, or connects without a disk, it is not started
// earlier, as the kernel's driver does: if the peer never hears the answer, or goes away at once because it
// knows newer data, there would be two generations of one set of data, a split brain although no data differs. A disk that has
// failed is old at once.
//
// It reports whether p has to wait until the superblock says what the bits and the activity log of p rest on: the
// generation, and that the log counts.
func (e *Engine) startGenerationFor(p *peerReq) (wait bool) {
	v := p.vol
	if v.startingGeneration || v.committing > 0 {
		v.parked.push(p)
		return true
	}
	uuids := v.generations()
	if uuids.Bitmap != 0 || v.state.Disk != sm.UpToDate || !v.attached {
		return false
	}
	v.startingGeneration = true
	v.parked.push(p)
	v.uuids = uuids.NewCurrent(e.newUUID(), false)
	e.notice(v, Info, "new data generation "+v.uuids.String()+": the peer writes, and has no disk")
	e.writeSuper(v, noPages, func(e *Engine, err Errno) {
		v.startingGeneration = false
		e.sendUUIDs(v, false)
		e.unpark(v)
	})
	return true
}

// unpark goes on with the writes that waited for a superblock.
func (e *Engine) unpark(v *volume) {
	if v.startingGeneration || v.committing > 0 {
		return
	}
	for n := v.parked.len(); n > 0; n-- {
		if p := v.parked.pop(); !e.startGenerationFor(p) {
			e.useLog(v, p)
		}
	}
}

// serves reports whether the activity log stands for writes of a peer without a
// disk, also of those that have outlived that state.
func (v *volume) serves() bool { return v.state.Durable().Primary || v.aloneWrites > 0 }

// aloneEnds ends a write of a peer without a disk. The superblock says that the
// log counts until the last of them is done.
func (e *Engine) aloneEnds(v *volume) {
	if v.aloneWrites--; v.aloneWrites == 0 && v.attached && v.leavesLog() {
		e.writeSuper(v, noPages, nil)
	}
}
