package wire

import "encoding/binary"

// SizesFlags are the dds_flags of P_SIZES. Unknown bits are kept.
type SizesFlags uint16

const (
	SizesForced   SizesFlags = 1 << iota // the new size was forced
	SizesNoResync                        // new space is not resynced
)

// Sizes is P_SIZES. Its length depends on FeatureWSame, see SizesLen.
//
//	offset  size  field                unit
//	     0     8  d_size               sectors the sender's disk offers, 0 without disk
//	     8     8  u_size               sectors asked for by the user, 0 for none
//	    16     8  c_size               sectors exported now, 0 asks for an answer
//	    24     4  max_bio_size         bytes
//	    28     2  queue_order_type     0
//	    30     2  dds_flags            Sizes bits
//	    32     4  physical_block_size  bytes; from here on in the long form only
//	    36     4  logical_block_size   bytes
//	    40     4  alignment_offset     bytes
//	    44     4  io_min               bytes
//	    48     4  io_opt               bytes
//	    52     1  discard_enabled      0, 1
//	    53     1  discard_zeroes_data  0, 1
//	    54     1  write_same_capable   0, 1
//	    55     1  pad                  not looked at; written as 0
//
// Sectors are of 512 bytes. Source: docs/drbd-wire.md 7.3.
type Sizes struct {
	DSize, USize, CSize uint64 // sectors, at most 2^54-1
	MaxBioSize          uint32
	QueueOrderType      uint16
	Flags               SizesFlags
	Queue               QueueLimits
}

// QueueLimits is the second part of the long P_SIZES: what the sender's backing
// device likes. The reference peers ignore the contents.
type QueueLimits struct {
	PhysicalBlockSize uint32
	LogicalBlockSize  uint32
	AlignmentOffset   uint32
	IOMin, IOOpt      uint32
	DiscardEnabled    uint8
	DiscardZeroesData uint8
	WriteSameCapable  uint8
}

// SizesLen is the length of P_SIZES under the agreed features. A receiver
// insists on it.
func SizesLen(agreed FeatureFlags) int {
	if agreed&FeatureWSame != 0 {
		return lenSizes
	}
	return lenSizesShort
}

// Append appends the long form, 56 bytes.
func (p Sizes) Append(dst []byte) []byte {
	dst = p.AppendShort(dst)
	dst = binary.BigEndian.AppendUint32(dst, p.Queue.PhysicalBlockSize)
	dst = binary.BigEndian.AppendUint32(dst, p.Queue.LogicalBlockSize)
	dst = binary.BigEndian.AppendUint32(dst, p.Queue.AlignmentOffset)
	dst = binary.BigEndian.AppendUint32(dst, p.Queue.IOMin)
	dst = binary.BigEndian.AppendUint32(dst, p.Queue.IOOpt)
	return append(dst, p.Queue.DiscardEnabled, p.Queue.DiscardZeroesData, p.Queue.WriteSameCapable, 0)
}

// AppendShort appends the form without Queue, 32 bytes, for a peer that has not
// agreed to FeatureWSame.
func (p Sizes) AppendShort(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.DSize)
	dst = binary.BigEndian.AppendUint64(dst, p.USize)
	dst = binary.BigEndian.AppendUint64(dst, p.CSize)
	dst = binary.BigEndian.AppendUint32(dst, p.MaxBioSize)
	dst = binary.BigEndian.AppendUint16(dst, p.QueueOrderType)
	return binary.BigEndian.AppendUint16(dst, uint16(p.Flags))
}

// DecodeSizes reads either form; 32 bytes leave Queue zero. It refuses any other
// length and a size that no device has.
func DecodeSizes(b []byte) (Sizes, error) {
	if len(b) != lenSizes && len(b) != lenSizesShort {
		return Sizes{}, badPacket(CmdSizes, len(b), lenSizes)
	}
	p := Sizes{
		DSize:          binary.BigEndian.Uint64(b),
		USize:          binary.BigEndian.Uint64(b[8:]),
		CSize:          binary.BigEndian.Uint64(b[16:]),
		MaxBioSize:     binary.BigEndian.Uint32(b[24:]),
		QueueOrderType: binary.BigEndian.Uint16(b[28:]),
		Flags:          SizesFlags(binary.BigEndian.Uint16(b[30:])),
	}
	if max(p.DSize, p.USize, p.CSize) > maxSector {
		return Sizes{}, &DecodeError{CmdSizes, "a size beyond any device"}
	}
	if len(b) == lenSizesShort {
		return p, nil
	}
	p.Queue = QueueLimits{
		PhysicalBlockSize: binary.BigEndian.Uint32(b[32:]),
		LogicalBlockSize:  binary.BigEndian.Uint32(b[36:]),
		AlignmentOffset:   binary.BigEndian.Uint32(b[40:]),
		IOMin:             binary.BigEndian.Uint32(b[44:]),
		IOOpt:             binary.BigEndian.Uint32(b[48:]),
		DiscardEnabled:    b[52],
		DiscardZeroesData: b[53],
		WriteSameCapable:  b[54],
	}
	return p, nil
}
