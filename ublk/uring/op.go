package uring

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Opcode is an IORING_OP_* number.
type Opcode uint8

const (
	OpNop         Opcode = 0
	OpReadv       Opcode = 1
	OpWritev      Opcode = 2
	OpFsync       Opcode = 3
	OpReadFixed   Opcode = 4
	OpWriteFixed  Opcode = 5
	OpPollAdd     Opcode = 6
	OpSendmsg     Opcode = 9
	OpRecvmsg     Opcode = 10
	OpTimeout     Opcode = 11
	OpAccept      Opcode = 13
	OpAsyncCancel Opcode = 14
	OpLinkTimeout Opcode = 15
	OpConnect     Opcode = 16
	OpFallocate   Opcode = 17
	OpRead        Opcode = 22
	OpWrite       Opcode = 23
	OpSend        Opcode = 26
	OpRecv        Opcode = 27
	OpShutdown    Opcode = 34
	OpUringCmd    Opcode = 46
	OpSendZC      Opcode = 47
)

// Bits of Op.Flags.
const (
	FixedFile uint8 = 1 << 0 // FD is a slot of the file table
	Drain     uint8 = 1 << 1 // start when everything before has completed
	Link      uint8 = 1 << 2 // the next operation starts when this one succeeded
	HardLink  uint8 = 1 << 3 // the next operation starts when this one completed
	Async     uint8 = 1 << 4 // go to a worker at once

	skipSuccess uint8 = 1 << 6
)

// Bits of the flags that Complete gets.
const (
	More         uint32 = 1 << 1 // another completion of the same operation follows
	SockNonEmpty uint32 = 1 << 2 // of a receive: there is more in the socket
	Notify       uint32 = 1 << 3 // zero-copy send: the memory is free again
)

// Bits of Op.Prio for Send, Recv and SendZC.
const (
	PollFirst     uint16 = 1 << 0
	RecvMultishot uint16 = 1 << 1
	FixedBuf      uint16 = 1 << 2 // Buf is a slot of the buffer table
	ReportUsage   uint16 = 1 << 3
)

// Bits of Op.OpFlags for reads and writes, and of Fsync.
const (
	WriteDSync   uint32 = 0x2 // RWF_DSYNC: the data is durable when the write completes
	WriteSync    uint32 = 0x4 // RWF_SYNC
	NoWait       uint32 = 0x8 // RWF_NOWAIT
	FsyncData    uint32 = 0x1 // IORING_FSYNC_DATASYNC
	cancelAll    uint32 = 1 << 0
	cancelFD     uint32 = 1 << 1
	cancelAny    uint32 = 1 << 2
	cancelFixed  uint32 = 1 << 3
	cmdFixed     uint32 = 1 << 0
	pollMulti    uint32 = 1 << 0
	blockDiscard        = 0x12 << 8 // BLOCK_URING_CMD_DISCARD, _IO(0x12, 0)
)

// An Op is one operation, in the kernel's own fields. The functions of this file fill it; the fields are open
// because the kernel keeps adding uses for them.
type Op struct {
	Code    Opcode
	Flags   uint8  // FixedFile, Link, ...
	Prio    uint16 // ioprio; flags of Send and Recv
	FD      int32  // descriptor, or slot with FixedFile
	Buf     uint16 // slot of the buffer table
	File    uint32 // file_index, addr_len
	Len     uint32 // bytes, mostly
	OpFlags uint32 // RWF_*, MSG_*, poll events, ...
	Off     uint64 // byte offset in the file; cmd_op of a command

	// Mem is the memory of the operation, kept reachable until the last completion. When it is nil,
	// Addr goes into the kernel's addr field as a plain number.
	Mem  unsafe.Pointer
	Addr uint64

	Cmd [4]uint64 // addr3, or the payload of a command; the second half needs Config.SQE128
}

// A File is what operations work on: a descriptor, or a slot of the ring's file table (Ring.AddFile).
type File struct {
	n     int32
	fixed bool
}

// FD is the File of a plain descriptor.
func FD(fd int) File { return File{n: int32(fd)} }

func (f File) flags() uint8 {
	if f.fixed {
		return FixedFile
	}
	return 0
}

func fileOp(code Opcode, f File) Op { return Op{Code: code, FD: f.n, Flags: f.flags()} }

func bytesOp(code Opcode, f File, p []byte, off int64) Op {
	op := fileOp(code, f)
	op.Mem, op.Len, op.Off = unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p)), uint64(off)
	return op
}

// Nop completes at once with result 0.
func Nop() Op { return Op{Code: OpNop, FD: -1} }

// Read reads into p at byte offset off; off -1 uses and moves the file position. The result is the
// number of bytes, which may be short, or a negative errno.
func Read(f File, p []byte, off int64) Op { return bytesOp(OpRead, f, p, off) }

// Write writes p at byte offset off, as Read does.
func Write(f File, p []byte, off int64) Op { return bytesOp(OpWrite, f, p, off) }

// ReadFixed is Read into p, which lies in the registered buffer buf.
func ReadFixed(f File, buf int, p []byte, off int64) Op {
	op := bytesOp(OpReadFixed, f, p, off)
	op.Buf = uint16(buf)
	return op
}

// WriteFixed is Write from p, which lies in the registered buffer buf.
func WriteFixed(f File, buf int, p []byte, off int64) Op {
	op := bytesOp(OpWriteFixed, f, p, off)
	op.Buf = uint16(buf)
	return op
}

