package uring

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Features is what this kernel's io_uring can do for this process.
type Features struct {
	Deferred  bool // completion work runs only when the owner waits (DEFER_TASKRUN)
	FixedSend bool // Send and Recv take registered buffers (FixedBuf)
	NoIOWait  bool // an idle ring does not count as waiting for I/O

	ops [256]bool
}

// Has says that the kernel knows an operation.
func (f *Features) Has(op Opcode) bool { return f.ops[op] }

// Probe asks the kernel, by trying. It fails as New does.
func Probe() (*Features, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := New(Config{Entries: 8, Buffers: 1})
	if err != nil {
		return nil, err
	}
	f := &Features{Deferred: r.Deferred(), NoIOWait: r.noIOWait != 0}
	err = f.probe(r)
	if cerr := r.Close(noDeadline); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// probeHeader is struct io_uring_probe with its table of 256 struct io_uring_probe_op.
type probeHeader struct {
	LastOp, Len uint8
	Resv        uint16
	Resv2       [3]uint32
	Ops         [256]struct {
		Op, Resv uint8
		Flags    uint16
		Resv2    uint32
	}
}

func (f *Features) probe(r *Ring) error {
	p := new(probeHeader)
	if _, err := r.register(registerProbe, unsafe.Pointer(p), uintptr(len(p.Ops))); err != nil {
		return fmt.Errorf("probe io_uring: %w", err)
	}
	for i, op := range p.Ops {
		f.ops[i] = op.Flags&1 != 0 // IO_URING_OP_SUPPORTED
	}
	fixed, err := probeFixedSend(r)
	f.FixedSend = fixed
	return err
}

// probeFixedSend sends a byte from a registered buffer; kernels before 7.2 answer EINVAL.
func probeFixedSend(r *Ring) (bool, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	mem, err := MapMemory(1)
	if err != nil {
		return false, err
	}
	defer UnmapMemory(mem)
	buf, err := r.AddBuffer(mem)
	if err != nil {
		return false, err
	}
	op := Send(FD(fds[0]), mem[:1], 0)
	op.Prio, op.Buf = FixedBuf, uint16(buf)
	var res int32
	done := false
	r.Prep(op, CompleterFunc(func(_ uint64, n int32, _ uint32) { res, done = n, true }), 0)
	for !done {
		if _, err := r.Wait(noDeadline); err != nil {
			return false, err
		}
	}
	return res == 1, r.RemoveBuffer(buf)
}
