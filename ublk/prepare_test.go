package ublk

import (
	"errors"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// toPrepare is a device whose character device can be mapped.
func toPrepare(t *testing.T) *Device {
	t.Helper()
	fakeHost(t)
	driver.open = func(int) (int, error) { return unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0) }
	d, err := Create(t.Context(), Config{ID: 3, Depth: 5, Geometry: Geometry{Size: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// resident is how many pages of a mapping have memory; ENOMEM: it is none.
func resident(mem []byte) (n int, err error) {
	pages := make([]byte, len(mem)/pageSize())
	start := uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, start, uintptr(len(mem)), uintptr(unsafe.Pointer(unsafe.SliceData(pages)))); errno != 0 {
		return 0, errno
	}
	for _, p := range pages {
		n += int(p & 1)
	}
	return n, nil
}

// Serve finds the memory of its queues there, all of it, and gives it back in the end.
func TestPrepare(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d := toPrepare(t)
	if err := d.Prepare(); err != nil {
		t.Fatal(err)
	}
	mem := d.prepared[0]
	if err := d.Prepare(); err != nil || unsafe.SliceData(d.prepared[0]) != unsafe.SliceData(mem) {
		t.Fatalf("it is prepared again: %v", err)
	}
	if n, err := resident(mem); len(mem) != 5*512<<10 || n != len(mem)/pageSize() || err != nil {
		t.Fatalf("%d pages of %d bytes are there: %v", n, len(mem), err)
	}
	ring, err := uring.New(d.RingConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Serve(ring, nil); err != nil {
		t.Fatal(err)
	}
	if got := d.serving.queues[0].pool.maps[0].mem; unsafe.SliceData(got) != unsafe.SliceData(mem) {
		t.Error("the queue has other memory")
	}
	if err := d.Prepare(); err != nil || len(d.prepared) != 0 {
		t.Errorf("a device that is served is prepared: %v", err)
	}
	if err := errors.Join(ring.Close(time.Now().Add(20*time.Second)), d.Abandon(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := resident(mem); err != unix.ENOMEM {
		t.Errorf("the memory outlives the device: %v", err)
	}
}

// A Serve that comes in the middle gets what there is, and nothing is filled behind its back.
func TestServeDuringPrepare(t *testing.T) {
	d := toPrepare(t)
	mem, err := uring.MapMemory(3 * fillPiece)
	if err != nil {
		t.Fatal(err)
	}
	if !d.prepare(0, mem) {
		t.Fatal("a new device is not prepared")
	}
	if more, err := d.fill(0, 0); !more || err != nil {
		t.Fatalf("the first piece: %v, %v", more, err)
	}
	if n, err := resident(mem); n != fillPiece/pageSize() || err != nil {
		t.Errorf("a piece has %d pages: %v", n, err)
	}
	ring, err := uring.New(uring.Config{}) // has no room for the queue
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close(time.Time{})
	if d.ServeQueue(0, ring, nil) == nil {
		t.Fatal("it is served by a ring without tables")
	}
	if _, err := resident(mem); err != unix.ENOMEM {
		t.Errorf("a queue that could not be served keeps its memory: %v", err)
	}
	if more, err := d.fill(0, fillPiece); more || err != nil {
		t.Errorf("it is filled all the same: %v, %v", more, err)
	}
	if err := d.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// What nobody has served is given back with the device, and a device that has gone takes nothing.
func TestPreparedForNobody(t *testing.T) {
	d := toPrepare(t)
	if err := d.Prepare(); err != nil {
		t.Fatal(err)
	}
	mem := d.prepared[0]
	if err := d.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := resident(mem); err != unix.ENOMEM {
		t.Errorf("the memory outlives the device: %v", err)
	}
	if err := d.Prepare(); err != nil || len(d.prepared) != 0 {
		t.Errorf("a device that has gone is prepared: %v", err)
	}
}
