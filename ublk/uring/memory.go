package uring

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// MapMemory returns size bytes of zeroed, page-aligned memory outside the Go heap, not inherited by
// children. Size is rounded up to pages. UnmapMemory gives it back.
func MapMemory(size int64) ([]byte, error) {
	page := int64(unix.Getpagesize())
	size = (size + page - 1) / page * page
	p, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	// A child that shares these pages would turn the next write here into a copy, behind the kernel's back.
	if err := unix.Madvise(p, unix.MADV_DONTFORK); err != nil {
		unix.Munmap(p)
		return nil, fmt.Errorf("map %d bytes: no fork: %w", size, err)
	}
	return p, nil
}

// UnmapMemory returns memory of MapMemory. No operation may use it any more; the slice must be the one MapMemory returned.
func UnmapMemory(p []byte) error { return unix.Munmap(p) }
