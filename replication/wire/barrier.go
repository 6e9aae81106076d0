package wire

import "encoding/binary"

// Barrier is P_BARRIER: the end of an epoch of writes, of all volumes together.
//
//	offset  size  field    unit
//	     0     4  barrier  opaque, echoed
//	     4     4  pad      not looked at; written as 0
//
// The number is the sender's own and returns as the same four bytes. It is read
// and written little-endian here, so that the count of an x86 kernel is
// legible in a log; nothing may depend on its value.
// Source: docs/drbd-wire.md 3.1, 11.5.
type Barrier struct{ Number uint32 }

// Append appends the 8 bytes.
func (p Barrier) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, p.Number)
	return binary.BigEndian.AppendUint32(dst, 0)
}

// DecodeBarrier reads 8 bytes and refuses any other length.
func DecodeBarrier(b []byte) (Barrier, error) {
	if len(b) != lenBarrier {
		return Barrier{}, badPacket(CmdBarrier, len(b), lenBarrier)
	}
	return Barrier{binary.LittleEndian.Uint32(b)}, nil
}

// BarrierAck is P_BARRIER_ACK: every write of an epoch is on the peer.
//
//	offset  size  field     unit
//	     0     4  barrier   echo, see Barrier
//	     4     4  set_size  writes in the epoch, exactly
//
// Source: docs/drbd-wire.md 11.5.
type BarrierAck struct {
	Number  uint32
	SetSize uint32
}

// Append appends the 8 bytes.
func (p BarrierAck) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, p.Number)
	return binary.BigEndian.AppendUint32(dst, p.SetSize)
}

// DecodeBarrierAck reads 8 bytes and refuses any other length.
func DecodeBarrierAck(b []byte) (BarrierAck, error) {
	if len(b) != lenBarrier {
		return BarrierAck{}, badPacket(CmdBarrierAck, len(b), lenBarrier)
	}
	return BarrierAck{binary.LittleEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}, nil
}

// DelayProbe is P_DELAY_PROBE, on either socket. No known peer sends it; a
// receiver reads it and does nothing.
//
//	offset  size  field   unit
//	     0     4  seq
//	     4     4  offset  microseconds
//
// Source: docs/drbd-wire.md 3.1, 13.
type DelayProbe struct{ Seq, OffsetUsec uint32 }

// Append appends the 8 bytes.
func (p DelayProbe) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.Seq)
	return binary.BigEndian.AppendUint32(dst, p.OffsetUsec)
}

// DecodeDelayProbe reads 8 bytes and refuses any other length.
func DecodeDelayProbe(b []byte) (DelayProbe, error) {
	if len(b) != lenDelayProbe {
		return DelayProbe{}, badPacket(CmdDelayProbe, len(b), lenDelayProbe)
	}
	return DelayProbe{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}, nil
}
