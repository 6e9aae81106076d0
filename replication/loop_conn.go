package replication

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk/uring"
)

// connection is the two sockets to the peer, or the search for it. It belongs to the loop.
//
//	idle -> seeking -> up -> flushing -> hanging up -> idle
//	          |  ^ open        close: send the rest,  wait for what is in flight
//	          +--+ close: wait for the connector
type connection struct {
	l     *loop
	phase connPhase
	socks [2]peerIO

	seekers   sync.WaitGroup
	cancel    context.CancelFunc // of the connector
	seek      func(context.Context) (connected, error)
	judge     func(engine.StateChange) // hears how the connection goes on; does not wait
	waiting   bool                     // a close waits for the connector to end
	closeAt   engine.Instant           // end of the linger time
	finishing bool                     // everything was sent; the peer is given the time to close first
}

type connPhase uint8

const (
	connIdle connPhase = iota
	connSeeking
	connUp
	connFlushing  // what is queued is still sent
	connHangingUp // shut down; operations in flight are coming back
)

func (c *connection) init(l *loop, seek func(context.Context) (connected, error), judge func(engine.StateChange)) error {
	c.l, c.seek, c.judge = l, seek, judge
	for s := range c.socks {
		if err := c.socks[s].init(l, engine.Socket(s)); err != nil {
			return err
		}
	}
	return nil
}

// open starts the search for the peer, in a goroutine that posts what it found.
func (c *connection) open(after time.Duration) {
	if c.phase != connIdle {
		panic("replication: a connection is opened before the last one was closed")
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.phase, c.cancel = connSeeking, cancel
	c.seekers.Go(func() {
		var got connected
		var err error
		select {
		case <-time.After(after):
			got, err = c.seek(ctx)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if c.l.post(context.Background(), func() { c.found(got, err) }) != nil && err == nil {
			unix.Close(got.data)
			unix.Close(got.meta)
		}
	})
}

// found takes what the search has brought.
func (c *connection) found(got connected, err error) {
	c.cancel()
	c.phase = connIdle
	if c.l.stopped {
		if err == nil {
			unix.Close(got.data)
			unix.Close(got.meta)
		}
		return
	}
	if c.waiting {
		c.waiting = false
		if err == nil {
			unix.Close(got.data)
			unix.Close(got.meta)
		}
		c.l.engine.ConnClosed(c.l.now())
		return
	}
	if err == nil {
		err = c.adopt(got)
	}
	if err != nil {
		c.l.engine.ConnRefused(c.l.now(), err)
		return
	}
	c.phase = connUp
	c.l.engine.ConnUp(c.l.now(), got.link)
}

func (c *connection) adopt(got connected) error {
	if err := c.socks[engine.DataSock].open(got.data); err != nil {
		unix.Close(got.data)
		unix.Close(got.meta)
		return err
	}
	if err := c.socks[engine.MetaSock].open(got.meta); err != nil {
		c.socks[engine.DataSock].shut()
		unix.Close(got.meta)
		return err
	}
	return nil
}

// close begins the end: of the search, or of the sockets.
func (c *connection) close(linger time.Duration) {
	switch c.phase {
	case connIdle: // the search was refused
		c.l.engine.ConnClosed(c.l.now())
	case connSeeking:
		c.waiting = true
		c.cancel()
	case connUp:
		c.phase, c.finishing = connFlushing, false
		c.closeAt = c.l.now() + linger
	default:
		panic("replication: a connection is closed twice")
	}
}

// trouble reports a dead socket, unless the end has been ordered already.
func (c *connection) trouble(t engine.Trouble, why error) {
	if c.phase == connUp {
		c.l.engine.ConnDown(c.l.now(), t, why)
	}
}

// pump keeps both sockets sending and drives an ordered end on. It reports whether the engine may have more to do.
func (c *connection) pump() (more bool) {
	switch c.phase {
	case connUp:
		for s := range c.socks {
			more = c.socks[s].offer() || more
		}
		for s := range c.socks {
			c.socks[s].send()
		}
	case connFlushing:
		more = c.flush()
	case connHangingUp:
		more = c.hangUp()
	}
	return more
}

// listen keeps both sockets receiving.
func (c *connection) listen() {
	if c.phase == connUp {
		for s := range c.socks {
			c.socks[s].receive()
		}
	}
}

// flush sends the rest, tells the peer that it was the rest, and waits a little for the
// peer to close: closing first, with bytes of the peer unread, would reset the
// connection and with it what the peer has not read yet.
func (c *connection) flush() (moved bool) {
	dead, busy := false, false
	late := c.l.now() >= c.closeAt
	for s := range c.socks {
		p := &c.socks[s]
		if !late && !p.dead {
			moved = p.send() || moved
			p.discard()
		}
		dead = dead || p.dead
		busy = busy || p.sending
	}
	switch {
	case late || dead && !c.finishing, c.finishing && c.socks[0].dead && c.socks[1].dead:
		for s := range c.socks {
			c.socks[s].abort()
		}
		c.phase = connHangingUp
		return true
	case !busy && !c.finishing:
		c.finishing = true
		for s := range c.socks {
			unix.Shutdown(c.socks[s].fd, unix.SHUT_WR)
		}
	}
	return moved
}

// hangUp ends when nothing is in flight on either socket.
func (c *connection) hangUp() bool {
	for s := range c.socks {
		if c.socks[s].busy() {
			return false
		}
	}
	for s := range c.socks {
		c.socks[s].shut()
	}
	c.phase = connIdle
	c.l.engine.ConnClosed(c.l.now())
	return true
}

// end drops whatever there is; the loop has stopped, and the ring is closed next.
func (c *connection) end() {
	if c.cancel != nil {
		c.cancel()
	}
	for s := range c.socks {
		if c.socks[s].fd >= 0 {
			c.socks[s].abort()
		}
	}
}

// closed gives everything back after the ring was closed.
func (c *connection) closed() {
	c.seekers.Wait()
	for s := range c.socks {
		p := &c.socks[s]
		if p.fd >= 0 {
			unix.Close(p.fd)
			p.fd = -1
		}
		uring.UnmapMemory(p.scratch)
	}
}

// deadline is when a lingering end stops waiting; now, if there is something to offer in the next turn.
func (c *connection) deadline() engine.Instant {
	switch {
	case c.phase == connFlushing:
		return c.closeAt
	case c.phase == connUp && (c.socks[engine.DataSock].owes() || c.socks[engine.MetaSock].owes()):
		return c.l.now()
	}
	return engine.Never
}

// died sorts the end of a socket into the engine's terms (docs/drbd-wire.md 15.4).
func (c *connection) died(s engine.Socket, err error) {
	if s == engine.MetaSock {
		c.trouble(engine.NetworkFailure, err)
	} else {
		c.trouble(engine.BrokenPipe, err)
	}
}

var errPeerClosed = errors.New("the peer has closed the connection")
