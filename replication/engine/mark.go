package engine

import (
	"fmt"

	sm "github.com/urbd/urbd/statemachine"
)

// bitsWorth is what the bits of a disk stand for.
type bitsWorth uint8

const (
	bitsCount bitsWorth = iota // blocks that the peer may lack, or this disk
	bitsVoid                   // the bitmap on the disk was void, and nothing was written or copied since: all are set, and the superblock says FULL_SYNC still
)

// strayBits deals with the bits that are set when both nodes, none of them Primary, have data of one generation and count against no other, so that nothing is
// copied. Those of a void bitmap stand for nothing: the disks are known to be equal, unless they are Inconsistent. Others were found by somebody, the driver's
// verify perhaps: they stay, and it is said.
func (e *Engine) strayBits(v *volume, d sm.Decision, word sm.State) {
	identical := d.Err == nil && d.Rule == 40 && d.Result == 0 && v.uuids.Bitmap == 0 && v.peerUUIDs.Bitmap == 0
	own, peer := v.compared(word.Disk)
	if !identical || v.bm.Count() == 0 || v.state.Role == sm.Primary || word.Role == sm.Primary || min(own, peer) <= sm.Inconsistent {
		return
	}
	if v.bits == bitsCount {
		e.notice(v, Warn, fmt.Sprintf("nothing is copied, because the data of both nodes is of one generation, but %d KiB are marked out of sync here: "+
			"urbd invalidate, on the node whose data is to be given up, makes them equal", v.outOfSync()>>10))
		return
	}
	v.bm.ClearAll()
	v.bits, v.tidy = bitsCount, true
	e.commit(v)
	e.notice(v, Info, "the bitmap of this disk was void: the data is of the peer's generation, so nothing is out of sync")
}

// servedBlock is a resync block on its way to the Target, until the Target has
// acknowledged it.
type servedBlock struct {
	off, n int64
	stage  servedStage
}

type servedStage uint8

const (
	servedNow    servedStage = iota
	servedBefore             // that resync has ended: the acknowledgement says nothing of what is here or there now
	servedInSync             // and the disks were equal since: it is not missed
)

// mark notes that a range differs from the peer's. Acknowledgements of what was
// sent before, which are on their way, do not take that back.
func (e *Engine) mark(v *volume, off, n int64) {
	v.setOutOfSync(off, n)
	for w := range e.unconfirmed(v) {
		if w.off < off+n && off < w.off+w.n {
			w.old = true
		}
	}
}

// outdate notes that the resync has ended in which blocks were served. The Target may have lost the disk that they were for, and what is
// written here from now on is on this one alone.
func (r *resync) outdate() {
	for i := range r.served {
		r.served[i].stage = max(r.served[i].stage, servedBefore)
	}
}

// inSync notes that both disks are the same now. A block that the Target has dropped with an earlier disk may have no acknowledgement: of
// those that are served for one range twice, the older one takes the answer of the newer.
func (r *resync) inSync() {
	for i := range r.served {
		r.served[i].stage = servedInSync
	}
}

// findServed finds the oldest block that was served for a range, -1 if there is none, and reports
// whether its acknowledgement is good for the range as it is now: the newest of them is.
func (r *resync) findServed(off, n int64) (first int, current bool) {
	first = -1
	for i, s := range r.served {
		if s.off == off && s.n == n {
			current = s.stage == servedNow
			if first < 0 {
				first = i
			}
		}
	}
	return first, current
}

// loseServed marks what was served and never acknowledged: of several blocks
// for one range an acknowledgement does not tell which one it is for.
func (v *volume) loseServed() {
	for _, s := range v.resync.served {
		if s.stage < servedInSync {
			v.setOutOfSync(s.off, s.n)
		}
	}
	v.resync.served = v.resync.served[:0]
}
