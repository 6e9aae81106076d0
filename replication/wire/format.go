package wire

import (
	"fmt"
	"strings"
)

// Format shows one packet on one line, for logs and for the stories of the
// simulator: the name, then the fields, positions and sizes in bytes. fixed are
// the DecodeLen bytes after the header. Bytes that do not decode are shown with
// the reason.
//
//	P_DATA off=4096 id=0x1122334455667788 seq=1 flags=SEND_WRITE_ACK
//	P_STATE Primary/Secondary Connected UpToDate/UpToDate
func Format(c Cmd, fixed []byte) string {
	if !c.Known() {
		return fmt.Sprintf("%v %d bytes", c, len(fixed))
	}
	text, err := describe(c, fixed)
	switch {
	case err != nil:
		return fmt.Sprintf("%v (%v)", c, err)
	case text == "":
		return c.String()
	}
	return c.String() + " " + text
}

func (h Header) String() string {
	if h.Cmd.Volumed() {
		return fmt.Sprintf("%v vol=%d len=%d", h.Cmd, h.Volume, h.Length)
	}
	return fmt.Sprintf("%v len=%d", h.Cmd, h.Length)
}

// describe decodes the fixed part that goes with c, and for the packets whose
// body is one structure with a name at its end, that too.
func describe(c Cmd, b []byte) (string, error) {
	switch c {
	case CmdData, CmdDataReply, CmdRSDataReply:
		return show(DecodeBlockData(b))
	case CmdTrim, CmdZeroes, CmdWSame:
		return show(DecodeTrimBlock(b))
	case CmdDataRequest, CmdRSDataRequest, CmdRSThinReq, CmdCsumRSRequest, CmdOVRequest, CmdOVReply:
		return show(DecodeBlockReq(b))
	case CmdRecvAck, CmdWriteAck, CmdRSWriteAck, CmdSuperseded, CmdNegAck, CmdNegDReply,
		CmdNegRSDReply, CmdOVResult, CmdRSIsInSync, CmdRSCancel, CmdRetryWrite:
		return show(DecodeBlockAck(b))
	case CmdOutOfSync, CmdRSDeallocated:
		return show(DecodeBlockDesc(b))
	case CmdBarrier:
		return show(DecodeBarrier(b))
	case CmdBarrierAck:
		return show(DecodeBarrierAck(b))
	case CmdState:
		return show(DecodeState(b))
	case CmdStateChgReq, CmdConnStChgReq:
		return show(DecodeStateChgReq(b))
	case CmdStateChgReply, CmdConnStChgReply:
		return show(DecodeStateChgReply(b))
	case CmdUUIDs:
		return show(DecodeUUIDs(b))
	case CmdSyncUUID:
		return show(DecodeSyncUUID(b))
	case CmdProtocol, CmdProtocolUpdate:
		return show(DecodeProtocol(b))
	case CmdSyncParam89:
		return show(DecodeSyncParam89(b))
	case CmdSizes:
		return show(DecodeSizes(b))
	case CmdConnectionFeatures:
		return show(DecodeFeatures(b))
	case CmdDelayProbe:
		return show(DecodeDelayProbe(b))
	}
	if len(b) != 0 {
		return fmt.Sprintf("%d bytes", len(b)), nil
	}
	return "", nil // a packet without a fixed part
}

func show[P fmt.Stringer](p P, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return p.String(), nil
}

func (p BlockData) String() string {
	return fmt.Sprintf("off=%d id=%s seq=%d flags=%v", p.Offset(), idName(p.BlockID), p.Seq, p.Flags)
}

func (p TrimBlock) String() string {
	return fmt.Sprintf("off=%d len=%d id=%s seq=%d flags=%v", p.Offset(), p.Size, idName(p.BlockID), p.Seq, p.Flags)
}

func (p BlockReq) String() string {
	return fmt.Sprintf("off=%d len=%d id=%s", p.Offset(), p.Size, idName(p.BlockID))
}

func (p BlockAck) String() string {
	return fmt.Sprintf("off=%d len=%d id=%s seq=%d", p.Offset(), p.Size, idName(p.BlockID), p.Seq)
}

func (p BlockDesc) String() string { return fmt.Sprintf("off=%d len=%d", p.Offset(), p.Size) }

func (p Barrier) String() string { return fmt.Sprintf("barrier=%d", p.Number) }

func (p BarrierAck) String() string {
	return fmt.Sprintf("barrier=%d set_size=%d", p.Number, p.SetSize)
}

func (p State) String() string { return BitsOf(p.Word).String() }

func (p StateChgReq) String() string { return fmt.Sprintf("mask=%08x val=%08x", p.Mask, p.Val) }

func (p StateChgReply) String() string { return CodeName(p.Code) }

func (p UUIDs) String() string {
	return fmt.Sprintf("current=%016X bitmap=%016X history=%016X,%016X bits=%d flags=%v",
		p.Current, p.Bitmap, p.History[0], p.History[1], p.Size, p.Flags)
}

