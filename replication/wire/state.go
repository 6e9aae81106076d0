package wire

import (
	"encoding/binary"
	"fmt"
)

// State is P_STATE: one volume as its sender sees it.
//
//	offset  size  field  unit
//	     0     4  state  the state word, see StateBits
//
// Source: docs/drbd-wire.md 8.
type State struct{ Word uint32 }

// Append appends the 4 bytes.
func (p State) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(dst, p.Word)
}

// DecodeState reads 4 bytes and refuses any other length. Every word passes;
// the values in it are for StateBits and its user to judge.
func DecodeState(b []byte) (State, error) {
	if len(b) != lenState {
		return State{}, badPacket(CmdState, len(b), lenState)
	}
	return State{binary.BigEndian.Uint32(b)}, nil
}

// StateChgReq is P_STATE_CHG_REQ and P_CONN_ST_CHG_REQ: two state words from
// the requester's perspective; Mask has all bits set in the fields that are to
// change.
//
//	offset  size  field
//	     0     4  mask
//	     4     4  val
//
// Source: docs/drbd-wire.md 8.1, 14.1.
type StateChgReq struct{ Mask, Val uint32 }

// Append appends the 8 bytes.
func (p StateChgReq) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.Mask)
	return binary.BigEndian.AppendUint32(dst, p.Val)
}

// DecodeStateChgReq reads 8 bytes and refuses any other length.
func DecodeStateChgReq(b []byte) (StateChgReq, error) {
	if len(b) != lenStateReq {
		return StateChgReq{}, badLength("p_req_state", len(b), lenStateReq)
	}
	return StateChgReq{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}, nil
}

// StateChgReply is P_STATE_CHG_REPLY and P_CONN_ST_CHG_REPLY. A code of 1 or
// more is consent.
//
//	offset  size  field
//	     0     4  retcode  signed, one of the SS codes
//
// Source: docs/drbd-wire.md 1, 14.1.
type StateChgReply struct{ Code int32 }

// Append appends the 4 bytes.
func (p StateChgReply) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(p.Code))
}

// DecodeStateChgReply reads 4 bytes and refuses any other length.
func DecodeStateChgReply(b []byte) (StateChgReply, error) {
	if len(b) != lenStateReply {
		return StateChgReply{}, badLength("p_req_state_reply", len(b), lenStateReply)
	}
	return StateChgReply{int32(binary.BigEndian.Uint32(b))}, nil
}

// State-change return codes. They are wire values.
// Source: docs/drbd-wire.md 1.
const (
	SSCWNoNeed          int32 = 4
	SSCWSuccess         int32 = 3
	SSNothingToDo       int32 = 2
	SSSuccess           int32 = 1
	SSUnknownError      int32 = 0
	SSTwoPrimaries      int32 = -1
	SSNoUpToDateDisk    int32 = -2
	SSNoLocalDisk       int32 = -4
	SSNoRemoteDisk      int32 = -5
	SSConnectedOutdates int32 = -6
	SSPrimaryNOP        int32 = -7
	SSResyncRunning     int32 = -8
	SSAlreadyStandAlone int32 = -9
	SSCWFailedByPeer    int32 = -10
	SSIsDiskless        int32 = -11
	SSDeviceInUse       int32 = -12
	SSNoNetConfig       int32 = -13
	SSNoVerifyAlg       int32 = -14
	SSNeedConnection    int32 = -15
	SSLowerThanOutdated int32 = -16
	SSNotSupported      int32 = -17
	SSInTransientState  int32 = -18
	SSConcurrentStChg   int32 = -19
	SSOVolPeerPri       int32 = -20
	SSOutdateWOConn     int32 = -21
)

// codeNames is indexed by 4 - code.
var codeNames = [...]string{
	"SS_CW_NO_NEED", "SS_CW_SUCCESS", "SS_NOTHING_TO_DO", "SS_SUCCESS",
	"SS_UNKNOWN_ERROR", "SS_TWO_PRIMARIES", "SS_NO_UP_TO_DATE_DISK", "",
	"SS_NO_LOCAL_DISK", "SS_NO_REMOTE_DISK", "SS_CONNECTED_OUTDATES",
	"SS_PRIMARY_NOP", "SS_RESYNC_RUNNING", "SS_ALREADY_STANDALONE",
	"SS_CW_FAILED_BY_PEER", "SS_IS_DISKLESS", "SS_DEVICE_IN_USE",
	"SS_NO_NET_CONFIG", "SS_NO_VERIFY_ALG", "SS_NEED_CONNECTION",
	"SS_LOWER_THAN_OUTDATED", "SS_NOT_SUPPORTED", "SS_IN_TRANSIENT_STATE",
	"SS_CONCURRENT_ST_CHG", "SS_O_VOL_PEER_PRI", "SS_OUTDATE_WO_CONN",
}

// CodeName spells a return code as DRBD does; a number it does not know stays
// a number.
func CodeName(code int32) string {
	if i := int64(SSCWNoNeed) - int64(code); i >= 0 && i < int64(len(codeNames)) && codeNames[i] != "" {
		return codeNames[i]
	}
	return fmt.Sprintf("SS_(%d)", code)
}
