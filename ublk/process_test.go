package ublk

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Threads that were there before are marked as well. Where the process may not do that, it is told.
func TestProtectProcess(t *testing.T) {
	const threads = 3
	ready, ask, flags := make(chan bool), make(chan bool), make(chan int)
	for range threads {
		go func() {
			runtime.LockOSThread()
			ready <- true
			<-ask
			on, _ := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0)
			flags <- on
		}()
	}
	for range threads {
		<-ready
	}
	err := ProtectProcess()
	close(ask)
	for range threads {
		if on := <-flags; err == nil && on != 1 {
			t.Errorf("a thread is not an I/O flusher: %d", on)
		}
	}
	if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) { // no capability; a program with cgo
		t.Error(err)
	}
}
