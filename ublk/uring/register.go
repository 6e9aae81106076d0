package uring

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrTableFull says that the file or buffer table has no free slot (or no run of them).
var ErrTableFull = errors.New("ring's table is full")

// table says which slots of a registered table are taken.
type table struct{ used []bool }

// take finds n slots in a row and marks them.
func (t *table) take(n int) (int, error) {
	run := 0
	for i, used := range t.used {
		if run++; used {
			run = 0
		}
		if run == n {
			for j := i - n + 1; j <= i; j++ {
				t.used[j] = true
			}
			return i - n + 1, nil
		}
	}
	return 0, fmt.Errorf("%w: %d slots, none of them with %d free in a row", ErrTableFull, len(t.used), n)
}

func (t *table) give(i, n int) {
	for j := i; j < i+n; j++ {
		if !t.used[j] {
			panic("uring: a slot is given back twice")
		}
		t.used[j] = false
	}
}

func (r *Ring) register(op uintptr, arg unsafe.Pointer, n uintptr) (int, error) {
	got, _, errno := unix.Syscall6(sysRegister, uintptr(r.fd), op, uintptr(arg), n, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(got), nil
}

// makeTables registers the sparse tables that the configuration asks for.
func (r *Ring) makeTables(cfg Config) error {
	for _, t := range []struct {
		what string
		n    int
		op   uintptr
		tab  *table
	}{{"file", cfg.Files, registerFiles2, &r.files}, {"buffer", cfg.Buffers, registerBuffers2, &r.buffers}} {
		if t.n == 0 {
			continue
		}
		reg := rsrcRegister{Nr: uint32(t.n), Flags: rsrcSparse}
		if _, err := r.register(t.op, unsafe.Pointer(&reg), unsafe.Sizeof(reg)); err != nil {
			return fmt.Errorf("register a table of %d %ss: %w", t.n, t.what, err)
		}
		t.tab.used = make([]bool, t.n)
	}
	return nil
}

// AddFile puts a descriptor into the file table, which saves the kernel two atomic operations per use. The descriptor has to stay
// open until RemoveFile.
//
// A kernel before 6.14 may have the table of old, in which a removed file stays open until every operation that was begun before has
// ended, whatever it works on: a receive that waits for hours would hold a disk that was let go. There AddFile gives the plain
// descriptor back.
func (r *Ring) AddFile(fd int) (File, error) {
	if r.plain {
		return FD(fd), nil
	}
	i, err := r.files.take(1)
	if err != nil {
		return File{}, err
	}
	if err := r.updateFile(i, fd); err != nil {
		r.files.give(i, 1)
		return File{}, fmt.Errorf("register file: %w", err)
	}
	return File{n: int32(i), fixed: true}, nil
}

// RemoveFile takes a file of AddFile out of the table; the kernel closes what it names when the descriptor is closed and the last
// operation on it has completed. A plain File is left alone.
func (r *Ring) RemoveFile(f File) error {
	if !f.fixed || r.state == ringClosed {
		return nil
	}
	r.files.give(int(f.n), 1)
	if err := r.updateFile(int(f.n), -1); err != nil {
		return fmt.Errorf("unregister file: %w", err)
	}
	return nil
}

func (r *Ring) updateFile(i, fd int) error {
	r.scratch.file = int32(fd)
	up := rsrcUpdate2{Offset: uint32(i), Data: uint64(uintptr(unsafe.Pointer(&r.scratch.file))), Nr: 1}
	_, err := r.register(registerFilesUpdate2, unsafe.Pointer(&up), unsafe.Sizeof(up))
	return err
}

// AddBuffer pins p (page-aligned memory of MapMemory, best) and puts it into the buffer table for ReadFixed and WriteFixed.
// At most 1 GiB.
func (r *Ring) AddBuffer(p []byte) (int, error) {
	i, err := r.buffers.take(1)
	if err != nil {
		return 0, err
	}
	if err := r.updateBuffer(i, p); err != nil {
		r.buffers.give(i, 1)
		return 0, fmt.Errorf("register a buffer of %d bytes: %w", len(p), err)
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	r.regions = append(r.regions, region{start, start + uintptr(len(p)), i})
	return i, nil
}

// region is the address range of a buffer in the table.
type region struct {
	start, end uintptr
	slot       int
}

// Slot finds the buffer of AddBuffer that p lies in. Operations on it may be the
// fixed ones, which spare the kernel looking up and pinning pages each time.
func (r *Ring) Slot(p []byte) (slot int, ok bool) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	for _, g := range r.regions {
		if start >= g.start && start+uintptr(len(p)) <= g.end {
			return g.slot, true
		}
	}
	return 0, false
}

// RemoveBuffer takes the buffer out of the table; it is unpinned when the last operation on it has completed.
func (r *Ring) RemoveBuffer(i int) error {
	if r.state == ringClosed {
		return nil
	}
	r.buffers.give(i, 1)
	r.regions = slices.DeleteFunc(r.regions, func(g region) bool { return g.slot == i })
	if err := r.updateBuffer(i, nil); err != nil {
		return fmt.Errorf("unregister buffer: %w", err)
	}
	return nil
}

func (r *Ring) updateBuffer(i int, p []byte) error {
	r.scratch.iov = [2]uint64{uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))), uint64(len(p))}
	up := rsrcUpdate2{Offset: uint32(i), Data: uint64(uintptr(unsafe.Pointer(&r.scratch.iov))), Nr: 1}
	_, err := r.register(registerBuffersUpdate, unsafe.Pointer(&up), unsafe.Sizeof(up))
	runtime.KeepAlive(p)
	return err
}

// ReserveBuffers takes n empty slots in a row, for a driver that fills them itself, and returns the first.
func (r *Ring) ReserveBuffers(n int) (int, error) { return r.buffers.take(n) }

// ReleaseBuffers gives slots of ReserveBuffers back. The driver must have emptied them.
func (r *Ring) ReleaseBuffers(first, n int) { r.buffers.give(first, n) }

// limitWorkers sets how many threads the kernel has for what blocks on disks and files; those for sockets stay as they are.
func (r *Ring) limitWorkers(n int) error {
	if n <= 0 {
		return nil
	}
	r.scratch.workers = [2]uint32{uint32(n), 0}
	if _, err := r.register(registerWorkers, unsafe.Pointer(&r.scratch.workers), 2); err != nil {
		return fmt.Errorf("have %d workers: %w", n, err)
	}
	return nil
}

// registerSelf registers the ring's own descriptor with this thread, which saves a lookup per system call.
// A kernel without it (before 5.18) uses the descriptor.
func (r *Ring) registerSelf() {
	up := rsrcUpdate{Offset: ^uint32(0), Data: uint64(r.fd)}
	if n, err := r.register(registerRingFDs, unsafe.Pointer(&up), 1); err == nil && n == 1 {
		r.enterFD, r.enterReg = int(up.Offset), enterRegisteredRing
	}
}

// unregisterSelf drops the thread's reference; while it lasts, closing the descriptor does not end the ring.
func (r *Ring) unregisterSelf() {
	if r.enterReg == 0 {
		return
	}
	up := rsrcUpdate{Offset: uint32(r.enterFD)}
	r.register(unregisterRingFDs, unsafe.Pointer(&up), 1)
	r.enterFD, r.enterReg = r.fd, 0
}
