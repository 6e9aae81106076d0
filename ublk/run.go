package ublk

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/urbd/urbd/ublk/uring"
)

// A Server serves a device on rings and threads of its own, one per queue, for programs that have no ring to bring.
type Server struct {
	dev  *Device
	end  chan struct{} // closed to end the threads
	once sync.Once
	wg   sync.WaitGroup

	mu  sync.Mutex // leaf: guards err
	err error
}

// ListenAndServe starts the device with one thread and ring per queue. handler makes the Handler of a queue; it is called on
// the queue's thread, with its ring. On return the disk is there. Close ends it.
func ListenAndServe(ctx context.Context, d *Device, handler func(queue int, ring *uring.Ring) (Handler, error)) (*Server, error) {
	s := &Server{dev: d, end: make(chan struct{})}
	ready := make(chan error, d.cfg.Queues)
	for i := range d.cfg.Queues {
		s.wg.Go(func() { s.note(s.serve(i, handler, ready)) })
	}
	var err error
	for range d.cfg.Queues {
		err = errors.Join(err, <-ready)
	}
	if err == nil {
		err = d.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

// Close stops the disk, ends the threads and closes their rings. The device is as Create left it; Delete follows. Its error
// includes what went wrong while serving.
func (s *Server) Close(ctx context.Context) error {
	failed := s.dev.Failed()
	err := s.dev.Stop(ctx)
	select {
	case why := <-failed: // nothing when it has just ended
		s.note(why)
	default:
	}
	s.once.Do(func() { close(s.end) })
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.err)
}

func (s *Server) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

// serve is the thread of one queue. It is never unlocked: the thread ends with it, after its ring.
func (s *Server) serve(i int, handler func(int, *uring.Ring) (Handler, error), ready chan<- error) (err error) {
	runtime.LockOSThread()
	cfg := s.dev.RingConfig()
	cfg.Files += 8 // for the handler
	cfg.Buffers += 8
	ring, err := uring.New(cfg)
	if err != nil {
		ready <- err
		return nil
	}
	defer func() { err = errors.Join(err, ring.Close(time.Now().Add(10*time.Second))) }()
	h, err := handler(i, ring)
	if err == nil {
		err = s.dev.ServeQueue(i, ring, h)
	}
	ready <- err
	if err != nil {
		return nil
	}
	over := false
	go func() {
		<-s.end
		ring.Post(func() { over = true })
	}()
	for !over {
		if _, err := ring.Wait(time.Time{}); err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
	}
	return nil
}
