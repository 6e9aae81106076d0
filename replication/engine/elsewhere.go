package engine

import sm "github.com/urbd/urbd/statemachine"

// elsewhere says whether the data of a Primary goes on without the own disk: on the peer's, which may have begun a generation for it.
//
//	nowhere --> asking --> goneOn --> answered
//	                \--> unheard
//
// When a good disk is let go it is not known whether the peer lives. A Primary holds its writes back, and the last superblock of the disk waits, until the
// peer has answered a ping, or has begun a generation. If the connection ends before, nothing has been written elsewhere: the disk keeps what it
// is, and can be taken into use again alone. The peer may have heard of it all the same, and have begun a generation for nothing; then they meet as a split brain.
type elsewhere uint8

const (
	nowhere elsewhere = iota
	unheard           // it was asked, and the connection has ended
	asking            // the peer, whether it lives
	goneOn
	answered // a write that the disk was given and lacks, because the peer has it: see owed.go
)

// peerIsCurrent reports whether the peer's disk has the generation of this one, or may have it by now, because a resync to it is done perhaps.
func (v *volume) peerIsCurrent() bool {
	if v.resync.active && v.resync.target >= targetActive {
		return true
	}
	return v.peerKnown && (v.peerUUIDs.Current^v.uuids.Current)&^sm.RoleBit == 0
}

// staleForPrimary reports whether the disk that is attached here may lack what
// this Primary wrote to the peer's disk while it had none of its own. That it has the generation that was heard of
// last proves nothing: the one that the peer has begun for the writes may be on its way.
func (v *volume) staleForPrimary() bool {
	return v.state.Role == sm.Primary && (v.elsewhere >= goneOn || !v.workedOn(v.uuids.Current))
}

// expose takes note of which data the users of a Primary work on whose own disk is not good any more, or is not when it is promoted: of
// the generation that it had, or of the one that the peer has announced. In the first case the peer begins one perhaps, and says which.
// Whether a disk that is let go is followed by the peer's shows: see seekData.
func (v *volume) expose(old sm.State) {
	switch {
	case v.state.ReadsLocally():
		v.elsewhere = nowhere
	case v.state.Role != sm.Primary:
	case old.Role != sm.Primary:
		v.exposed = v.peerUUIDs.Current
		if v.elsewhere != answered {
			v.elsewhere = nowhere // and it is asked for: see seekData
		}
	case old.ReadsLocally():
		v.exposed, v.elsewhere = v.uuids.Current, nowhere
		if v.state.ReadsRemotely() && v.state.Disk != sm.Failed {
			v.elsewhere = goneOn
		}
	}
}

// seekData asks the peer whether it lives, when the own disk, which was good, is let go and a Primary can go on with the peer's; or can since, and
// the disk hangs.
func (e *Engine) seekData(v *volume, old sm.State) {
	good := old.Disk > sm.Outdated || old.Disk == sm.Failed && !goesOnThere(old)
	if v.state.Disk != sm.Failed || !good || v.elsewhere >= goneOn || !goesOnThere(v.state) || !e.conn.up() {
		return
	}
	v.elsewhere = asking
	e.fence(lifeFence, v, 0)
}

// goesOnThere reports whether a Primary, here or there, works on the peer's disk.
func goesOnThere(s sm.State) bool {
	return s.ReadsRemotely() && (s.Role == sm.Primary || s.Peer == sm.Primary)
}

// dataGoneOn takes note that the peer goes on with the data. A disk that is being let go is old, and will say so.
func (e *Engine) dataGoneOn(v *volume) {
	if v.elsewhere != asking {
		return
	}
	v.elsewhere = goneOn
	v.super.Flags = v.super.Flags.Outdated()
	e.dataFound(v)
}

// dataNowhere takes note that the connection has ended, and nothing was written without the own disk.
func (e *Engine) dataNowhere(v *volume) {
	if v.elsewhere == asking {
		v.elsewhere = unheard
	}
	e.dataFound(v)
}

// owesAnswer reports whether a write that the disk lacks, which is being let go, may still be answered because the peer has it.
func (e *Engine) owesAnswer(v *volume) bool {
	for w := range e.unconfirmed(v) {
		if w.req != nil && w.failedHere() {
			return true
		}
	}
	return false
}

// restore corrects what the metadata makes of a disk by what is known here of how it was let go.
func (v *volume) restore() {
	switch {
	case v.elsewhere == answered: // also if it could not take that down
		v.restored = sm.Inconsistent
	case v.state.Role == sm.Primary && v.restored == sm.Outdated:
		v.restored = sm.UpToDate // it is what the applications had last: nothing was written elsewhere, although it was let go for that
	}
}

// warnUnheard says what may come of a disk that is taken into use below a Primary alone.
func (e *Engine) warnUnheard(v *volume) {
	if v.elsewhere == unheard && v.state.Role == sm.Primary && !v.state.Conn.Established() {
		e.notice(v, Warn, "the disk was lost, and the connection ended before it showed whether the peer goes on with the data; now it is in use again without the peer: "+
			"if that has begun a generation meanwhile, the two meet as a split brain, and unless it was promoted, its data is the one to discard")
	}
}

func (e *Engine) dataFound(v *volume) {
	e.relaunch(v)
	e.diskIdle(v)
}
