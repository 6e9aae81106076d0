package sim

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// liar sits on one stream of a connection and has the peer say, once, what it does not say: what comes of that does the
// receiver, and what the receiver answers, the peer that knows nothing of it. The connection ends soon after.
//
// A peer that lies about data, or about what is on its disk, cannot be found out: what a block contains and where it belongs,
// that a write is on its disk, which bits are marked, that a change was granted, that a ping was answered, the name of
// a generation that is adopted. Of these nothing is made up here. Whatever else is said, no node may lose what was acknowledged.
type liar struct {
	st    *stream
	after int      // packets that go through before
	buf   []byte   // of a packet that is not whole yet
	old   [][]byte // small packets that went through
	out   int64    // bytes of whole packets that went through
	lied  bool
	ended bool // nothing more is said
}

// packet is a whole one.
type packet struct {
	wire.Header
	raw  []byte
	body []byte
}

// lies are the kinds of what a liar says.
var lies = []Fault{PacketBroken, PacketTwice, PacketReplayed, PacketCutShort, PacketForeign, PacketMutated}

// lie gives what is said in place of a packet, nil if there is nothing of that kind to say; must reports that the receiver
// has to end the connection when it has taken that.
func (l *liar) lie(f Fault, p packet) (said []byte, must bool) {
	switch f {
	case PacketBroken:
		return l.breakHeader(p)
	case PacketTwice:
		return l.twice(p)
	case PacketReplayed:
		return l.replay(p)
	case PacketCutShort:
		return l.cutShort(p)
	case PacketForeign:
		return l.forge(p)
	}
	return l.mutate(p)
}

// listen puts liars on streams of a new connection, perhaps. The first that lies is the last.
func (l *link) listen(ends ...*end) {
	c := &l.s.cond
	if !c.lies || l.s.healing || c.rng.IntN(8) == 0 {
		return
	}
	for _, e := range ends {
		for _, st := range e.out {
			if c.rng.IntN(3) > 0 {
				st.liar = &liar{st: st, after: c.rng.IntN(pick(c.rng, 2, 8, 40))}
			}
		}
	}
}

// pass takes what a node sends, and gives what its peer gets.
func (l *liar) pass(b []byte) (said []byte) {
	if l.buf = append(l.buf, b...); l.ended {
		l.buf = l.buf[:0]
	}
	for len(l.buf) >= wire.HeaderLen100 && !l.ended {
		h, err := wire.DecodeHeader100(l.buf)
		if err != nil {
			l.st.from.n.s.fail("%s sends a header that does not decode: %v", l.st.from.n.name, err)
		}
		whole := wire.HeaderLen100 + int(h.Length)
		if len(l.buf) < whole {
			break
		}
		p := packet{h, slices.Clone(l.buf[:whole]), nil}
		p.body = p.raw[wire.HeaderLen100:]
		l.buf = l.buf[whole:]
		got := l.say(p)
		l.out += int64(len(got))
		said = append(said, got...)
	}
	return said
}

// say is what is said in place of a packet.
func (l *liar) say(p packet) []byte {
	s := l.st.from.n.s
	if l.after--; l.after < 0 && !l.lied && l.st.from.number != s.link.lied && s.admin.on && !s.admin.parted {
		kind := pick(s.cond.rng, lies...)
		raw := slices.Clone(p.raw)
		if said, must := l.lie(kind, p); said != nil {
			l.note(kind, p, said)
			if must {
				l.st.must = l.out + int64(len(said))
			}
			return said
		}
		p.raw = raw
	}
	if len(p.raw) < 200 && !l.lied {
		l.old = append(l.old, p.raw)
		l.old = l.old[max(0, len(l.old)-16):]
	}
	return p.raw
}

