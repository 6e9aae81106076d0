package ublk

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// A Backend is what a blocking handler serves. ReadAt and WriteAt follow the rules of package io: fewer bytes come with an
// error. They are called from several goroutines at once. Optional abilities are Flusher, Discarder and Zeroer; a request
// that needs a missing one fails with EOPNOTSUPP.
type Backend interface {
	io.ReaderAt
	io.WriterAt
}

// A Flusher makes everything written before durable.
type Flusher interface{ Flush() error }

// A Discarder forgets n bytes at off.
type Discarder interface{ Discard(off, n int64) error }

// A Zeroer makes n bytes at off read as zeroes; with unmap it may give their space back.
type Zeroer interface {
	WriteZeroes(off, n int64, unmap bool) error
}

// Blocking is a Handler over a Backend that takes its time: requests wait in a list for one of a fixed number of
// goroutines. It serves every Mode, costs two changes of thread per request, and is meant for simple and for
// slow backends.
type Blocking struct {
	backend Backend
	wg      sync.WaitGroup

	mu          sync.Mutex // leaf: guards the list
	some        sync.Cond
	first, last *Request
	closed      bool
}

// NewBlocking starts the goroutines. Close ends them.
func NewBlocking(b Backend, workers int) *Blocking {
	h := &Blocking{backend: b}
	h.some.L = &h.mu
	for range max(workers, 1) {
		h.wg.Go(h.work)
	}
	return h
}

// Handle implements Handler.
func (h *Blocking) Handle(r *Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.next = nil
	if h.last == nil {
		h.first = r
	} else {
		h.last.next = r
	}
	h.last = r
	h.some.Signal()
}

// Close ends the goroutines after the requests they have. Stop the device first: what arrives later is never answered.
func (h *Blocking) Close() {
	h.mu.Lock()
	h.closed = true
	h.some.Broadcast()
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *Blocking) take() *Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.first == nil && !h.closed {
		h.some.Wait()
	}
	r := h.first
	if r != nil {
		if h.first = r.next; h.first == nil {
			h.last = nil
		}
	}
	return r
}

func (h *Blocking) work() {
	var private []byte // data of requests that have no bytes of their own
	for r := h.take(); r != nil; r = h.take() {
		p := r.Bytes()
		if p == nil && r.hasData() {
			if int64(cap(private)) < r.Len {
				private = make([]byte, r.Len)
			}
			p = private[:r.Len]
		}
		r.CompleteRemote(h.do(r, p))
	}
}

// do executes one request with its data in p.
func (h *Blocking) do(r *Request, p []byte) error {
	switch r.Op {
	case OpRead:
		n, err := h.backend.ReadAt(p, r.Off)
		if n < len(p) {
			return fmt.Errorf("read: %d of %d bytes: %w", n, len(p), notNil(err, io.ErrUnexpectedEOF))
		}
		return r.giveBack(p)
	case OpWrite:
		if err := r.fetchInto(p); err != nil {
			return err
		}
		if n, err := h.backend.WriteAt(p, r.Off); err != nil || n < len(p) {
			return fmt.Errorf("write: %d of %d bytes: %w", n, len(p), notNil(err, io.ErrShortWrite))
		}
		if r.Flags&FUA != 0 {
			return h.flush()
		}
		return nil
	case OpFlush:
		return h.flush()
	case OpDiscard:
		if d, ok := h.backend.(Discarder); ok {
			return d.Discard(r.Off, r.Len)
		}
	case OpWriteZeroes:
		if z, ok := h.backend.(Zeroer); ok {
			return z.WriteZeroes(r.Off, r.Len, r.Flags&NoUnmap == 0)
		}
	}
	return fmt.Errorf("%v: %w", r.Op, errors.ErrUnsupported)
}

func (h *Blocking) flush() error {
	if f, ok := h.backend.(Flusher); ok {
		return f.Flush()
	}
	return fmt.Errorf("flush: %w", errors.ErrUnsupported)
}

func notNil(err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	return err
}

// fetchInto brings the data of a write into p, unless it lies there.
func (r *Request) fetchInto(p []byte) error {
	if r.Bytes() != nil {
		return nil
	}
	return r.CopyOut(p, 0)
}

// giveBack hands p to a read, unless it lies there.
func (r *Request) giveBack(p []byte) error {
	if r.Bytes() != nil {
		return nil
	}
	return r.CopyIn(p, 0)
}