func (p SyncUUID) String() string { return fmt.Sprintf("uuid=%016X", p.UUID) }

func (p Protocol) String() string {
	proto := fmt.Sprint(p.Protocol)
	if p.Protocol >= ProtA && p.Protocol <= ProtC {
		proto = string(rune('A' + p.Protocol - ProtA))
	}
	return fmt.Sprintf("protocol=%s after-sb=%d,%d,%d flags=%v two-primaries=%d integrity=%q",
		proto, p.AfterSB0Pri, p.AfterSB1Pri, p.AfterSB2Pri, p.ConnFlags, p.TwoPrimaries, p.IntegrityAlg)
}

func (p SyncParam89) String() string {
	return fmt.Sprintf("rate=%dKiB/s verify=%q csums=%q plan-ahead=%d delay-target=%d fill-target=%d max-rate=%dKiB/s",
		p.ResyncRate, p.VerifyAlg, p.CsumsAlg, p.CPlanAhead, p.CDelayTarget, p.CFillTarget, p.CMaxRate)
}

func (p Sizes) String() string {
	return fmt.Sprintf("disk=%d user=%d current=%d max-bio=%d flags=%v",
		offset(p.DSize), offset(p.USize), offset(p.CSize), p.MaxBioSize, p.Flags)
}

func (p Features) String() string {
	return fmt.Sprintf("versions=%d-%d features=%v", p.ProtocolMin, p.ProtocolMax, p.Flags)
}

func (p DelayProbe) String() string { return fmt.Sprintf("seq=%d usec=%d", p.Seq, p.OffsetUsec) }

func (s StateBits) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s %s %s/%s", name(roleNames[:], s.Role), name(roleNames[:], s.Peer),
		name(connNames[:], s.Conn), name(diskNames[:], s.Disk), name(diskNames[:], s.PeerDisk))
	for _, f := range [...]struct {
		on   bool
		name string
	}{
		{s.Susp, "susp"}, {s.AftrISP, "aftr_isp"}, {s.PeerISP, "peer_isp"},
		{s.UserISP, "user_isp"}, {s.SuspNoData, "susp_nod"}, {s.SuspFencing, "susp_fen"},
	} {
		if f.on {
			b.WriteString(" " + f.name)
		}
	}
	return b.String()
}

// The names of the states, by wire value. Source: docs/drbd-wire.md 1.
var (
	roleNames = [...]string{"Unknown", "Primary", "Secondary"}
	connNames = [...]string{
		"StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure",
		"ProtocolError", "TearDown", "WFConnection", "WFReportParams", "Connected",
		"StartingSyncS", "StartingSyncT", "WFBitMapS", "WFBitMapT", "WFSyncUUID",
		"SyncSource", "SyncTarget", "VerifyS", "VerifyT", "PausedSyncS", "PausedSyncT",
		"Ahead", "Behind",
	}
	diskNames = [...]string{
		"Diskless", "Attaching", "Failed", "Negotiating", "Inconsistent", "Outdated",
		"DUnknown", "Consistent", "UpToDate",
	}
)

func name(names []string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("(%d)", v)
}

func idName(id uint64) string {
	switch id {
	case IDSyncer:
		return "SYNCER"
	case IDInSync:
		return "IN_SYNC"
	case IDOutOfSync:
		return "OUT_OF_SYNC"
	}
	return fmt.Sprintf("0x%x", id)
}

func (f DPFlags) String() string {
	return flagNames(uint64(f), "HARDBARRIER", "RW_SYNC", "MAY_SET_IN_SYNC", "UNPLUG", "FUA", "FLUSH",
		"DISCARD", "SEND_RECEIVE_ACK", "SEND_WRITE_ACK", "WSAME", "ZEROES")
}

func (f UUIDFlags) String() string {
	return flagNames(uint64(f), "DISCARD_MY_DATA", "CRASHED_PRIMARY", "INCONSISTENT", "SKIP_INITIAL_SYNC")
}

func (f ConnFlags) String() string { return flagNames(uint64(f), "DISCARD_MY_DATA", "DRY_RUN") }

func (f SizesFlags) String() string { return flagNames(uint64(f), "FORCED", "NO_RESYNC") }

func (f FeatureFlags) String() string {
	return flagNames(uint64(f), "TRIM", "THIN_RESYNC", "WSAME", "WZEROES")
}

// flagNames lists the set bits from bit 0 on, and what has no name as a number.
func flagNames(v uint64, names ...string) string {
	if v == 0 {
		return "0"
	}
	var set []string
	for i, n := range names {
		if v&(1<<i) != 0 {
			set = append(set, n)
		}
	}
	if rest := v >> len(names) << len(names); rest != 0 {
		set = append(set, fmt.Sprintf("0x%x", rest))
	}
	return strings.Join(set, "|")
}
