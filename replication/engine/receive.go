package engine

import (
	"github.com/urbd/urbd/replication/wire"
)

// maxSmall is the longest packet without a block: a full bitmap packet.
const maxSmall = 4096

// Bounds of what the peer may have under way here without a buffer. They are far
// above what a disk can do at once, or what a change of state owes; TCP keeps the rest.
const (
	maxZeroing    = 4096    // discards and zero-outs
	maxPeerEpochs = 4096    // that are not acknowledged
	maxEffects    = 64      // of a volume, that wait for its superblock
	maxMetaJobs   = 64      // of a volume: superblocks ordered and not durable, and jobs of any kind
	maxAnswers    = 1 << 20 // bytes on meta that are not sent: a peer reads meta whatever it waits for (wire 15.5)
)

// turnPackets is how many packets Receive takes at once, a fraction of a millisecond of work, so that a peer that sends without end leaves
// the application, the disks and the timers their share. No batch of requests comes near it.
const turnPackets = 256

// receiver cuts the bytes of one socket into packets. Blocks go straight to
// their buffer: the owner may even receive into it (PayloadSpace).
type receiver struct {
	sock    wire.Socket
	buf     [wire.HeaderLen100 + maxSmall]byte
	have    int // bytes of the current packet in buf
	h       wire.Header
	headed  bool // h is decoded
	block   block
	inBlock bool
	stalled bool // the block has no buffer yet
}

// block is a payload that is being received.
type block struct {
	dst    []byte // where to, nil: nowhere, the bytes are dropped
	left   int    // bytes still to come
	filled int
	fixed  wire.BlockData
	read   *remoteRead

	unwanted bool // its bytes are dropped
}

// PayloadSpace is where the next bytes of the socket belong, or nil. An owner
// that receives into it reports with PayloadFilled.
func (e *Engine) PayloadSpace(sock Socket) []byte {
	r := &e.conn.recv[sock]
	if !e.hears() || !r.inBlock || r.stalled || r.block.dst == nil {
		return nil
	}
	return r.block.dst[r.block.filled:]
}

// PayloadFilled reports n bytes received into PayloadSpace.
func (e *Engine) PayloadFilled(now Instant, sock Socket, n int) {
	e.at(now)
	r := &e.conn.recv[sock]
	if !e.hears() || n == 0 {
		return
	}
	e.heard(sock)
	r.block.filled += n
	r.block.left -= n
	e.check(sock, e.blockProgress(r))
}

// ReceiveReady reports whether Receive can take bytes. Those that nobody hears it drops, and those of a block that waited for a
// buffer of a disk that is gone.
func (e *Engine) ReceiveReady(sock Socket) bool {
	r := &e.conn.recv[sock]
	switch {
	case !e.hears():
		return true
	case e.behind(r):
		return false
	case r.stalled:
		v := e.volume(int(r.h.Volume))
		return !v.usable() || e.pool.fits(r.block.left) || v.reserve[received].fits(r.block.left)
	}
	return true
}

// behind reports whether the peer sends faster than this node's disks can follow,
// with what needs no buffer: the next packet waits until some of it is done, which
// takes nothing from the peer. Nor is more taken of a peer that does not read the answers.
func (e *Engine) behind(r *receiver) bool {
	if len(e.conn.queue[MetaSock].heads) > maxAnswers {
		return true
	}
	if r.sock != wire.DataSock || r.inBlock {
		return false
	}
	for _, v := range e.vols {
		if v.effects.len() > maxEffects || v.meta.queue.len() > maxMetaJobs || v.meta.issued-v.meta.durable > maxMetaJobs {
			return true
		}
	}
	return e.conn.zeroing >= maxZeroing || e.conn.in.open.len() > maxPeerEpochs
}

// Receive takes the next bytes of a socket and returns how many were used:
// fewer than all if a block has to wait for a buffer, the disks are behind, or turnPackets were taken.
// The rest is to be offered again when ReceiveReady says so, after everybody else has had a turn. b is not kept.
func (e *Engine) Receive(now Instant, sock Socket, b []byte) (used int) {
	e.at(now)
	if !e.hears() {
		return len(b)
	}
	e.heard(sock)
	r := &e.conn.recv[sock]
	for packets := 0; used < len(b) && packets < turnPackets || r.stalled; {
		if !e.hears() {
			return len(b)
		}
		if r.stalled {
			if !e.startBlock(r) {
				return used
			}
			continue
		}
		if e.behind(r) {
			return used
		}
		n, err := e.consume(r, b[used:])
		used += n
		if !r.headed && !r.inBlock {
			packets++
		}
		if err != nil {
			e.check(sock, err)
			return len(b)
		}
	}
	return used
}

// consume takes one step: a header, a fixed part, or bytes of a block.
func (e *Engine) consume(r *receiver, b []byte) (int, error) {
	if r.inBlock {
		n := min(len(b), r.block.left)
		if r.block.dst != nil {
			copy(r.block.dst[r.block.filled:], b[:n])
		}
		r.block.filled += n
		r.block.left -= n
		return n, e.blockProgress(r)
	}
	need := wire.HeaderLen100
	if r.headed {
		need += r.smallLen()
	}
	p, n := r.collect(b, need)
	if p == nil {
		return n, nil
	}
	if !r.headed {
		if err := r.header(p); err != nil || r.smallLen() > 0 {
			return n, err
		}
	}
	r.headed, r.have = false, 0
	return n, e.packet(r, p[wire.HeaderLen100:])
}

