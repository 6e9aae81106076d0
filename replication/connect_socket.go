package replication

import (
	"context"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/wire"
)

// peerSocket is one TCP connection while the pair is being made.
type peerSocket struct {
	conn     *net.TCPConn
	accepted bool
	watched  chan struct{} // closed when the watch has ended; nil without one
}

func (s *peerSocket) close() {
	s.conn.Close()
	if s.watched != nil {
		<-s.watched
	}
}

// watch calls report once: with nil when the peer has sent something, with an
// error when the connection has ended. unwatch ends it without a report.
func (s *peerSocket) watch(report func(error)) {
	s.watched = make(chan struct{})
	go func() {
		defer close(s.watched)
		if err := s.peek(); err == nil || !isTimeout(err) {
			report(err)
		}
	}()
}

// unwatch ends the watch; after it the socket may be read.
func (s *peerSocket) unwatch() {
	if s.watched == nil {
		return
	}
	s.conn.SetReadDeadline(time.Unix(1, 0))
	<-s.watched
	s.watched = nil
	s.conn.SetReadDeadline(time.Time{})
}

// peek waits until a byte can be read and leaves it there.
func (s *peerSocket) peek() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var one [1]byte
	var n int
	var perr error
	err = raw.Read(func(fd uintptr) bool {
		n, _, perr = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return perr != unix.EAGAIN && perr != unix.EINTR
	})
	switch {
	case err != nil:
		return err
	case perr != nil:
		return perr
	case n == 0:
		return io.EOF
	}
	return nil
}

// alive reports whether the connection has not ended, without waiting.
func (s *peerSocket) alive() bool {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ok = n > 0 || err == unix.EAGAIN
	})
	return err == nil && ok
}

// sendFirst says what the socket is for. Source: docs/drbd-wire.md 4.2.
func (s *peerSocket) sendFirst(kind wire.Cmd, within time.Duration) error {
	s.conn.SetWriteDeadline(time.Now().Add(within))
	defer s.conn.SetWriteDeadline(time.Time{})
	_, err := s.conn.Write(wire.AppendHeader80(nil, wire.Header{Cmd: kind}))
	return err
}

// readFirst reads exactly the first packet of an accepted socket. ok is false
// when it is none, or does not come before the deadline of the socket; got is what was read of it.
func readFirst(conn *net.TCPConn) (kind wire.Cmd, got []byte, ok bool) {
	var b [wire.HeaderLen80]byte
	n, err := io.ReadFull(conn, b[:])
	if err != nil {
		return 0, b[:n], false
	}
	h, err := wire.DecodeHeader80(b[:])
	if err != nil || h.Cmd != wire.CmdInitialData && h.Cmd != wire.CmdInitialMeta {
		return 0, b[:], false
	}
	return h.Cmd, b[:], true
}

// release takes the descriptor out of Go's poller: blocking, because the ring
// answers EAGAIN for a socket that is not, and close-on-exec.
func (s *peerSocket) release() (fd int, err error) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	if cerr != nil {
		return -1, cerr
	}
	if err != nil {
		return -1, err
	}
	s.conn.Close()
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// socketOptions are set before listen and connect. Source: docs/drbd-wire.md 4.6.
type socketOptions struct{ sndbuf, rcvbuf int64 } // bytes, 0 = the kernel's choice

func (o socketOptions) control(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return
		}
		if o.sndbuf > 0 {
			if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, int(o.sndbuf)); err != nil {
				return
			}
		}
		if o.rcvbuf > 0 {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, int(o.rcvbuf))
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// listen opens the node's own address.
func (o socketOptions) listen(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: o.control, KeepAlive: -1}
	lc.SetMultipathTCP(false) // the peer is the kernel's driver or this one: plain TCP
	l, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// dial connects to the peer from the node's own IP and an ephemeral port.
func (o socketOptions) dial(ctx context.Context, from netip.Addr, to netip.AddrPort, within time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{
		Control:   o.control,
		KeepAlive: -1,
		Timeout:   within,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
	}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// isTimeout tells a deadline from the end of a connection.
func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
