package wire

import (
	"encoding/binary"
	"fmt"
)

// DPFlags are the dp_flags of a write. Unknown bits are kept and mean nothing.
// Source: docs/drbd-wire.md 11.2.
type DPFlags uint32

const (
	DPHardBarrier    DPFlags = 1 << iota // obsolete
	DPRWSync                             // synchronous hint
	DPMaySetInSync                       // the sender is syncing; the receiver may clear the bits
	DPUnplug                             // obsolete
	DPFUA                                // durable before the ack
	DPFlush                              // flush before the write
	DPDiscard                            // with P_TRIM; with P_ZEROES: may deallocate
	DPSendReceiveAck                     // asks for P_RECV_ACK
	DPSendWriteAck                       // asks for P_WRITE_ACK
	DPWSame                              // with P_WSAME
	DPZeroes                             // with P_ZEROES
)

// BlockData is p_data, the fixed part of P_DATA, P_DATA_REPLY and
// P_RS_DATA_REPLY, and the first part of TrimBlock. In the first three a digest
// (if the sender has one configured) and the block follow on the stream.
//
//	offset  size  field     unit
//	     0     8  sector    512-byte sectors
//	     8     8  block_id  opaque, echoed; IDSyncer in P_RS_DATA_REPLY
//	    16     4  seq_num   per volume, wraps; 0 in the replies
//	    20     4  dp_flags  DP bits; 0 in the replies
//
// Big-endian, block_id verbatim. Source: docs/drbd-wire.md 3.1, 11.
type BlockData struct {
	Sector  uint64 // at most 2^54-1
	BlockID uint64
	Seq     uint32
	Flags   DPFlags
}

// Offset is the position in bytes.
func (p BlockData) Offset() int64 { return offset(p.Sector) }

// Append appends the 24 bytes.
func (p BlockData) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.Sector)
	dst = binary.BigEndian.AppendUint64(dst, p.BlockID)
	dst = binary.BigEndian.AppendUint32(dst, p.Seq)
	return binary.BigEndian.AppendUint32(dst, uint32(p.Flags))
}

// DecodeBlockData reads 24 bytes. It refuses any other length and a position
// that no device has.
func DecodeBlockData(b []byte) (BlockData, error) {
	if len(b) != lenBlockData {
		return BlockData{}, badLength("p_data", len(b), lenBlockData)
	}
	p := blockData(b)
	if p.Sector > maxSector {
		return BlockData{}, badSector("p_data", p.Sector)
	}
	return p, nil
}

func blockData(b []byte) BlockData {
	return BlockData{
		Sector:  binary.BigEndian.Uint64(b),
		BlockID: binary.BigEndian.Uint64(b[8:]),
		Seq:     binary.BigEndian.Uint32(b[16:]),
		Flags:   DPFlags(binary.BigEndian.Uint32(b[20:])),
	}
}

// TrimBlock is p_trim: P_TRIM and P_ZEROES, a BlockData and
//
//	offset  size  field  unit
//	    24     4  size   bytes affected
//
// Neither carries a digest or a block. Source: docs/drbd-wire.md 11.6.
type TrimBlock struct {
	BlockData
	Size uint32 // multiple of 512, 512..MaxTrim
}

// Append appends the 28 bytes.
func (p TrimBlock) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(p.BlockData.Append(dst), p.Size)
}

// DecodeTrimBlock reads 28 bytes. It refuses any other length, a position that
// no device has, and a size that is no multiple of a sector, zero, or above
// MaxTrim.
func DecodeTrimBlock(b []byte) (TrimBlock, error) {
	if len(b) != lenTrimBlock {
		return TrimBlock{}, badLength("p_trim", len(b), lenTrimBlock)
	}
	p := TrimBlock{blockData(b), binary.BigEndian.Uint32(b[24:])}
	if p.Sector > maxSector {
		return TrimBlock{}, badSector("p_trim", p.Sector)
	}
	if p.Size == 0 || p.Size > MaxTrim || p.Size%SectorSize != 0 {
		return TrimBlock{}, badSize("p_trim", p.Size)
	}
	return p, nil
}

// BlockReq is p_block_req: P_DATA_REQUEST, P_RS_DATA_REQUEST, P_RS_THIN_REQ,
// P_CSUM_RS_REQUEST, P_OV_REQUEST and P_OV_REPLY. A digest follows in
// P_CSUM_RS_REQUEST and P_OV_REPLY.
//
//	offset  size  field     unit
//	     0     8  sector    512-byte sectors
//	     8     8  block_id  opaque in P_DATA_REQUEST, else IDSyncer
//	    16     4  blksize   bytes
//	    20     4  pad       garbage of the sender, not looked at; written as 0
//
// Source: docs/drbd-wire.md 3.1, 11.7, 12.2.
type BlockReq struct {
	Sector  uint64 // at most 2^54-1
	BlockID uint64
	Size    uint32 // multiple of 512, 512..MaxRequest
}

// Offset is the position in bytes.
func (p BlockReq) Offset() int64 { return offset(p.Sector) }

// Append appends the 24 bytes.
func (p BlockReq) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.Sector)
	dst = binary.BigEndian.AppendUint64(dst, p.BlockID)
	dst = binary.BigEndian.AppendUint32(dst, p.Size)
	return binary.BigEndian.AppendUint32(dst, 0)
}

