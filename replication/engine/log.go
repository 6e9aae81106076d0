package engine

import "github.com/urbd/urbd/bitmap"

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
	if !v.logs() {
		u.logHot(e, nil)
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

func (e *Engine) stage(v *volume, u logUser) bool {
	if v.al.Writing() || v.al.Stage(u.span()) != bitmap.Staged {
		return false
	}
	v.staged.push(u)
	return true
}

// retryLog looks again at those who wait for room in the log.
func (e *Engine) retryLog(v *volume) {
	for v.logQueue.len() > 0 {
		u := *v.logQueue.front()
		switch {
		case !v.logs():
			v.logQueue.pop()
			u.logHot(e, nil)
		case v.al.TryGet(u.span()):
			v.logQueue.pop()
			u.logHot(e, v.al)
		case e.stage(v, u):
			v.logQueue.pop()
		default:
			return
		}
	}
}

// writeLog starts the transaction that was collected in this turn.
func (e *Engine) writeLog(v *volume) {
	if v.al == nil || !v.attached || !v.al.Pending() || v.al.Writing() {
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
	for _, u := range v.staged.takeAll() {
		u.logHot(e, held)
	}
	e.retryLog(v)
}
