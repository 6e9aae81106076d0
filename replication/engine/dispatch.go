package engine

import (
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// packetVolume is the volume that a packet is for.
func (e *Engine) packetVolume(h wire.Header) (*volume, error) {
	if !e.conn.protocolSeen {
		return nil, protocolErrorf("%v before P_PROTOCOL", h.Cmd)
	}
	if v := e.volume(int(h.Volume)); v != nil {
		return v, nil
	}
	return nil, protocolErrorf("%v for volume %d, which does not exist here", h.Cmd, h.Volume)
}

// dataPacket takes a packet of the data socket that carries no block.
func (e *Engine) dataPacket(h wire.Header, body []byte) error {
	switch h.Cmd {
	case wire.CmdProtocol:
		p, err := wire.DecodeProtocol(body)
		if err != nil {
			return err
		}
		return e.peerProtocol(p)
	case wire.CmdProtocolUpdate:
		return e.protocolUpdate(body)
	case wire.CmdBarrier:
		p, err := wire.DecodeBarrier(body)
		if err == nil {
			e.peerBarrier(p.Number)
		}
		return err
	case wire.CmdConnStChgReq:
		p, err := wire.DecodeStateChgReq(body)
		if err != nil {
			return err
		}
		e.peerAsksAll(sm.Change{Mask: p.Mask, Val: p.Val})
		return nil
	case wire.CmdDelayProbe:
		return nil
	}
	v, err := e.packetVolume(h)
	if err != nil {
		if e.conn.protocolSeen && skippable(h.Cmd) {
			return nil
		}
		return err
	}
	return e.volumePacket(v, h, body)
}

// skippable packets for a volume that does not exist here are skipped: it may
// be created later (wire 2.1).
func skippable(c wire.Cmd) bool {
	return c == wire.CmdSyncParam89 || c == wire.CmdSizes || c == wire.CmdUUIDs || c == wire.CmdState
}

// volumePacket takes a packet for one volume.
func (e *Engine) volumePacket(v *volume, h wire.Header, body []byte) error {
	switch h.Cmd {
	case wire.CmdTrim, wire.CmdZeroes:
		return decoded(body, wire.DecodeTrimBlock, func(p wire.TrimBlock) error { return e.peerZero(v, p) })
	case wire.CmdDataRequest:
		return decoded(body, wire.DecodeBlockReq, func(p wire.BlockReq) error { return e.peerRead(v, serveRead, p) })
	case wire.CmdRSDataRequest, wire.CmdRSThinReq:
		return decoded(body, wire.DecodeBlockReq, func(p wire.BlockReq) error { return e.peerRead(v, serveBlock, p) })
	case wire.CmdUnplugRemote:
		e.hurryEpochs()
		return nil
	case wire.CmdOutOfSync:
		return decoded(body, wire.DecodeBlockDesc, func(p wire.BlockDesc) error { return e.peerOutOfSync(v, p) })
	case wire.CmdBitmap, wire.CmdCompressedBitmap:
		return e.bitmapPacket(v, h, body)
	case wire.CmdSyncParam89:
		return decoded(body, wire.DecodeSyncParam89, func(p wire.SyncParam89) error { return e.peerSyncParam(v, p) })
	case wire.CmdSizes:
		if want := wire.SizesLen(wire.FeatureFlags(e.conn.features)); len(body) != want {
			return protocolErrorf("P_SIZES of %d bytes, the agreed features make it %d", len(body), want)
		}
		return decoded(body, wire.DecodeSizes, func(p wire.Sizes) error { return e.peerSizesReceived(v, p) })
	case wire.CmdUUIDs:
		return decoded(body, wire.DecodeUUIDs, func(p wire.UUIDs) error { return e.peerUUIDsReceived(v, p) })
	case wire.CmdState:
		return decoded(body, wire.DecodeState, func(p wire.State) error { return e.peerState(v, p.Word) })
	case wire.CmdSyncUUID:
		return decoded(body, wire.DecodeSyncUUID, func(p wire.SyncUUID) error { e.syncUUIDReceived(v, p.UUID); return nil })
	case wire.CmdStateChgReq:
		return decoded(body, wire.DecodeStateChgReq, func(p wire.StateChgReq) error {
			e.peerAsks(v, sm.Change{Mask: p.Mask, Val: p.Val})
			return nil
		})
	}
	return protocolErrorf("%v is not served", h.Cmd)
}

// decoded passes a decoded packet on.
func decoded[P any](body []byte, decode func([]byte) (P, error), use func(P) error) error {
	p, err := decode(body)
	if err != nil {
		return err
	}
	return use(p)
}

// protocolUpdate takes P_PROTOCOL_UPDATE: net options of the peer have changed.
// What this node cannot follow ends the connection.
func (e *Engine) protocolUpdate(body []byte) error {
	p, err := wire.DecodeProtocol(body)
	if err != nil {
		return err
	}
	return e.peerProtocol(p)
}

// peerOutOfSync marks what the peer has written alone.
func (e *Engine) peerOutOfSync(v *volume, p wire.BlockDesc) error {
	off, n := int64(p.Sector)*wire.SectorSize, int64(p.Size)
	if !v.inside(off, n) {
		return protocolErrorf("out-of-sync note of %d bytes at %d is outside of the device of %d bytes", n, off, v.size)
	}
	e.mark(v, off, n)
	return nil
}

// metaPacket takes a packet of the meta socket.
func (e *Engine) metaPacket(h wire.Header, body []byte) error {
	switch h.Cmd {
	case wire.CmdPing:
		if q := e.sending(MetaSock); q != nil {
			q.packet(wire.CmdPingAck, 0, 0)
		}
		return nil
	case wire.CmdPingAck:
		e.pingAck()
		return nil
	case wire.CmdBarrierAck:
		return decoded(body, wire.DecodeBarrierAck, e.barrierAck)
	case wire.CmdConnStChgReply:
		return decoded(body, wire.DecodeStateChgReply, func(p wire.StateChgReply) error { e.peerRepliesAll(p.Code); return nil })
	case wire.CmdDelayProbe:
		return nil
	}
	v, err := e.packetVolume(h)
	if err != nil {
		return err
	}
	if h.Cmd == wire.CmdStateChgReply {
		return decoded(body, wire.DecodeStateChgReply, func(p wire.StateChgReply) error { e.peerReplies(v, p.Code); return nil })
	}
	p, err := wire.DecodeBlockAck(body)
	if err != nil {
		return err
	}
	if !v.inside(p.Offset(), int64(p.Size)) {
		return protocolErrorf("%v of %d bytes at %d is outside of the device", h.Cmd, p.Size, p.Offset())
	}
	return e.blockAck(v, h.Cmd, p)
}

// blockAck takes one of the acknowledgements that name a block.
func (e *Engine) blockAck(v *volume, cmd wire.Cmd, p wire.BlockAck) error {
	switch {
	case cmd == wire.CmdNegDReply:
		rd := e.remoteReadOf(v, p.BlockID, p.Sector)
		if rd == nil || rd == e.conn.receiving() {
			return protocolErrorf("P_NEG_DREPLY for sector %d answers no read", p.Sector)
		}
		e.remoteReadEnds(rd, EIO)
		return nil
	case cmd == wire.CmdNegRSDReply || cmd == wire.CmdRSCancel:
		e.resyncRefused(v, p, cmd == wire.CmdNegRSDReply)
		return nil
	case p.BlockID == wire.IDSyncer:
		e.resyncAcked(v, cmd, p)
		return nil
	}
	w := e.writes.find(p.BlockID)
	if w == nil || w.vol != v || wire.SectorOf(w.off) != p.Sector || !w.remote || w.settled {
		if cmd == wire.CmdNegAck {
			v.answeredAlone = true
			e.mark(v, p.Offset(), int64(p.Size))
			return nil
		}
		return protocolErrorf("%v for sector %d answers no write", cmd, p.Sector)
	}
	return e.writeAck(w, cmd)
}

// writeAck takes what the peer says of one write.
func (e *Engine) writeAck(w *write, cmd wire.Cmd) error {
	switch cmd {
	case wire.CmdRecvAck:
		w.acked = w.acked || e.cfg.Net.Protocol == ProtocolB && !w.strict
	case wire.CmdWriteAck:
		w.acked, w.peerOK = true, true
	case wire.CmdRSWriteAck:
		w.acked, w.peerOK, w.synced = true, true, true
	case wire.CmdNegAck:
		w.acked, w.peerOK, w.refused = true, false, true
		w.vol.answeredAlone = w.vol.answeredAlone || w.req == nil
		w.mark(e)
	default:
		return protocolErrorf("%v is not served", cmd)
	}
	w.advance(e)
	return nil
}

// resyncAcked takes the Target's answer to a resync block.
func (e *Engine) resyncAcked(v *volume, cmd wire.Cmd, p wire.BlockAck) {
	current := v.resync.takeServed(p.Offset(), int64(p.Size))
	switch cmd {
	case wire.CmdRSWriteAck, wire.CmdWriteAck:
		if current {
			v.clearOutOfSync(e, p.Offset(), int64(p.Size))
		}
	case wire.CmdNegAck:
		if v.bm != nil {
			v.resync.failed += v.bm.CountRange(p.Offset(), int64(p.Size))
		}
	}
}
