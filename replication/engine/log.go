package engine

import (
	"time"

	"github.com/urbd/urbd/bitmap"
)

// logPatience is how long writes to hot extents may overtake one that finds every
// slot of the log in use. Then they wait behind it, and the slots become free.
const logPatience = 100 * time.Millisecond

// logUser is a write whose extents must be in the activity log on disk before
// it may be carried out.
type logUser interface {
	span() (first, last uint32)
	// logHot goes on with the write. held is the log in which it holds
	// references on its extents; nil if there is none to write to.
	logHot(e *Engine, held *bitmap.ActivityLog)
}

func extents(off, n int64) (first, last uint32) {
	return uint32(off / bitmap.ExtentSize), uint32((off + n - 1) / bitmap.ExtentSize)
}

// useLog goes on with u when its extents are hot: at once, or after the next
// transaction. The transaction is written at the end of the turn, for all who
// came until then (metadata 4.5).
func (e *Engine) useLog(v *volume, u logUser) {
	if !v.usable() {
		u.logHot(e, nil)
		return
	}
	if v.logStarved != 0 && e.now >= v.logStarved+logPatience {
		v.logQueue.push(u)
		return
	}
	if v.al.TryGet(u.span()) {
		u.logHot(e, v.al)
		return
	}
	if v.logQueue.len() > 0 || !e.stage(v, u) {
		v.logQueue.push(u)
	}
}

// stage puts u, the first of those who wait, into the next transaction if there is room.
func (e *Engine) stage(v *volume, u logUser) bool {
	if v.al.Writing() {
		return false
	}
	switch v.al.Stage(u.span()) {
	case bitmap.Staged:
		v.staged.push(u)
		return true
	case bitmap.Starved:
		if v.logStarved == 0 {
			v.logStarved = max(e.now, 1)
		}
	}
	return false
}

// retryLog looks again at those who wait for room in the log.
func (e *Engine) retryLog(v *volume) {
	for v.logQueue.len() > 0 {
		u := *v.logQueue.front()
		none := !v.usable()
		hot := !none && v.al.TryGet(u.span())
		if !none && !hot && !e.stage(v, u) {
			return
		}
		v.logQueue.pop()
		v.logStarved = 0
		switch {
		case none:
			u.logHot(e, nil)
		case hot:
			u.logHot(e, v.al)
		}
	}
}

// writeLog starts the transaction that was collected in this turn. If the disk was given up in the same turn, those who
// wait for it go on without.
func (e *Engine) writeLog(v *volume) {
	if !v.attached {
		e.goOn(v, nil)
		return
	}
	if !v.al.Pending() || v.al.Writing() {
		return
	}
	t, ok := v.al.Begin()
	if !ok {
		return
	}
	v.alWrites++
	e.queueMeta(v, &metaJob{kind: metaLog, log: t, then: func(e *Engine, err Errno) { e.logWritten(v, err) }})
}

// logWritten lets the writes of the transaction go. If it did not reach the
// disk, the disk is given up, and they go on without it.
func (e *Engine) logWritten(v *volume, err Errno) {
	var held *bitmap.ActivityLog
	if err == OK {
		v.al.Commit()
		held = v.al
	}
	e.goOn(v, held)
}

// goOn lets the writes of the transaction go, and looks at those who wait for the next one.
func (e *Engine) goOn(v *volume, held *bitmap.ActivityLog) {
	for _, u := range v.staged.takeAll() {
		u.logHot(e, held)
	}
	e.retryLog(v)
}
