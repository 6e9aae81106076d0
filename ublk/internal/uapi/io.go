package uapi

import (
	"unsafe"
)

// SectorShift turns sectors into bytes: 512, whatever the device's block size.
const SectorShift = 9

// Commands on the character device of one device, with an IOCmd as payload.
const (
	ioCmd = dirRead | dirWrite | 16<<16 | magic

	IOFetch          uint32 = ioCmd | 0x20
	IOCommitAndFetch uint32 = ioCmd | 0x21
	IORegisterBuf    uint32 = ioCmd | 0x23
	IOUnregisterBuf  uint32 = ioCmd | 0x24
)

// Results of IOFetch and IOCommitAndFetch.
const (
	ResultOK    int32 = 0
	ResultAbort int32 = -19 // -ENODEV: the tag is finished, do not fetch it again
)

// IOCmd is struct ublksrv_io_cmd, 16 bytes.
type IOCmd struct {
	Queue  uint16
	Tag    uint16
	Result int32
	Addr   uint64 // buffer of the tag in copy mode; slot of IORegisterBuf
}

// Words packs c for the payload of a submission entry.
func (c *IOCmd) Words() [2]uint64 {
	return [2]uint64{uint64(c.Queue) | uint64(c.Tag)<<16 | uint64(uint32(c.Result))<<32, c.Addr}
}

// AutoBuf packs struct ublk_auto_buf_reg: the slot of the buffer table that the driver fills, and the
// request to deliver the I/O with FlagNeedRegBuf when it could not.
func AutoBuf(slot uint16) uint64 { return uint64(slot) | autoBufFallback<<16 }

const autoBufFallback = 1

// Operations in the low byte of IODesc.OpFlags.
const (
	OpRead        uint8 = 0
	OpWrite       uint8 = 1
	OpFlush       uint8 = 2
	OpDiscard     uint8 = 3
	OpWriteZeroes uint8 = 5
)

// Bits of IODesc.OpFlags.
const (
	FlagMeta       uint32 = 1 << 11
	FlagFUA        uint32 = 1 << 13
	FlagNoUnmap    uint32 = 1 << 15
	FlagSwap       uint32 = 1 << 16
	FlagNeedRegBuf uint32 = 1 << 17
)

// IODesc is struct ublksrv_io_desc, 24 bytes: what the driver wants done for a tag.
type IODesc struct {
	OpFlags     uint32
	Sectors     uint32
	StartSector uint64
	Addr        uint64
}

// Limits of the driver.
const (
	MaxDepth    = 4096
	MaxQueues   = 4096
	MaxUserCopy = 32 << 20 // bytes that one request can address in the character device
)

const descSize = int64(unsafe.Sizeof(IODesc{}))

// DescOffset is the position of a queue's descriptors in the character device: queues lie MaxDepth
// descriptors apart, rounded up to pages.
func DescOffset(queue int, page int64) int64 {
	return int64(queue) * roundUp(MaxDepth*descSize, page)
}

// DescLength is the length of the mapping of depth descriptors.
func DescLength(depth int, page int64) int64 { return roundUp(int64(depth)*descSize, page) }

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// DataOffset is the position of a request's data in the character device (user copy).
func DataOffset(queue, tag int) int64 {
	const base = 0x80000000
	return base + int64(queue)<<41 + int64(tag)<<25
}