// note counts a lie. Who has not found it out by then is rid of the liar after a while.
func (l *liar) note(f Fault, p packet, said []byte) {
	e, s := l.st.from, l.st.from.n.s
	l.lied = true
	s.counts[f]++
	s.link.lied = e.number
	s.link.misled, s.link.smeared = s.link.misled || says(said, changes...), true
	s.link.slandered = s.link.slandered || says(said, wire.CmdState)
	s.link.invented = append(s.link.invented, e.n.neverHad(said)...)
	show := said[:min(len(said), 80)]
	s.tell("a lie to %s on %v, %v: in place of %v vol %d: % x", e.other.n.name, l.st.sock, f, p.Cmd, p.Volume, show)
	s.after(between(s.cond.rng, pick(s.cond.rng, 5*time.Millisecond, 100*time.Millisecond, time.Second)), func() {
		if e.closed && e.other.closed {
			return
		}
		s.counts[LieNotFound]++
		s.tell("the liar of connection %d goes", e.number)
		e.sever()
	})
}

// judge fails the run if a node goes on with a peer that has to be left.
func (st *stream) judge(used int) {
	to := st.from.other
	if st.taken += int64(used); st.must == 0 || st.taken < st.must || to.closed {
		return
	}
	st.must = 0
	for i := range to.n.s.vols {
		if c := to.n.state(i).Conn; !together.has(c) && c != sm.WFReportParams {
			to.n.s.counts[LieFound]++
			return
		}
	}
	to.n.s.fail("%s goes on with a connection on which what came cannot be: %v", to.n.name, to.n.state(0))
}

// believes reports whether what a node says may come of a lie.
func (n *node) believes() bool { return n.end != nil && n.end.number == n.s.link.lied }

// receiver is the state of the volume that a packet is for, at the node that it goes to.
func (l *liar) receiver(h wire.Header) sm.State {
	return l.st.from.other.n.state(l.st.from.n.s.volumeIndex(int(h.Volume)))
}

// changes are requests for a change of state, and their answers. After a lie about that one node may have been granted, as it thinks, what the other has never
// heard of, or has refused: to be the source of a resync, to go on alone. That outlasts the connection: the one has begun a generation, and so does
// the other when it is promoted.
var changes = []wire.Cmd{wire.CmdStateChgReq, wire.CmdConnStChgReq, wire.CmdStateChgReply, wire.CmdConnStChgReply}

// says reports whether one of the packets is of some kind.
func says(said []byte, kinds ...wire.Cmd) bool {
	for h := range packetsIn(said) {
		if slices.Contains(kinds, h.Cmd) {
			return true
		}
	}
	return false
}

// packetsIn are the packets in some bytes, as far as they go, the last one perhaps without its end.
func packetsIn(said []byte) iter.Seq2[wire.Header, []byte] {
	return func(yield func(wire.Header, []byte) bool) {
		for len(said) >= wire.HeaderLen100 {
			h, err := wire.DecodeHeader100(said)
			if err != nil {
				return
			}
			end := min(len(said), wire.HeaderLen100+int(h.Length))
			if !yield(h, said[wire.HeaderLen100:end]) {
				return
			}
			said = said[end:]
		}
	}
}

// neverHad are the generations that a volume is said to have, and has not: the target of a resync takes such a name over.
func (n *node) neverHad(said []byte) (names []string) {
	for h, body := range packetsIn(said) {
		if h.Cmd != wire.CmdUUIDs || len(body) < 8 || n.eng == nil {
			continue
		}
		g := fmt.Sprintf("%016X", be.Uint64(body))[:15]
		if !slices.ContainsFunc(n.eng.Status().Volumes, func(v engine.VolumeStatus) bool { return strings.HasPrefix(v.UUIDs.String(), g) }) {
			names = append(names, g)
		}
	}
	return names
}

// heeds keeps account of whether a node takes its peer's disk for a bad one because it was told so, and it is not. That outlasts the connection, as long as
// nothing else is known; and a disk that was lost meanwhile is the only good one, by what is on it, when it comes back.
func (n *node) heeds(i int, to sm.State) {
	switch {
	case n.fooled[i] && to.Disk < sm.Inconsistent:
	case to.PeerDisk > sm.Outdated:
		n.fooled[i] = false
	case to.Conn.Established() && n.meets(): // it may believe it longer than the other holds the connection
		n.fooled[i] = n.s.link.slandered && n.believes() && n.peer().state(i).Disk == sm.UpToDate
	}
}

