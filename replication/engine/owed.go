package engine

import (
	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// A write that failed on the own disk, or was given up with it, may be answered because the peer's disk has it. When the node or its daemon dies
// then, what the two disks say is all that is left. The peer may never have heard that the disk here was lost: both are of one
// generation, and that of a Primary that has crashed is the source of a resync. So there is an invariant:
//
//	Such a write is answered with success only when the own disk cannot become the source of a resync any more: its superblock says
//	durably that it is Inconsistent, or the peer has announced a generation after which this disk is the target.
//
// What is announced is durable. Until one of the two is so, the answer is owed. Both are under way: the peer hears of the loss at once, and the superblock is
// the last one that is written to the disk. When the connection has ended, or the peer's disk is lost as well, the write ends with an
// error instead, and this disk keeps what it is. A peer that lives and announces nothing, beside a disk that takes no superblock, owes an answer as
// any other (oldestWait).
//
// It is the same with a FLUSH, if what was written before it may be in the cache of the disk that was lost.

// answerOwed answers a request, at once unless it is owed.
func (e *Engine) answerOwed(v *volume, r *Request) {
	switch {
	case r.Err != OK || r.lacks&(ownLacks|ownCaches) == 0:
		e.finished(v, r)
		return
	case v.owed.len() == 0:
		v.owedSince = e.now
	}
	v.owed.push(r)
	e.owedAdvance(v)
}

// owedAdvance gives the answers that are owed, if they can be given, or cannot any more.
func (e *Engine) owedAdvance(v *volume) {
	for v.owed.len() > 0 {
		r := *v.owed.front()
		switch {
		case r.lacks&ownLacks == 0 && !v.volatile(): // it was flushed before it was let go
		case v.superseded():
			if e.dataGoneOn(v); r.lacks&ownLacks != 0 {
				v.elsewhere = answered
			}
		case !v.state.ReadsRemotely():
			r.Err = EIO
		default:
			return
		}
		v.owed.pop()
		e.finished(v, r)
	}
}

// lacksAnswered reports whether the disk that is being let go lacks what was answered, or is about to be.
func (v *volume) lacksAnswered() bool { return v.owed.len() > 0 || v.elsewhere == answered }

// superseded reports whether the disk that is lost cannot be the source of a resync any more: whoever reads its superblock, and hears what the peer has
// announced, makes it the target, although it is the disk of a Primary that has crashed.
func (v *volume) superseded() bool {
	if !v.meta.written.Has(metadata.Consistent) {
		return true
	}
	c := sm.Compare(v.uuids, v.peerUUIDs.UUIDs, sm.CompareInput{SelfCrashed: true, FeatureWSame: true})
	return c.Result == -1 || c.Result == -2
}
