package sim

import (
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// mutate changes the body of a packet, where that is no lie about data: see liar.
func (l *liar) mutate(p packet) ([]byte, bool) {
	how := mutations[p.Cmd]
	if how == nil {
		return nil, false
	}
	ok, must := how(l, p)
	if !ok {
		return nil, false
	}
	return p.raw, must
}

// mutation changes the body in place. must says that the receiver has to find out.
type mutation func(l *liar, p packet) (ok, must bool)

var mutations = map[wire.Cmd]mutation{
	wire.CmdData: block, wire.CmdTrim: block, wire.CmdZeroes: block, wire.CmdDataReply: block, wire.CmdRSDataReply: block,
	wire.CmdWriteAck: ack, wire.CmdRSWriteAck: ack, wire.CmdRecvAck: ack, wire.CmdNegAck: ack, wire.CmdNegDReply: ack, wire.CmdNegRSDReply: ack,
	wire.CmdRSCancel: ack, wire.CmdDataRequest: request, wire.CmdRSDataRequest: request, wire.CmdRSThinReq: request,
	wire.CmdOutOfSync: note, wire.CmdBarrier: anyBit(0, 4), wire.CmdBarrierAck: barrierAck, wire.CmdState: anyBit(0, 4), wire.CmdStateChgReq: anyBit(0, 8),
	wire.CmdConnStChgReq: anyBit(0, 8), wire.CmdStateChgReply: refusal, wire.CmdConnStChgReply: refusal, wire.CmdProtocol: anyBit(0, 24),
	wire.CmdSyncParam89: anyBit(0, 148), wire.CmdSizes: sizes, wire.CmdUUIDs: generation, wire.CmdCompressedBitmap: encoding,
}

// anyBit flips bits between two bytes.
func anyBit(from, to int) mutation {
	return func(l *liar, p packet) (bool, bool) {
		for range 1 + l.rng().IntN(3) {
			p.body[from+l.rng().IntN(to-from)] ^= 1 << l.rng().IntN(8)
		}
		return true, false
	}
}

const far = 1 << 5 // in the first byte but one of a sector: beyond any device

// block has the packet be about what is not on the device, or not whole sectors.
func block(l *liar, p packet) (bool, bool) {
	p.body[1] ^= far
	return true, true
}

// ack names what the receiver does not wait for.
func ack(l *liar, p packet) (bool, bool) {
	if l.rng().IntN(2) == 0 {
		p.body[1] ^= far
		return true, true
	}
	be.PutUint64(p.body[8:], l.rng().Uint64())
	return true, p.Cmd != wire.CmdRSCancel && p.Cmd != wire.CmdNegRSDReply
}

// request asks for what cannot be asked for.
func request(l *liar, p packet) (bool, bool) {
	if l.rng().IntN(2) == 0 {
		p.body[1] ^= far
	} else {
		be.PutUint32(p.body[16:], pick[uint32](l.rng(), 0, 1, 513, 2<<20, 1<<31))
	}
	return true, true
}

func note(l *liar, p packet) (bool, bool) {
	p.body[1] ^= far
	return true, true
}

func barrierAck(l *liar, p packet) (bool, bool) {
	p.body[l.rng().IntN(8)] ^= 1 << l.rng().IntN(8)
	return true, true
}

// refusal has a request refused, in known words or not.
func refusal(l *liar, p packet) (bool, bool) {
	be.PutUint32(p.body, uint32(-l.rng().Int32N(30)))
	return true, false
}

// sizes has the peer's disk be too small for a node that has data.
func sizes(l *liar, p packet) (bool, bool) {
	st := l.receiver(p.Header)
	if st.Disk < sm.Outdated || st.Disk == sm.DUnknown || be.Uint64(p.body) == 0 {
		return false, false
	}
	be.PutUint64(p.body, uint64(1+l.rng().Int64N(1000)))
	return true, st.Disk == sm.UpToDate
}

// generation is one that nobody knows, where nobody goes by it yet.
func generation(l *liar, p packet) (bool, bool) {
	if l.receiver(p.Header).Conn >= sm.Connected {
		return false, false
	}
	be.PutUint64(p.body[8*l.rng().IntN(4):], l.rng().Uint64())
	return true, false
}

// encoding of a bitmap that does not exist. Who waits for none does not look.
func encoding(l *liar, p packet) (bool, bool) {
	p.body[0] ^= 0x0d
	st := l.receiver(p.Header)
	return true, st.Disk.Usable() && (st.Conn == sm.WFBitMapS || st.Conn == sm.WFBitMapT)
}
