package uring

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hangs is an operation that keeps a worker until somebody opens the other end of a FIFO.
func hangs(fifo *byte) Op {
	return Op{Code: opOpenat, Flags: Async, FD: unix.AT_FDCWD, Mem: unsafe.Pointer(fifo), OpFlags: unix.O_RDONLY | unix.O_CLOEXEC}
}

const opOpenat Opcode = 18

// What hangs keeps its worker, and the next operation that needs one goes on only while there is another.
func TestWorkers(t *testing.T) {
	hung := 4*runtime.NumCPU() + 8 // more than the kernel has workers for by itself
	each(t, Config{Entries: 512, Workers: hung + 1}, func(t *testing.T, r *Ring) {
		dir := t.TempDir()
		name := filepath.Join(dir, "fifo")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		path := append([]byte(name), 0)
		ended := 0
		for range hung {
			r.Prep(hangs(&path[0]), CompleterFunc(func(_ uint64, fd int32, _ uint32) {
				if ended++; fd >= 0 {
					unix.Close(int(fd))
				}
			}), 0)
		}
		r.Submit()
		want(t, "fsync beside all that hangs", do(t, r, Fsync(FD(int(f.Fd())), true)), 0)
		if ended != 0 {
			t.Fatalf("%d operations have ended that should hang", ended)
		}
		other, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(other)
		await(t, r, func() bool { return ended == hung })
	})
}
