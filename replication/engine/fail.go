package engine

import (
	"fmt"

	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// writeFailed gives the disk up after a write error (on-io-error detach). That is
// also one of a discard or zero-out: the peer's disk reads zeroes there, this one does not. A write that came too late for its disk is no error of the
// one that is being attached.
func (e *Engine) writeFailed(v *volume, err Errno) {
	if v.usable() {
		e.diskFailed(v, "a write", err)
	}
}

// readFailed gives the disk up after a read error.
func (e *Engine) readFailed(v *volume, err Errno) { e.diskFailed(v, "a read", err) }

func (e *Engine) flushFailed(v *volume, err Errno) { e.diskFailed(v, "a flush", err) }

// metaFailed gives the disk up because what is known of it cannot be remembered.
func (e *Engine) metaFailed(v *volume, err Errno) { e.diskFailed(v, "a write of metadata", err) }

func (e *Engine) diskFailed(v *volume, what string, err Errno) {
	if !v.attached || v.state.Disk.Gone() {
		return
	}
	e.notice(v, Error, fmt.Sprintf("the disk has failed: %s ended with %v; it is detached. When the cause is gone, attach it again; a new disk in its place needs new metadata first: urbd create-md", what, err))
	if err == ENODATA {
		v.loseContent()
	}
	e.step(v, sm.DiskFailed{}, "I/O error")
}

// loseContent takes down that a disk was cut short. Nobody knows what it has where it ended, when it has its size again: it lacks everything.
func (v *volume) loseContent() {
	v.bm.SetAll()
	v.fullSync = true
	v.super.Flags = v.super.Flags.Inconsistent() | metadata.FullSync
}

// releaseDisk lets the disk go: what is known is written if that is possible,
// and when nothing is in flight on it any more, it is given back. An attach that
// waits for its turn is over. One that was given up may be gone already when its turn comes: an answer for the whole connection is before it.
func (e *Engine) releaseDisk(v *volume) {
	if v.state.Disk != sm.Failed {
		return
	}
	if a := v.attach; a != nil && a.ready {
		a.fail(e, a.givenUp())
		return
	}
	if v.leaving == staying {
		v.leaving = leavingBusy
	}
	e.diskIdle(v)
}

// diskIdle goes on with a disk that is being let go, when no I/O of it is in flight.
func (e *Engine) diskIdle(v *volume) {
	if v.diskPending > 0 || v.meta.current != nil || v.attach != nil {
		return
	}
	switch v.leaving {
	case staying:
	case leavingBusy:
		v.leaving = leavingFlushed
		if v.volatile() || v.needsPeerFlush() {
			f := &releaseFlush{vol: v}
			f.covers = e.flushDisk(v, f)
			return
		}
		e.diskIdle(v)
	case leavingFlushed:
		if v.elsewhere == asking || e.owesAnswer(v) {
			return // whether the data goes on without this disk, and what it lacks then
		}
		v.leaving = leavingWritten
		e.writeLast(v)
		e.diskIdle(v)
	case leavingWritten:
		if !v.held() {
			e.letGo(v)
		}
	}
}

// writeLast writes what has to be known of a disk that is being let go: also that it is old, if the data goes on without it, so that it
// is not promoted by mistake later. A disk that nobody writes without is as good as the other.
func (e *Engine) writeLast(v *volume) {
	last := !v.super.Flags.Has(metadata.WasUpToDate) // so it is, too, where the disk lacks what was answered
	e.writePages(v, changedPages, func(e *Engine, err Errno) {
		if err != OK {
			v.super.Flags |= metadata.FullSync // the next attach must not trust the bitmap (metadata 8.9)
		}
		if err != OK || last {
			e.queueMeta(v, &metaJob{kind: metaKept})
		}
	})
}

// letGo ends the use of a disk that has nothing in flight.
func (e *Engine) letGo(v *volume) {
	v.attached, v.leaving, v.superWritten = false, staying, false
	e.step(v, sm.DetachDone{}, "the disk is let go")
	e.retryLog(v)
	e.emit(CloseBacking{v.number})
	e.commandsAdvance()
}

// releaseFlush makes durable what was written to a disk that is being let go.
type releaseFlush struct {
	vol    *volume
	covers uint64
}

func (f *releaseFlush) ioDone(e *Engine, err Errno) {
	if err == OK {
		f.vol.flushed(f.covers)
		f.vol.peerDirty = false
	}
}

// held reports whether the bitmap or the log are still needed by a request that
// was begun with the disk.
func (v *volume) held() bool { return v.staged.len() > 0 || v.fullSyncing }

// writesIdle is called when an own write was answered.
func (e *Engine) writesIdle(v *volume) {
	if v.activeWrites == 0 {
		e.startBitmap(v)
		e.quiesced(v)
	}
}

// quiesced goes on with what waits for the application's I/O to end.
func (e *Engine) quiesced(*volume) { e.turnStates() }

// poolFreed goes on with what waits for memory.
func (e *Engine) poolFreed() { e.serveReads() }