// deceived takes note of a generation that a node begins because of that.
func (n *node) deceived(i int, generation string) {
	if n.fooled[i] {
		n.s.link.invented = append(n.s.link.invented, generation)
	}
}

// beganByLie reports whether a text names such a generation.
func (l *link) beganByLie(text string) bool {
	return slices.ContainsFunc(l.invented, func(g string) bool { return strings.Contains(text, g) })
}

// agree ends what a lie can do: on a later connection both disks of every volume are the same, in name as well, and then without a mark.
func (l *link) agree() {
	e := l.s.nodes[0].end
	if !l.smeared || e == nil || e.number == l.lied || !l.s.admin.allInSync() {
		return
	}
	l.misled, l.slandered, l.invented = false, false, nil
	for _, n := range l.s.nodes {
		for _, v := range n.eng.Status().Volumes {
			if v.OutOfSync > 0 {
				return
			}
		}
	}
	l.smeared = false
}

func (l *liar) rng() *rand.Rand { return l.st.from.n.s.cond.rng }

var be = binary.BigEndian

// breakHeader says what is no packet at all.
func (l *liar) breakHeader(p packet) ([]byte, bool) {
	rng := l.rng()
	switch rng.IntN(5) {
	case 0: // the magic, and the pad
		p.raw[pick(rng, 0, 1, 2, 3, 12, 13, 14, 15)] ^= 1 << rng.IntN(8)
	case 1: // the number
		be.PutUint16(p.raw[6:], pick[uint16](rng, 0x05, 0x06, 0x0a, 0x25, 0x26, 0x3f, 0x40, 0x7fff, 0xfff1, 0xfff2, 0xfffe))
	case 2: // of the other socket, or not served
		cmd := pick(rng, wire.CmdOVRequest, wire.CmdCsumRSRequest, wire.CmdWSame, wire.CmdOVReply, wire.CmdAuthChallenge, wire.CmdAuthResponse, wire.CmdWriteAck, wire.CmdBarrierAck)
		if l.st.sock == 1 {
			cmd = pick(rng, wire.CmdSuperseded, wire.CmdRetryWrite, wire.CmdOVResult, wire.CmdRSIsInSync, wire.CmdData, wire.CmdState, wire.CmdSizes)
		}
		be.PutUint16(p.raw[6:], uint16(cmd))
	case 3: // a length that nothing has
		be.PutUint32(p.raw[8:], pick[uint32](rng, 1<<31-1, 1<<32-1, 8<<20))
	default: // the length of a packet that has only one
		if p.Cmd.MayCarryPayload() || p.Cmd == wire.CmdProtocol {
			return nil, false
		}
		be.PutUint32(p.raw[8:], p.Length+pick[uint32](rng, 1, 4, 8))
		p.raw = append(p.raw, make([]byte, 8)...)
	}
	return p.raw, true
}

// repeatable are the packets that lie about nothing when they come twice: not those whose place says what they are about.
func repeatable(c wire.Cmd) bool {
	switch c {
	case wire.CmdBitmap, wire.CmdCompressedBitmap, wire.CmdPing, wire.CmdPingAck, wire.CmdStateChgReply, wire.CmdConnStChgReply:
		return false
	}
	return true
}

func (l *liar) twice(p packet) ([]byte, bool) {
	if !repeatable(p.Cmd) {
		return nil, false
	}
	return slices.Concat(p.raw, p.raw), false
}

