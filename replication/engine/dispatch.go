package engine

import (
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// packetVolume is the volume that a packet is for.
func (e *Engine) packetVolume(h wire.Header) (*volume, error) {
	if v := e.volume(int(h.Volume)); v != nil {
		return v, nil
	}
	return nil, protocolErrorf("%v for volume %d, which does not exist here", h.Cmd, h.Volume)
}

// dataPacket takes a packet of the data socket that carries no block.
func (e *Engine) dataPacket(h wire.Header, body []byte) error {
	switch h.Cmd {
	case wire.CmdProtocol, wire.CmdProtocolUpdate, wire.CmdBarrier, wire.CmdConnStChgReq, wire.CmdDelayProbe:
		if err := e.admitConn(h.Cmd, nothing); err != nil {
			return err
		}
		return e.connPacket(h, body)
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

// connPacket takes a packet of the data socket that is for the connection.
func (e *Engine) connPacket(h wire.Header, body []byte) error {
	switch h.Cmd {
	case wire.CmdProtocol, wire.CmdProtocolUpdate:
		return decoded(body, wire.DecodeProtocol, e.peerProtocol)
	case wire.CmdBarrier:
		return decoded(body, wire.DecodeBarrier, func(p wire.Barrier) error { e.peerBarrier(p.Number); return nil })
	case wire.CmdConnStChgReq:
		return decoded(body, wire.DecodeStateChgReq, func(p wire.StateChgReq) error {
			e.peerAsksAll(sm.Change{Mask: p.Mask, Val: p.Val})
			return nil
		})
	}
	return nil // P_DELAY_PROBE
}

// skippable packets for a volume that does not exist here are skipped: it may
// be created later (wire 2.1).
func skippable(c wire.Cmd) bool {
	return c == wire.CmdSyncParam89 || c == wire.CmdSizes || c == wire.CmdUUIDs || c == wire.CmdState
}

// volumePacket takes a packet for one volume.
func (e *Engine) volumePacket(v *volume, h wire.Header, body []byte) error {
	what := nothing
	switch h.Cmd {
	case wire.CmdStateChgReq:
		return decoded(body, wire.DecodeStateChgReq, func(p wire.StateChgReq) error {
			return e.peerAsks(v, sm.Change{Mask: p.Mask, Val: p.Val})
		})
	case wire.CmdBitmap, wire.CmdCompressedBitmap:
		if !v.exchange.peerGot {
			what = asked
		}
	case wire.CmdSyncUUID:
		if v.request != nil && v.request.change == sm.StartingSyncTChange {
			what = asked
		}
	}
	got, err := e.admitPacket(v, h.Cmd, what)
	if err != nil || got == drop {
		return err
	}
	switch h.Cmd {
	case wire.CmdTrim, wire.CmdZeroes:
		return decoded(body, wire.DecodeTrimBlock, func(p wire.TrimBlock) error { return e.peerZero(v, got, p) })
	case wire.CmdDataRequest:
		return decoded(body, wire.DecodeBlockReq, func(p wire.BlockReq) error { return e.peerRead(v, got, serveRead, p) })
	case wire.CmdRSDataRequest, wire.CmdRSThinReq:
		return decoded(body, wire.DecodeBlockReq, func(p wire.BlockReq) error { return e.peerRead(v, got, serveBlock, p) })
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
	case wire.CmdPing, wire.CmdPingAck, wire.CmdDelayProbe:
		what := nothing
		if e.conn.pongs < e.conn.pings {
			what = asked
		}
		if err := e.admitConn(h.Cmd, what); err != nil {
			return err
		}
		e.pingPacket(h.Cmd)
		return nil
	case wire.CmdBarrierAck:
		return decoded(body, wire.DecodeBarrierAck, e.barrierAck)
	case wire.CmdConnStChgReply:
		if err := e.admitConn(h.Cmd, e.conn.replies.take()); err != nil {
			return err
		}
		return decoded(body, wire.DecodeStateChgReply, func(p wire.StateChgReply) error { e.peerRepliesAll(p.Code); return nil })
	}
	v, err := e.packetVolume(h)
	if err != nil {
		return err
	}
	if h.Cmd == wire.CmdStateChgReply {
		if _, err := e.admitPacket(v, h.Cmd, v.replies.take()); err != nil {
			return err
		}
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

func (e *Engine) pingPacket(cmd wire.Cmd) {
	switch cmd {
	case wire.CmdPing:
		e.conn.queue[MetaSock].packet(wire.CmdPingAck, 0, 0)
	case wire.CmdPingAck:
		e.pingAck()
	}
}

// due counts answers that the peer owes.
type due int

// take takes one.
func (n *due) take() outstanding {
	if *n == 0 {
		return nothing
	}
	*n--
	return asked
}

// blockAck takes one of the acknowledgements that name a block.
func (e *Engine) blockAck(v *volume, cmd wire.Cmd, p wire.BlockAck) error {
	switch cmd {
	case wire.CmdNegDReply:
		rd := e.remoteReadOf(v, p.BlockID, p.Sector)
		if rd == e.conn.receiving() {
			rd = nil
		}
		if _, err := e.admitPacket(v, cmd, when(rd != nil)); err != nil {
			return err
		}
		e.remoteReadEnds(rd, EIO)
		return nil
	case wire.CmdNegRSDReply, wire.CmdRSCancel:
		return e.resyncRefused(v, cmd, p)
	}
	if p.BlockID == wire.IDSyncer {
		return e.resyncAcked(v, cmd, p)
	}
	w := e.writes.find(p.BlockID)
	owed := w != nil && w.vol == v && wire.SectorOf(w.off) == p.Sector && w.awaits(e, cmd)
	if _, err := e.admitPacket(v, cmd, when(owed)); err != nil {
		return err
	}
	return e.writeAck(w, cmd)
}

func when(isAsked bool) outstanding {
	if isAsked {
		return asked
	}
	return nothing
}

// awaits reports whether the peer owes such an acknowledgement of the write.
func (w *write) awaits(e *Engine, cmd wire.Cmd) bool {
	if !w.remote || w.settled || w.peerOK || w.refused {
		return false
	}
	return cmd != wire.CmdRecvAck || e.cfg.Net.Protocol == ProtocolB && !w.strict && !w.acked
}

// writeAck takes what the peer says of one write.
func (e *Engine) writeAck(w *write, cmd wire.Cmd) error {
	switch cmd {
	case wire.CmdRecvAck:
		w.acked = true
	case wire.CmdWriteAck:
		w.acked, w.peerOK = true, true
	case wire.CmdRSWriteAck:
		w.acked, w.peerOK, w.synced = true, true, true
		w.vol.resync.target = max(w.vol.resync.target, targetActive)
	case wire.CmdNegAck:
		if v := w.vol; !w.marked && v.state.PeerDisk == sm.UpToDate && v.refusedAt == 0 {
			v.refusedAt = max(e.now, 1)
		}
		w.acked, w.peerOK, w.refused = true, false, true
		w.mark(e)
	default:
		return protocolErrorf("%v is not served", cmd)
	}
	w.advance(e)
	return nil
}

// resyncAcked takes the Target's answer to a resync block.
func (e *Engine) resyncAcked(v *volume, cmd wire.Cmd, p wire.BlockAck) error {
	i, current := v.resync.findServed(p.Offset(), int64(p.Size))
	if _, err := e.admitPacket(v, cmd, when(i >= 0 && cmd != wire.CmdRecvAck)); err != nil {
		return err
	}
	v.resync.served = append(v.resync.served[:i], v.resync.served[i+1:]...)
	switch {
	case cmd == wire.CmdNegAck:
		v.setOutOfSync(p.Offset(), int64(p.Size)) // an acknowledgement of an earlier block of the range may have cleared it
	case current:
		v.clearOutOfSync(e, p.Offset(), int64(p.Size))
	}
	return nil
}