// collect gathers the first need bytes of the current packet in buf and returns
// them when they are there, with the number of bytes of b that it took.
func (r *receiver) collect(b []byte, need int) ([]byte, int) {
	n := copy(r.buf[r.have:need], b)
	r.have += n
	if r.have < need {
		return nil, n
	}
	return r.buf[:need], n
}

func (r *receiver) header(p []byte) error {
	h, err := wire.DecodeHeader100(p)
	if err == nil {
		err = wire.CheckLength(r.sock, h)
	}
	r.h, r.headed = h, err == nil
	return err
}

// smallLen is the part of the packet that is collected: all of it, or the fixed
// part of those that carry a block.
func (r *receiver) smallLen() int {
	switch r.h.Cmd {
	case wire.CmdData, wire.CmdDataReply, wire.CmdRSDataReply:
		return dataFixed
	}
	return int(r.h.Length)
}

// packet takes a packet that is complete up to its block.
func (e *Engine) packet(r *receiver, body []byte) error {
	switch r.h.Cmd {
	case wire.CmdData, wire.CmdDataReply, wire.CmdRSDataReply:
		return e.blockHead(r, body)
	}
	if r.sock == wire.MetaSock {
		return e.metaPacket(r.h, body)
	}
	return e.dataPacket(r.h, body)
}

// blockHead decodes the fixed part and finds a place for the block.
func (e *Engine) blockHead(r *receiver, body []byte) error {
	p, err := wire.DecodeBlockData(body)
	if err != nil {
		return err
	}
	n, err := wire.BlockLen(r.h, 0)
	if err != nil {
		return err
	}
	v, err := e.packetVolume(r.h)
	if err != nil {
		return err
	}
	if !v.inside(p.Offset(), int64(n)) {
		return protocolErrorf("%v of %d bytes at %d is outside of the device of %d bytes", r.h.Cmd, n, p.Offset(), v.size)
	}
	if r.h.Cmd == wire.CmdData {
		if err := v.aligned(p.Offset(), int64(n)); err != nil {
			return err
		}
	}
	got, read, err := e.admitBlock(v, r.h.Cmd, p, int64(n))
	if err != nil {
		return err
	}
	if read != nil {
		r.inBlock, r.block = true, block{dst: read.req.Data[:n], left: n, fixed: p, read: read}
		return nil
	}
	r.inBlock, r.block = true, block{left: n, fixed: p, unwanted: got != take}
	if e.startBlock(r); r.stalled {
		return nil
	}
	return e.blockProgress(r)
}

// admitBlock is admitPacket for a packet with a block; with the read that it answers, if it is that.
func (e *Engine) admitBlock(v *volume, cmd wire.Cmd, p wire.BlockData, n int64) (got verdict, read *remoteRead, err error) {
	what := nothing
	switch cmd {
	case wire.CmdDataReply:
		if read = e.remoteReadOf(v, p.BlockID, p.Sector); read != nil && n == read.req.Len {
			what = asked
		}
	case wire.CmdRSDataReply:
		what = v.resync.awaits(p.Offset(), n, p.BlockID)
	}
	got, err = e.admitPacket(v, cmd, what)
	return got, read, err
}

// startBlock gives the block its buffer, or leaves it stalled without one. A
// block that cannot be written is dropped as it comes.
func (e *Engine) startBlock(r *receiver) bool {
	v := e.volume(int(r.h.Volume))
	n := r.block.left
	if n > 0 && v.usable() && !r.block.unwanted {
		r.block.dst = e.buffer(v, received, n)
		if r.stalled = r.block.dst == nil; r.stalled {
			return false
		}
	}
	r.stalled = false
	return true
}

// blockProgress hands a complete block over.
func (e *Engine) blockProgress(r *receiver) error {
	if r.block.left > 0 {
		return nil
	}
	b := r.block
	r.inBlock, r.block = false, block{}
	v := e.volume(int(r.h.Volume))
	switch r.h.Cmd {
	case wire.CmdData:
		return e.peerData(v, b)
	case wire.CmdDataReply:
		e.remoteReadEnds(b.read, OK)
		return nil
	default:
		return e.resyncData(v, b)
	}
}

// inside reports whether a range lies on the exported device.
func (v *volume) inside(off, n int64) bool {
	return off >= 0 && n >= 0 && off <= v.size-n
}

// reset forgets what was received, and gives back the buffer of a block that never became whole.
func (r *receiver) reset(e *Engine) {
	if r.inBlock && r.block.dst != nil && r.block.read == nil {
		e.giveBuffer(e.volume(int(r.h.Volume)), r.block.dst)
	}
	r.have, r.headed, r.inBlock, r.stalled, r.block = 0, false, false, false, block{}
}