// ReadKernel reads n bytes into the kernel-owned buffer in slot buf, from its byte start.
// Such buffers are put there by a driver (ublk zero copy) and have no address here.
func ReadKernel(f File, buf int, start int64, n int, off int64) Op {
	op := fileOp(OpReadFixed, f)
	op.Buf, op.Addr, op.Len, op.Off = uint16(buf), uint64(start), uint32(n), uint64(off)
	return op
}

// WriteKernel writes n bytes out of the kernel-owned buffer in slot buf, from its byte start.
func WriteKernel(f File, buf int, start int64, n int, off int64) Op {
	op := ReadKernel(f, buf, start, n, off)
	op.Code = OpWriteFixed
	return op
}

// Readv reads into the vectors at byte offset off. The slice must stay unchanged until it is submitted.
func Readv(f File, iov []unix.Iovec, off int64) Op {
	op := fileOp(OpReadv, f)
	op.Mem, op.Len, op.Off = unsafe.Pointer(unsafe.SliceData(iov)), uint32(len(iov)), uint64(off)
	return op
}

// Writev writes the vectors at byte offset off. The slice must stay unchanged until it is submitted.
func Writev(f File, iov []unix.Iovec, off int64) Op {
	op := Readv(f, iov, off)
	op.Code = OpWritev
	return op
}

// Fsync makes a file durable; with dataOnly it leaves out metadata that reading back does not need.
func Fsync(f File, dataOnly bool) Op {
	op := fileOp(OpFsync, f)
	if dataOnly {
		op.OpFlags = FsyncData
	}
	return op
}

// Fallocate is fallocate(2) with FALLOC_FL_* mode on n bytes at off.
func Fallocate(f File, mode uint32, off, n int64) Op {
	op := fileOp(OpFallocate, f)
	op.Off, op.Addr, op.Len = uint64(off), uint64(n), mode
	return op
}

// Recv receives into p with MSG_* flags; with MSG_WAITALL it completes when p is full or the stream ends.
func Recv(f File, p []byte, msgFlags uint32) Op {
	op := bytesOp(OpRecv, f, p, 0)
	op.OpFlags = msgFlags
	return op
}

// Send sends p with MSG_* flags. MSG_WAITALL makes the kernel send everything before it completes;
// MSG_NOSIGNAL is always set.
func Send(f File, p []byte, msgFlags uint32) Op {
	op := bytesOp(OpSend, f, p, 0)
	op.OpFlags = msgFlags | unix.MSG_NOSIGNAL
	return op
}

// SendZC sends p without copying. It completes twice: with the result and More, then with Notify when p is free.
func SendZC(f File, p []byte, msgFlags uint32) Op {
	op := Send(f, p, msgFlags)
	op.Code = OpSendZC
	return op
}

// Recvmsg receives into the vectors of m. m and its vectors must stay unchanged until they are submitted.
func Recvmsg(f File, m *unix.Msghdr, msgFlags uint32) Op {
	op := fileOp(OpRecvmsg, f)
	op.Mem, op.Len, op.OpFlags = unsafe.Pointer(m), 1, msgFlags
	return op
}

// Sendmsg sends the vectors of m, as Send does.
func Sendmsg(f File, m *unix.Msghdr, msgFlags uint32) Op {
	op := Recvmsg(f, m, msgFlags|unix.MSG_NOSIGNAL)
	op.Code = OpSendmsg
	return op
}

// Accept takes one connection of a listening socket; the result is its descriptor. flags are SOCK_*.
func Accept(f File, flags uint32) Op {
	op := fileOp(OpAccept, f)
	op.OpFlags = flags
	return op
}

// Connect connects a socket to the raw address sa of n bytes.
func Connect(f File, sa *unix.RawSockaddrAny, n uint32) Op {
	op := fileOp(OpConnect, f)
	op.Mem, op.Off = unsafe.Pointer(sa), uint64(n)
	return op
}

// Shutdown is shutdown(2) with SHUT_* how.
func Shutdown(f File, how uint32) Op {
	op := fileOp(OpShutdown, f)
	op.Len = how
	return op
}

// Poll waits for POLL* events; the result is what is ready. With multi it completes again and again, with More set.
func Poll(f File, events uint32, multi bool) Op {
	op := fileOp(OpPollAdd, f)
	op.OpFlags = events
	if multi {
		op.Len = pollMulti
	}
	return op
}

// Timeout completes with -ETIME after d.
func Timeout(d time.Duration) Op {
	return Op{Code: OpTimeout, FD: -1, Len: 1, Addr: uint64(max(d, 0))}
}

// Command is a driver's own command; fill Cmd with its payload.
func Command(f File, cmdOp uint32) Op {
	op := fileOp(OpUringCmd, f)
	op.Off = uint64(cmdOp)
	return op
}

// Discard discards n bytes at off of a block device (Linux 6.12; before that the result is -EOPNOTSUPP or -EINVAL
// and the BLKDISCARD ioctl remains). Both are multiples of the logical block size. It goes to a worker at once: tried first
// in a way that may not wait, it gets -EOPNOTSUPP from the device mapper, which can discard and cannot promise not to wait.
func Discard(f File, off, n int64) Op {
	op := Command(f, blockDiscard)
	op.Flags |= Async
	op.Addr, op.Cmd[0] = uint64(off), uint64(n)
	return op
}
