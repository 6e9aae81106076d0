package ublktest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// disk is the started device, opened for direct I/O as an application would.
type disk struct {
	t    testing.TB
	fd   int
	name string // "ublkb0"
	mem  []byte // aligned memory for transfers
}

const diskMemory = 4 << 20

func openDisk(t testing.TB, path string, flags int) *disk {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	mem, err := uring.MapMemory(diskMemory)
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{t: t, fd: fd, name: path[len("/dev/"):], mem: mem}
	t.Cleanup(func() { d.close(); uring.UnmapMemory(mem) })
	return d
}

func (d *disk) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}

// write writes p at off and returns the errno of the first failure.
func (d *disk) write(p []byte, off int64) error {
	copy(d.mem, p)
	n, err := unix.Pwrite(d.fd, d.mem[:len(p)], off)
	if err == nil && n != len(p) {
		return fmt.Errorf("short write: %d of %d", n, len(p))
	}
	return err
}

func (d *disk) mustWrite(p []byte, off int64) {
	d.t.Helper()
	if err := d.write(p, off); err != nil {
		d.t.Fatalf("write of %d bytes at %d: %v", len(p), off, err)
	}
}

// read reads n bytes at off into memory that is used again by the next call.
func (d *disk) read(n int, off int64) ([]byte, error) {
	p := d.mem[:n]
	for i := range p {
		p[i] = 0xee // what a read that moves nothing would leave
	}
	got, err := unix.Pread(d.fd, p, off)
	if err == nil && got != n {
		return nil, fmt.Errorf("short read: %d of %d", got, n)
	}
	return p, err
}

// wantData compares the disk with the model from off on.
func (d *disk) wantData(want []byte, off int64) {
	d.t.Helper()
	for at := 0; at < len(want); at += diskMemory {
		n := min(diskMemory, len(want)-at)
		got, err := d.read(n, off+int64(at))
		if err != nil {
			d.t.Fatalf("read of %d bytes at %d: %v", n, off+int64(at), err)
		}
		if !bytes.Equal(got, want[at:at+n]) {
			for i := range got {
				if got[i] != want[at+i] {
					d.t.Fatalf("byte %d of the disk is %#x instead of %#x", off+int64(at+i), got[i], want[at+i])
				}
			}
		}
	}
}

func (d *disk) flush() error { return unix.Fsync(d.fd) }

// rangeIoctl is BLKDISCARD and its like.
func (d *disk) rangeIoctl(req uintptr, off, n int64) error {
	arg := [2]uint64{uint64(off), uint64(n)}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), req, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}

func (d *disk) intIoctl(req uintptr) int64 {
	d.t.Helper()
	var v int64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), req, uintptr(unsafe.Pointer(&v))); errno != 0 {
		d.t.Fatalf("ioctl %#x: %v", req, errno)
	}
	return v
}

// knob reads a setting of the queue in sysfs.
func (d *disk) knob(name string) string {
	d.t.Helper()
	b, err := os.ReadFile("/sys/block/" + d.name + "/queue/" + name)
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