// replay says again what was said before, behind the packet.
func (l *liar) replay(p packet) ([]byte, bool) {
	if len(l.old) == 0 {
		return nil, false
	}
	old := l.old[l.rng().IntN(len(l.old))]
	h, _ := wire.DecodeHeader100(old)
	switch h.Cmd {
	case wire.CmdData, wire.CmdTrim, wire.CmdZeroes, wire.CmdDataReply, wire.CmdRSDataReply, wire.CmdSyncUUID:
		return nil, false // older data, or the name of older data
	case wire.CmdUUIDs:
		if l.receiver(h).Conn >= sm.Connected {
			return nil, false // the same: it may be adopted
		}
	case wire.CmdRSWriteAck, wire.CmdNegAck, wire.CmdWriteAck:
		if be.Uint64(old[wire.HeaderLen100+8:]) == wire.IDSyncer {
			return nil, false // it may have been asked for once more
		}
	}
	if !repeatable(h.Cmd) {
		return nil, false
	}
	return slices.Concat(p.raw, old), h.Cmd == wire.CmdProtocol
}

// cutShort ends the stream within a packet.
func (l *liar) cutShort(p packet) ([]byte, bool) {
	l.ended = true
	l.st.from.n.s.after(0, func() { l.st.send(nil) })
	return p.raw[:1+l.rng().IntN(len(p.raw)-1)], false
}

// forge says something that nobody has asked for, before the packet.
func (l *liar) forge(p packet) ([]byte, bool) {
	to, rng := l.st.from.other.n, l.rng()
	v := l.st.from.n.s.vols[rng.IntN(len(l.st.from.n.s.vols))]
	st := to.state(v.index)
	sector := uint64(rng.Int64N(v.size / sectorSize / 2))
	say := func(cmd wire.Cmd, body []byte, payload int, must bool) ([]byte, bool) {
		b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Volume: uint16(v.number), Length: uint32(len(body) + payload)})
		return slices.Concat(b, body, make([]byte, payload), p.raw), must
	}
	const odd = 3 * sectorSize // nothing that is asked for has that length
	ack := wire.BlockAck{Sector: sector, BlockID: pick(rng, rng.Uint64(), wire.IDSyncer), Size: odd}.Append(nil)
	if l.st.sock == 1 {
		switch rng.IntN(4) {
		case 0:
			return say(wire.CmdBarrierAck, wire.BarrierAck{Number: rng.Uint32(), SetSize: rng.Uint32N(5)}.Append(nil), 0, true)
		case 1:
			cmd := pick(rng, wire.CmdStateChgReply, wire.CmdConnStChgReply)
			return say(cmd, wire.StateChgReply{Code: -rng.Int32N(30)}.Append(nil), 0, len(to.orders) == 0 && st.Role == sm.Secondary)
		default:
			cmd := pick(rng, wire.CmdWriteAck, wire.CmdRSWriteAck, wire.CmdRecvAck, wire.CmdNegAck, wire.CmdNegDReply)
			return say(cmd, ack, 0, true)
		}
	}
	block := wire.BlockData{Sector: sector, BlockID: pick(rng, rng.Uint64(), wire.IDSyncer)}.Append(nil)
	switch rng.IntN(6) {
	case 0:
		return say(pick(rng, wire.CmdDataReply, wire.CmdRSDataReply), block, odd, false)
	case 1:
		if st.Role == sm.Primary { // then the peer may not write
			return say(wire.CmdData, block, odd, true)
		}
		return nil, false
	case 2:
		return say(pick(rng, wire.CmdDataRequest, wire.CmdRSDataRequest, wire.CmdRSThinReq), wire.BlockReq{Sector: sector, BlockID: rng.Uint64(), Size: 4096}.Append(nil), 0, false)
	case 3:
		return say(wire.CmdProtocol, wire.Protocol{Protocol: uint32(rng.IntN(5))}.Append(nil), 0, st.Conn > sm.WFReportParams)
	default:
		c := pick(rng, sm.PromoteChange, sm.ForcedPromoteChange, sm.StartingSyncTChange, sm.StartingSyncSChange, sm.VerifyChange, sm.DetachChange,
			sm.RemoveVolumeChange, sm.DisconnectChange, sm.DisconnectPeerChange, sm.DisconnectSelfChange)
		return say(pick(rng, wire.CmdStateChgReq, wire.CmdStateChgReq, wire.CmdConnStChgReq), wire.StateChgReq{Mask: c.Mask, Val: c.Val}.Append(nil), 0, false)
	}
}
