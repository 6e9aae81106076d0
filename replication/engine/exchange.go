package engine

import (
	"time"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// exchangeAhead is how much of a bitmap may wait in the send queue, in bytes.
const exchangeAhead = 256 << 10

// leastBitmapRate is how fast the bitmaps go from node to node, at least, in bytes a second: an eighth of a link of 1 Mbit/s, which other volumes use,
// too. At that rate the two bitmaps of 64 GiB, 4 MiB, take four minutes at most.
const leastBitmapRate = 16 << 10

// exchange is the bitmap exchange of one volume. The Source sends first, the
// Target merges and sends the union back (wire 10.2).
type exchange struct {
	sender  *bitmap.Sender
	merger  *bitmap.Merger
	wanted  bool // the own bitmap is to be sent as soon as no write is in flight
	ownSent bool // in this state
	peerGot bool // the peer's arrived whole, in this state

	from   Instant // when the volume's exchange began
	before int64   // conn.bitmapBytes at that time
}

func (x *exchange) reset() { *x = exchange{} }

// exchangeEnd is when the exchange of a volume has to be over. Writes are held for as long as it goes on, so a packet within each limit is not
// enough: the nodes get the limit once in each direction, for what they do before they send, and the time that what has come and gone may take. That counts up to
// the size of both bitmaps of every volume, because they share the socket.
func (e *Engine) exchangeEnd(v *volume, limit time.Duration) Instant {
	most := int64(0)
	for _, o := range e.vols {
		most += 2 * o.size / (8 * bitmap.BlockSize)
	}
	moved := min(e.conn.bitmapBytes-v.exchange.before, most)
	return v.exchange.from + 2*limit + time.Duration(moved)*(time.Second/leastBitmapRate)
}

// slowExchange is when the first of the exchanges that run has to be over, Never if none does.
func (e *Engine) slowExchange(limit time.Duration) Instant {
	at := Never
	for _, v := range e.vols {
		if v.state.Conn.BitmapExchange() {
			at = min(at, e.exchangeEnd(v, limit))
		}
	}
	return at
}

// wantBitmap sends the whole bitmap when nothing is in flight that may still change it. An exchange that was given up meanwhile, because
// a disk has gone, has no use for it, and the next one is not to take it for its own.
func (e *Engine) wantBitmap(v *volume) {
	if !v.state.Conn.BitmapExchange() {
		return
	}
	v.exchange.wanted, e.conn.bitmapAt = true, e.now
	e.startBitmap(v)
}

func (e *Engine) startBitmap(v *volume) {
	x := &v.exchange
	if !x.wanted || v.activeWrites > 0 || v.bm == nil || v.fullSync {
		return
	}
	x.wanted = false
	x.sender = bitmap.NewSender(v.bm, !e.cfg.Net.NoRLE)
	e.sendBitmap(v)
}

// sendBitmap queues packets of the bitmap until enough is waiting.
func (e *Engine) sendBitmap(v *volume) {
	x, q := &v.exchange, &e.conn.queue[DataSock]
	var buf [wire.MaxBitmap]byte
	for x.sender != nil && len(q.heads) < exchangeAhead {
		n, compressed, done := x.sender.Next(buf[:])
		cmd := wire.CmdBitmap
		if compressed {
			cmd = wire.CmdCompressedBitmap
		}
		q.packet(cmd, v.number, n)
		q.heads = append(q.heads, buf[:n]...)
		e.bitmapMoved(n)
		if done {
			x.sender = nil
			e.bitmapSent(v)
		}
	}
}

// bitmapMoved notes that a packet of a bitmap was queued, or has come.
func (e *Engine) bitmapMoved(n int) {
	e.conn.bitmapAt = e.now
	e.conn.bitmapBytes += int64(n)
}

func (e *Engine) bitmapSent(v *volume) {
	x := &v.exchange
	x.ownSent = true
	e.step(v, sm.OwnBitmapSent{PeerReceived: x.peerGot}, "own bitmap sent")
}

func (e *Engine) bitmapReceived(v *volume) {
	x := &v.exchange
	x.peerGot = true
	e.step(v, sm.PeerBitmap{OwnSent: x.ownSent}, "peer's bitmap received")
}

// bitmapPacket merges a packet of the peer's bitmap. One that comes when none is exchanged is
// dropped: the exchange was given up here, because a disk has gone, and the peer
// does not know it yet.
func (e *Engine) bitmapPacket(v *volume, h wire.Header, body []byte) (err error) {
	if v.bm == nil {
		return protocolErrorf("a bitmap for volume %d, which has no disk here", v.number)
	}
	if c := v.state.Conn; c != sm.WFBitMapS && c != sm.WFBitMapT {
		return nil
	}
	x := &v.exchange
	if x.merger == nil {
		x.merger = bitmap.NewMerger(v.bm)
	}
	e.bitmapMoved(len(body))
	done := false
	if h.Cmd == wire.CmdBitmap {
		done, err = x.merger.Plain(body)
	} else {
		done, err = x.merger.Compressed(body)
	}
	if done {
		x.merger = nil
		e.bitmapReceived(v)
	}
	return err
}