// DecodeBlockReq reads 24 bytes. It refuses any other length, a position that
// no device has, and a size that is no multiple of a sector, zero, or above
// MaxRequest.
func DecodeBlockReq(b []byte) (BlockReq, error) {
	if len(b) != lenBlockReq {
		return BlockReq{}, badLength("p_block_req", len(b), lenBlockReq)
	}
	p := BlockReq{
		Sector:  binary.BigEndian.Uint64(b),
		BlockID: binary.BigEndian.Uint64(b[8:]),
		Size:    binary.BigEndian.Uint32(b[16:]),
	}
	if p.Sector > maxSector {
		return BlockReq{}, badSector("p_block_req", p.Sector)
	}
	if p.Size == 0 || p.Size > MaxRequest || p.Size%SectorSize != 0 {
		return BlockReq{}, badSize("p_block_req", p.Size)
	}
	return p, nil
}

// BlockAck is p_block_ack: every acknowledgement of a block on the meta socket,
// good or bad (P_RECV_ACK, P_WRITE_ACK, P_RS_WRITE_ACK, P_SUPERSEDED,
// P_NEG_ACK, P_NEG_DREPLY, P_NEG_RS_DREPLY, P_OV_RESULT, P_RS_IS_IN_SYNC,
// P_RS_CANCEL, P_RETRY_WRITE).
//
//	offset  size  field     unit
//	     0     8  sector    512-byte sectors, echo of the request
//	     8     8  block_id  echo; IDInSync or IDOutOfSync in P_OV_RESULT;
//	                        meaningless in P_RS_IS_IN_SYNC
//	    16     4  blksize   bytes
//	    20     4  seq_num   of the ack's sender, one count with its P_DATA
//
// Source: docs/drbd-wire.md 3.1, 11.3.
type BlockAck struct {
	Sector  uint64 // at most 2^54-1
	BlockID uint64
	Size    uint32 // multiple of 512, 0..MaxTrim; 0 in the P_NEG_ACK of a trim
	Seq     uint32
}

// Offset is the position in bytes.
func (p BlockAck) Offset() int64 { return offset(p.Sector) }

// Append appends the 24 bytes.
func (p BlockAck) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.Sector)
	dst = binary.BigEndian.AppendUint64(dst, p.BlockID)
	dst = binary.BigEndian.AppendUint32(dst, p.Size)
	return binary.BigEndian.AppendUint32(dst, p.Seq)
}

// DecodeBlockAck reads 24 bytes. It refuses any other length, a position that
// no device has, and a size that is no multiple of a sector or above MaxTrim.
func DecodeBlockAck(b []byte) (BlockAck, error) {
	if len(b) != lenBlockAck {
		return BlockAck{}, badLength("p_block_ack", len(b), lenBlockAck)
	}
	p := BlockAck{
		Sector:  binary.BigEndian.Uint64(b),
		BlockID: binary.BigEndian.Uint64(b[8:]),
		Size:    binary.BigEndian.Uint32(b[16:]),
		Seq:     binary.BigEndian.Uint32(b[20:]),
	}
	if p.Sector > maxSector {
		return BlockAck{}, badSector("p_block_ack", p.Sector)
	}
	if p.Size > MaxTrim || p.Size%SectorSize != 0 {
		return BlockAck{}, badSize("p_block_ack", p.Size)
	}
	return p, nil
}

// BlockDesc is p_block_desc: P_OUT_OF_SYNC and P_RS_DEALLOCATED, a range
// without data.
//
//	offset  size  field    unit
//	     0     8  sector   512-byte sectors
//	     8     4  blksize  bytes
//	    12     4  pad      garbage of the sender, not looked at; written as 0
//
// Source: docs/drbd-wire.md 3.1, 11.10, 12.3.
type BlockDesc struct {
	Sector uint64 // at most 2^54-1
	Size   uint32 // multiple of 512, 512..MaxTrim
}

// Offset is the position in bytes.
func (p BlockDesc) Offset() int64 { return offset(p.Sector) }

// Append appends the 16 bytes.
func (p BlockDesc) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.Sector)
	dst = binary.BigEndian.AppendUint32(dst, p.Size)
	return binary.BigEndian.AppendUint32(dst, 0)
}

// DecodeBlockDesc reads 16 bytes. It refuses any other length, a position that
// no device has, and a size that is no multiple of a sector, zero, or above
// MaxTrim.
func DecodeBlockDesc(b []byte) (BlockDesc, error) {
	if len(b) != lenBlockDesc {
		return BlockDesc{}, badLength("p_block_desc", len(b), lenBlockDesc)
	}
	p := BlockDesc{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}
	if p.Sector > maxSector {
		return BlockDesc{}, badSector("p_block_desc", p.Sector)
	}
	if p.Size == 0 || p.Size > MaxTrim || p.Size%SectorSize != 0 {
		return BlockDesc{}, badSize("p_block_desc", p.Size)
	}
	return p, nil
}

func badLength(layout string, got, want int) error {
	return &DecodeError{CmdUnspecified, fmt.Sprintf("%s: %d bytes in place of %d", layout, got, want)}
}

func badSector(layout string, sector uint64) error {
	return &DecodeError{CmdUnspecified, fmt.Sprintf("%s: sector %d", layout, sector)}
}

func badSize(layout string, size uint32) error {
	return &DecodeError{CmdUnspecified, fmt.Sprintf("%s: a range of %d bytes", layout, size)}
}
