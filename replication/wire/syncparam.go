package wire

import (
	"bytes"
	"encoding/binary"
)

// SyncParam89 is P_SYNC_PARAM89 in its 148 byte form: how one volume resyncs
// and verifies. The receiver adopts the numbers.
//
//	offset  size  field           unit
//	     0     4  resync_rate     KiB/s
//	     4    64  verify_alg      NUL padded
//	    68    64  csums_alg       NUL padded
//	   132     4  c_plan_ahead    0.1 s
//	   136     4  c_delay_target  0.1 s
//	   140     4  c_fill_target   512-byte sectors
//	   144     4  c_max_rate      KiB/s
//
// Source: docs/drbd-wire.md 7.2.
type SyncParam89 struct {
	ResyncRate   uint32
	VerifyAlg    string // at most 63 bytes, no NUL; empty: none
	CsumsAlg     string // likewise
	CPlanAhead   uint32
	CDelayTarget uint32
	CFillTarget  uint32
	CMaxRate     uint32
}

// Append appends the 148 bytes.
func (p SyncParam89) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.ResyncRate)
	dst = appendName(dst, p.VerifyAlg)
	dst = appendName(dst, p.CsumsAlg)
	dst = binary.BigEndian.AppendUint32(dst, p.CPlanAhead)
	dst = binary.BigEndian.AppendUint32(dst, p.CDelayTarget)
	dst = binary.BigEndian.AppendUint32(dst, p.CFillTarget)
	return binary.BigEndian.AppendUint32(dst, p.CMaxRate)
}

// DecodeSyncParam89 reads 148 bytes. It refuses any other length and names that
// are not padded with NULs to their 64 bytes.
func DecodeSyncParam89(b []byte) (SyncParam89, error) {
	if len(b) != lenSyncParam {
		return SyncParam89{}, badPacket(CmdSyncParam89, len(b), lenSyncParam)
	}
	verify, ok1 := padded(b[4:68])
	csums, ok2 := padded(b[68:132])
	if !ok1 || !ok2 {
		return SyncParam89{}, &DecodeError{CmdSyncParam89, "the name of an algorithm is not NUL padded"}
	}
	return SyncParam89{
		ResyncRate:   binary.BigEndian.Uint32(b),
		VerifyAlg:    verify,
		CsumsAlg:     csums,
		CPlanAhead:   binary.BigEndian.Uint32(b[132:]),
		CDelayTarget: binary.BigEndian.Uint32(b[136:]),
		CFillTarget:  binary.BigEndian.Uint32(b[140:]),
		CMaxRate:     binary.BigEndian.Uint32(b[144:]),
	}, nil
}

func appendName(dst []byte, s string) []byte {
	mustName(s)
	var pad [MaxName]byte
	copy(pad[:], s)
	return append(dst, pad[:]...)
}

// padded reads a name in a field of 64 bytes: at least one NUL, and nothing
// else from there to the end.
func padded(field []byte) (string, bool) {
	end := bytes.IndexByte(field, 0)
	if end < 0 {
		return "", false
	}
	for _, c := range field[end:] {
		if c != 0 {
			return "", false
		}
	}
	return string(field[:end]), true
}
