package ublktest

import (
	"fmt"
	"sync"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"
)

// seen is one request as its handler saw it.
type seen struct {
	op       ublk.Op
	flags    ublk.Flags
	off, len int64
}

func (s seen) String() string {
	if s.flags&ublk.FUA != 0 {
		return s.op.String() + "+fua"
	}
	return s.op.String()
}

// watch is the kit's hand between the driver and the handlers of a device.
type watch struct {
	mu     sync.Mutex
	log    []seen
	record bool
	inject func(*ublk.Request) error // an error answers the request instead of the handler
	hold   func(*ublk.Request) bool  // true keeps the request until release
	held   []heldRequest
	remote bool // errors are answered by CompleteRemote from another goroutine
}

type heldRequest struct {
	r *ublk.Request
	w *watched
}

// watched is the handler of one queue under watch.
type watched struct {
	watch *watch
	inner ublk.Handler
	ring  *uring.Ring
}

func (w *watched) Handle(r *ublk.Request) {
	k := w.watch
	k.mu.Lock()
	if k.record {
		k.log = append(k.log, seen{r.Op, r.Flags, r.Off, r.Len})
	}
	inject, hold, remote := k.inject, k.hold, k.remote
	if hold != nil && hold(r) {
		k.held = append(k.held, heldRequest{r, w})
		k.mu.Unlock()
		return
	}
	k.mu.Unlock()
	if inject != nil {
		if err := inject(r); err != nil {
			if remote {
				go r.CompleteRemote(err)
			} else {
				r.Complete(err)
			}
			return
		}
	}
	w.inner.Handle(r)
}

// set changes what the watch does.
func (k *watch) set(f func(*watch)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k)
}

// during records the requests that f causes.
func (k *watch) during(f func()) []seen {
	k.set(func(k *watch) { k.log, k.record = nil, true })
	f()
	var log []seen
	k.set(func(k *watch) { log, k.record = k.log, false })
	return log
}

// waitHeld returns an error until n requests are held.
func (k *watch) waitHeld(n int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.held) < n {
		return fmt.Errorf("%d of %d requests are with the handler", len(k.held), n)
	}
	return nil
}

// release hands the held requests to their handlers, last first, and holds no more.
func (k *watch) release() {
	var held []heldRequest
	k.set(func(k *watch) { held, k.held, k.hold = k.held, nil, nil })
	for i := len(held) - 1; i >= 0; i-- {
		h := held[i]
		if err := h.w.ring.Post(func() { h.w.inner.Handle(h.r) }); err != nil {
			panic("ublktest: a ring is closed under a held request")
		}
	}
}
