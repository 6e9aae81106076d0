package uring

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Why there is no ring.
var (
	ErrMissing  = errors.New("this kernel has no io_uring")
	ErrDisabled = errors.New("io_uring is switched off for this process (sysctl kernel.io_uring_disabled or a seccomp filter)")
	ErrTooOld   = errors.New("io_uring of this kernel is too old (5.19 is needed)")
)

// steps are the flags that are tried, best first; a kernel answers EINVAL to a flag it does not know. One without
// COOP_TASKRUN is older than 5.19 and cannot cancel everything either, which Close needs (docs/ublk.md 4.1).
var steps = []uint32{
	setupSubmitAll | setupSingleIssuer | setupDeferTaskrun | setupNoSQArray,
	setupSubmitAll | setupSingleIssuer | setupDeferTaskrun,
	setupSubmitAll | setupCoopTaskrun,
}

// setup creates the kernel's ring with the first of the flags it takes.
func setup(cfg Config, steps []uint32) (fd int, p params, err error) {
	base := uint32(setupClamp | setupCQSize)
	if cfg.SQE128 {
		base |= setupSQE128
	}
	if cfg.Plain {
		steps = []uint32{0}
	}
	for _, flags := range steps {
		p = params{Flags: base | flags, CQEntries: uint32(cfg.Completions)}
		n, _, errno := unix.Syscall(sysSetup, uintptr(cfg.Entries), uintptr(unsafe.Pointer(&p)), 0)
		if errno == 0 {
			return int(n), p, nil
		}
		if errno != unix.EINVAL {
			return -1, p, setupError(errno)
		}
	}
	return -1, p, fmt.Errorf("%w: %w", ErrTooOld, unix.EINVAL)
}

func setupError(errno unix.Errno) error {
	switch errno {
	case unix.ENOSYS:
		return ErrMissing
	case unix.EPERM, unix.EACCES:
		how := ""
		if b, err := os.ReadFile("/proc/sys/kernel/io_uring_disabled"); err == nil {
			how = "; kernel.io_uring_disabled is " + strings.TrimSpace(string(b))
		}
		return fmt.Errorf("%w%s: %w", ErrDisabled, how, errno)
	}
	return fmt.Errorf("io_uring_setup: %w", errno)
}

// shared is the memory that ring and kernel have in common.
type shared struct {
	ring, entries []byte // mappings

	sqHead, sqTail, sqFlags *uint32
	cqHead, cqTail          *uint32
	sqMask, cqMask          uint32
	sqes                    unsafe.Pointer
	stride                  uintptr // bytes per submission entry
	cqes                    unsafe.Pointer
}

func mapShared(fd int, p *params) (s shared, err error) {
	s.stride = unsafe.Sizeof(sqe{})
	if p.Flags&setupSQE128 != 0 {
		s.stride *= 2
	}
	size := max(p.SQ.Array+4*p.SQEntries, p.CQ.CQEs+16*p.CQEntries)
	prot, flags := unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE
	if s.ring, err = unix.Mmap(fd, mapRing, int(size), prot, flags); err != nil {
		return s, fmt.Errorf("map io_uring: %w", err)
	}
	if s.entries, err = unix.Mmap(fd, mapSQEs, int(uintptr(p.SQEntries)*s.stride), prot, flags); err != nil {
		unix.Munmap(s.ring)
		return s, fmt.Errorf("map io_uring entries: %w", err)
	}
	base := unsafe.Pointer(unsafe.SliceData(s.ring))
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Add(base, off)) }
	s.sqHead, s.sqTail, s.sqFlags = word(p.SQ.Head), word(p.SQ.Tail), word(p.SQ.Flags)
	s.cqHead, s.cqTail = word(p.CQ.Head), word(p.CQ.Tail)
	s.sqMask, s.cqMask = *word(p.SQ.RingMask), *word(p.CQ.RingMask)
	s.sqes, s.cqes = unsafe.Pointer(unsafe.SliceData(s.entries)), unsafe.Add(base, p.CQ.CQEs)
	if p.Flags&setupNoSQArray == 0 {
		for i := range p.SQEntries {
			*word(p.SQ.Array + 4*i) = i // entries are used in order; the indirection stays the identity
		}
	}
	return s, nil
}

func (s *shared) unmap() error {
	return errors.Join(unix.Munmap(s.entries), unix.Munmap(s.ring))
}

func (s *shared) entry(i uint32) *sqe {
	return (*sqe)(unsafe.Add(s.sqes, uintptr(i&s.sqMask)*s.stride))
}

func (s *shared) completion(i uint32) *cqe {
	return (*cqe)(unsafe.Add(s.cqes, uintptr(i&s.cqMask)*unsafe.Sizeof(cqe{})))
}

func (s *shared) ready() uint32 { return atomic.LoadUint32(s.cqTail) }
