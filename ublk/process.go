package ublk

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// ProtectProcess prepares this process for serving a disk that the system writes back to: when its threads need memory,
// the kernel will not write to that disk to find some (PR_SET_IO_FLUSHER). Call it before there is a disk: it is for
// all threads, and those and the children that are made later inherit it. It needs CAP_SYS_RESOURCE and a program built without cgo.
func ProtectProcess() error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 1, 0); errno != 0 {
		return fmt.Errorf("ublk: mark this process as an I/O flusher: %w", errno)
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0); err != nil || on != 1 {
		return fmt.Errorf("ublk: mark this process as an I/O flusher: the kernel then says %d (%v)", on, err)
	}
	return nil
}
