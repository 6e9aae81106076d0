package uapi

// Directions of a command number, as in ioctl.
const (
	dirRead  = 2 << 30
	dirWrite = 1 << 30
)

const magic = 'u' << 8

// Control commands, sent to /dev/ublk-control with a CtrlCmd as payload. The driver compares some of them as
// whole 32-bit values, so direction and size are part of the name. Source: docs/ublk.md 1.2.
const (
	ctrlRead  = dirRead | 32<<16 | magic
	ctrlWrite = dirRead | dirWrite | 32<<16 | magic

	CmdGetQueueAffinity  uint32 = ctrlRead | 0x01
	CmdGetDevInfo        uint32 = ctrlRead | 0x02
	CmdAddDev            uint32 = ctrlWrite | 0x04
	CmdDelDev            uint32 = ctrlWrite | 0x05
	CmdStartDev          uint32 = ctrlWrite | 0x06
	CmdStopDev           uint32 = ctrlWrite | 0x07
	CmdSetParams         uint32 = ctrlWrite | 0x08
	CmdGetParams         uint32 = ctrlRead | 0x09
	CmdStartUserRecovery uint32 = ctrlWrite | 0x10
	CmdEndUserRecovery   uint32 = ctrlWrite | 0x11
	CmdGetDevInfo2       uint32 = ctrlRead | 0x12
	CmdGetFeatures       uint32 = ctrlRead | 0x13
	CmdDelDevAsync       uint32 = ctrlRead | 0x14
	CmdUpdateSize        uint32 = ctrlWrite | 0x15
	CmdQuiesceDev        uint32 = ctrlWrite | 0x16
	CmdTryStopDev        uint32 = ctrlWrite | 0x17
)

// CtrlCmd is struct ublksrv_ctrl_cmd, 32 bytes, the payload of every control command.
type CtrlCmd struct {
	DevID      uint32
	QueueID    uint16 // NoQueue unless the command is about one queue
	Len        uint16 // bytes at Addr
	Addr       uint64
	Data       uint64
	DevPathLen uint16
	_          uint16
	_          uint32
}

const (
	NoQueue uint16 = 0xffff
	AnyID   uint32 = 0xffffffff // AddDev: the driver chooses
)

// States of DevInfo.
const (
	StateDead     uint16 = 0
	StateLive     uint16 = 1
	StateQuiesced uint16 = 2
	StateFailIO   uint16 = 3
)

// DevInfo is struct ublksrv_ctrl_dev_info, 64 bytes.
type DevInfo struct {
	Queues     uint16
	Depth      uint16
	State      uint16
	DescSize   uint16
	MaxIOBytes uint32
	DevID      uint32
	PID        int32
	_          uint32
	Flags      uint64
	OwnerTag   uint64 // ublksrv_flags: the driver keeps it and does not look at it
	OwnerUID   uint32
	OwnerGID   uint32
	_          [2]uint64
}

// Bits of Params.Types: which groups are meant.
const (
	ParamBasic   uint32 = 1 << 0
	ParamDiscard uint32 = 1 << 1
	ParamDevt    uint32 = 1 << 2
)

// Bits of Basic.Attrs.
const (
	AttrReadOnly      uint32 = 1 << 0
	AttrRotational    uint32 = 1 << 1
	AttrVolatileCache uint32 = 1 << 2
	AttrFUA           uint32 = 1 << 3
)

// Params is struct ublk_params, 152 bytes in Linux 7.3 and 112 in 6.12; a driver uses as much as it knows.
type Params struct {
	Len     uint32
	Types   uint32
	Basic   Basic
	Discard Discard
	Devt    Devt
	// Zoned, DMA alignment, segments and integrity: this library asks for none of them.
	Zoned     [32]byte
	DMAAlign  uint64le
	_         uint32
	Segment   [16]byte
	Integrity [16]byte
}

// uint64le is eight bytes that need only the alignment of their neighbours.
type uint64le [2]uint32

// Basic is struct ublk_param_basic, 32 bytes.
type Basic struct {
	Attrs         uint32
	LogicalShift  uint8
	PhysicalShift uint8
	IOOptShift    uint8
	IOMinShift    uint8
	MaxSectors    uint32
	ChunkSectors  uint32
	DevSectors    uint64
	VirtBoundary  uint64
}

// Discard is struct ublk_param_discard, 20 bytes.
type Discard struct {
	Alignment            uint32 // bytes
	Granularity          uint32 // bytes
	MaxSectors           uint32
	MaxWriteZeroesSector uint32
	MaxSegments          uint16
	_                    uint16
}

// Devt is struct ublk_param_devt, 16 bytes, filled in by the driver.
type Devt struct{ CharMajor, CharMinor, DiskMajor, DiskMinor uint32 }
