package uring

// The kernel's numbers. Source: include/uapi/linux/io_uring.h; docs/ublk.md 4.

const (
	sysSetup    = 425
	sysEnter    = 426
	sysRegister = 427
)

// Flags of io_uring_setup.
const (
	setupCQSize       = 1 << 3
	setupClamp        = 1 << 4
	setupSubmitAll    = 1 << 7
	setupCoopTaskrun  = 1 << 8
	setupSQE128       = 1 << 10
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13
	setupNoSQArray    = 1 << 16
)

// Flags of io_uring_enter.
const (
	enterGetEvents      = 1 << 0
	enterExtArg         = 1 << 3
	enterRegisteredRing = 1 << 4
	enterNoIOWait       = 1 << 7
)

// Bits of params.Features.
const (
	featRWAttr   = 1 << 16
	featNoIOWait = 1 << 17
)

// Operations of io_uring_register.
const (
	registerProbe         = 8
	registerFiles2        = 13
	registerFilesUpdate2  = 14
	registerBuffers2      = 15
	registerBuffersUpdate = 16
	registerWorkers       = 19 // IORING_REGISTER_IOWQ_MAX_WORKERS
	registerRingFDs       = 20
	unregisterRingFDs     = 21

	rsrcSparse = 1
)

// Offsets at which the ring's memory is mapped.
const (
	mapRing = 0
	mapSQEs = 0x10000000
)

// sqOffsets and cqOffsets say where the shared words lie in the mapped ring.
type sqOffsets struct {
	Head, Tail, RingMask, RingEntries, Flags, Dropped, Array, Resv uint32
	UserAddr                                                       uint64
}

type cqOffsets struct {
	Head, Tail, RingMask, RingEntries, Overflow, CQEs, Flags, Resv uint32
	UserAddr                                                       uint64
}

// params is struct io_uring_params, 120 bytes.
type params struct {
	SQEntries, CQEntries, Flags, SQThreadCPU, SQThreadIdle, Features, WQFD uint32
	Resv                                                                   [3]uint32
	SQ                                                                     sqOffsets
	CQ                                                                     cqOffsets
}

// sqe is struct io_uring_sqe, 64 bytes.
//
//	offset  size  field
//	     0     1  opcode
//	     1     1  flags
//	     2     2  ioprio
//	     4     4  fd
//	     8     8  off, addr2, or cmd_op (32 bits)
//	    16     8  addr
//	    24     4  len
//	    28     4  flags of the operation
//	    32     8  user_data
//	    40     2  buf_index, buf_group
//	    42     2  personality
//	    44     4  file_index, addr_len
//	    48    16  addr3, or the payload of a command (80 bytes with SQE128)
type sqe struct {
	Opcode      uint8
	Flags       uint8
	Prio        uint16
	FD          int32
	Off         uint64
	Addr        uint64
	Len         uint32
	OpFlags     uint32
	UserData    uint64
	Buf         uint16
	Personality uint16
	File        uint32
	Cmd         [2]uint64
}

// cqe is struct io_uring_cqe, 16 bytes.
type cqe struct {
	UserData uint64
	Res      int32
	Flags    uint32
}

// timespec is struct __kernel_timespec.
type timespec struct{ Sec, Nsec int64 }

// geteventsArg is struct io_uring_getevents_arg, 24 bytes.
type geteventsArg struct {
	Sigmask     uint64
	SigmaskSize uint32
	MinWait     uint32 // microseconds
	TS          uint64
}

// rsrcRegister is struct io_uring_rsrc_register, 32 bytes.
type rsrcRegister struct {
	Nr, Flags uint32
	Resv2     uint64
	Data      uint64
	Tags      uint64
}

// rsrcUpdate2 is struct io_uring_rsrc_update2, 32 bytes.
type rsrcUpdate2 struct {
	Offset, Resv uint32
	Data         uint64
	Tags         uint64
	Nr, Resv2    uint32
}

// rsrcUpdate is struct io_uring_rsrc_update, 16 bytes; RING_FDS takes an array of it.
type rsrcUpdate struct {
	Offset, Resv uint32
	Data         uint64
}
