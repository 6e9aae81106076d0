package main

import (
	"bytes"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	queuedLines = 1000        // of the log that wait for a reader; beyond them lines are left out, and counted
	flushLimit  = time.Second // for what is queued to be written, at the end
)

// A logQueue takes a daemon's log and never waits. What it writes to may take nothing: a journal that stands still, a pipe that nobody reads,
// a file system that hangs. The daemon goes on then, looks for its peer and ends as it is told.
type logQueue struct {
	out   io.Writer
	left  func(lines int64) // says on out how many were left out
	lines chan queuedLine
	lost  atomic.Int64
}

// A queuedLine is text to write, or somebody who waits for what is before it.
type queuedLine struct {
	text    []byte
	written chan<- struct{}
}

func newLogQueue(out io.Writer) *logQueue {
	log := slog.New(logHandler(out, slog.LevelInfo))
	q := &logQueue{out: out, lines: make(chan queuedLine, queuedLines)}
	q.left = func(lines int64) {
		log.Warn("lines of this log were left out: they came faster than they were taken", "lines", lines)
	}
	go q.run()
	return q
}

// run writes for as long as the process lives.
func (q *logQueue) run() {
	for l := range q.lines {
		if n := q.lost.Swap(0); n > 0 {
			q.left(n)
		}
		if l.written != nil {
			close(l.written)
			continue
		}
		_, _ = q.out.Write(l.text) // there is nobody to tell
	}
}

// Write takes one record.
func (q *logQueue) Write(record []byte) (int, error) {
	select {
	case q.lines <- queuedLine{text: bytes.Clone(record)}:
	default:
		q.lost.Add(1)
	}
	return len(record), nil
}

// flush reports whether everything was written within its limit.
func (q *logQueue) flush() bool {
	written, late := make(chan struct{}), time.After(flushLimit)
	select {
	case q.lines <- queuedLine{written: written}:
	case <-late:
		return false
	}
	select {
	case <-written:
		return true
	case <-late:
		return false
	}
}

// Fd is for whoever wants to know where the lines go; what is no file has none.
func (q *logQueue) Fd() uintptr {
	if f, ok := q.out.(interface{ Fd() uintptr }); ok {
		return f.Fd()
	}
	return ^uintptr(0)
}
