package replication

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk/uring"
)

const (
	scratchSize = 256 << 10 // bytes received at once beside a payload
	maxIovecs   = 1024      // of one sendmsg, fixed by the kernel (UIO_MAXIOV)
)

// peerIO is one socket to the peer: at most one receive and one send in flight.
//
// A receive in the middle of a payload has two vectors: the place where the engine wants the rest, so that blocks are not
// copied, and scratch memory for what comes behind it.
type peerIO struct {
	l    *loop
	sock engine.Socket
	fd   int
	file uring.File
	dead bool

	receiving bool
	payload   int // bytes of the first vector in flight
	recvIov   [2]unix.Iovec
	recvMsg   unix.Msghdr
	emptied   bool // the last receive has left nothing in the socket
	scratch   []byte
	pending   []byte // of scratch, what the engine has not taken
	offered   int64  // the last turn in which it was given of that

	sending bool
	segs    []engine.Segment // the engine's, until Sent
	seg     int              // first segment that is not sent whole
	sent    int              // bytes of it that are
	sendIov []unix.Iovec
	sendMsg unix.Msghdr
}

// Operations of a socket, the arg of their completions.
const (
	opReceive uint64 = iota
	opSend
)

func (p *peerIO) init(l *loop, sock engine.Socket) (err error) {
	p.l, p.sock, p.fd = l, sock, -1
	p.sendIov = make([]unix.Iovec, 0, maxIovecs)
	p.scratch, err = uring.MapMemory(scratchSize)
	return err
}

// open takes a connected, blocking socket.
func (p *peerIO) open(fd int) (err error) {
	p.file, err = p.l.ring.AddFile(fd)
	if err == nil {
		p.fd, p.dead, p.emptied, p.pending = fd, false, false, nil
	}
	return err
}

// busy reports whether an operation is in flight.
func (p *peerIO) busy() bool { return p.receiving || p.sending }

// abort ends what is in flight, soon.
func (p *peerIO) abort() {
	unix.Shutdown(p.fd, unix.SHUT_RDWR)
	if p.busy() {
		p.l.ring.CancelFile(p.file)
	}
}

// shut closes the socket; nothing is in flight.
func (p *peerIO) shut() {
	p.l.ring.RemoveFile(p.file)
	unix.Close(p.fd)
	p.fd, p.segs, p.pending = -1, nil, nil
}

// receive starts a receive unless one is in flight or the engine is behind.
func (p *peerIO) receive() {
	if p.receiving || p.dead || len(p.pending) > 0 {
		return
	}
	place := p.l.engine.PayloadSpace(p.sock)
	p.payload = len(place)
	p.startReceive(place)
}

// discard receives for nobody: only the end of the stream matters.
func (p *peerIO) discard() {
	if p.receiving || p.dead {
		return
	}
	p.pending, p.payload = nil, 0
	p.startReceive(nil)
}

func (p *peerIO) startReceive(place []byte) {
	var op uring.Op
	if len(place) == 0 {
		op = uring.Recv(p.file, p.scratch, 0)
	} else {
		vector(&p.recvIov[0], place)
		vector(&p.recvIov[1], p.scratch)
		p.recvMsg = unix.Msghdr{Iov: &p.recvIov[0]}
		p.recvMsg.SetIovlen(len(p.recvIov))
		op = uring.Recvmsg(p.file, &p.recvMsg, 0)
	}
	if p.emptied {
		op.Prio |= uring.PollFirst // an attempt now would find nothing
	}
	p.receiving = true
	p.l.ring.Prep(op, p, opReceive)
}

func vector(v *unix.Iovec, b []byte) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
}

// offer gives the engine what it has left, once a turn: everybody else has one before the next.
func (p *peerIO) offer() bool {
	if p.offered == p.l.turns || !p.owes() {
		return false
	}
	p.offered = p.l.turns
	used := p.l.engine.Receive(p.l.now(), p.sock, p.pending)
	p.pending = p.pending[used:]
	return used > 0
}

// owes reports whether the engine can take of what it has left.
func (p *peerIO) owes() bool {
	return len(p.pending) > 0 && !p.receiving && p.l.engine.ReceiveReady(p.sock)
}

// send starts a send of everything that is queued. It reports whether it did.
func (p *peerIO) send() bool {
	if p.sending || p.dead {
		return false
	}
	segs := p.l.engine.NextSend(p.sock)
	if segs == nil {
		return false
	}
	p.segs, p.seg, p.sent = segs, 0, 0
	p.startSend()
	return true
}

// startSend sends what is left of the segments, as much as one message takes.
func (p *peerIO) startSend() {
	p.sendIov = p.sendIov[:0]
	skip := p.sent
	for i := p.seg; i < len(p.segs) && len(p.sendIov)+2 <= maxIovecs; i++ {
		for _, b := range [2][]byte{p.segs[i].Head, p.segs[i].Body} {
			if skip >= len(b) {
				skip -= len(b)
				continue
			}
			p.sendIov = p.sendIov[:len(p.sendIov)+1]
			vector(&p.sendIov[len(p.sendIov)-1], b[skip:])
			skip = 0
		}
	}
	p.sending = true
	if len(p.sendIov) == 1 {
		b := unsafe.Slice(p.sendIov[0].Base, p.sendIov[0].Len)
		p.l.ring.Prep(uring.Send(p.file, b, unix.MSG_WAITALL), p, opSend)
		return
	}
	p.sendMsg = unix.Msghdr{Iov: unsafe.SliceData(p.sendIov)}
	p.sendMsg.SetIovlen(len(p.sendIov))
	p.l.ring.Prep(uring.Sendmsg(p.file, &p.sendMsg, unix.MSG_WAITALL), p, opSend)
}

// Complete gets the end of a receive or a send.
func (p *peerIO) Complete(op uint64, res int32, flags uint32) {
	if op == opSend {
		p.sentSome(res)
		return
	}
	p.receiving, p.emptied = false, flags&uring.SockNonEmpty == 0
	switch {
	case res == -int32(unix.EINTR) || res == -int32(unix.EAGAIN): // the next pump starts it again
	case res == 0:
		p.dead = true
		p.l.conn.died(p.sock, errPeerClosed)
	case res < 0:
		p.dead = true
		p.l.conn.died(p.sock, unix.Errno(-res))
	default:
		p.received(int(res))
	}
}

func (p *peerIO) received(n int) {
	if p.l.conn.phase != connUp {
		return
	}
	direct := min(n, p.payload)
	if direct > 0 {
		p.l.engine.PayloadFilled(p.l.now(), p.sock, direct)
	}
	if b := p.scratch[:n-direct]; len(b) > 0 {
		p.pending = b[p.l.engine.Receive(p.l.now(), p.sock, b):]
	}
}

// sentSome moves the cursor; the rest of a short send goes on.
func (p *peerIO) sentSome(res int32) {
	switch {
	case res == -int32(unix.EINTR) || res == -int32(unix.EAGAIN):
		if p.l.conn.phase != connHangingUp {
			p.startSend()
			return
		}
		p.sending = false
		return
	case res < 0:
		p.sending, p.dead = false, true
		p.l.conn.died(p.sock, unix.Errno(-res))
		return
	}
	p.sent += int(res)
	for p.seg < len(p.segs) {
		n := len(p.segs[p.seg].Head) + len(p.segs[p.seg].Body)
		if p.sent < n {
			if p.l.conn.phase != connHangingUp {
				p.startSend()
			} else {
				p.sending = false
			}
			return
		}
		p.sent -= n
		p.seg++
	}
	p.sending, p.segs = false, nil
	p.l.engine.Sent(p.l.now(), p.sock)
}
