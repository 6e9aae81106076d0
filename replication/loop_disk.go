package replication

import (
	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk/uring"
)

// disks starts the I/O of the engine on the ring and reports its end. Operations in flight
// live in a slab; in steady state nothing is allocated.
type disks struct {
	l      *loop
	stores map[int]*attached // by volume number
	slab   []diskOp
	free   []uint32
	staged []uint32 // started in this turn, not on the ring yet
	zeroes []byte   // zeroPiece bytes, only read

	late map[engine.Token]func() // called when an I/O of a disk that was given up has ended

	release func(*backing) // closes a store off the loop, because that may block
}

// attached is the backing store of one volume while the engine uses it.
type attached struct {
	*backing
	data, meta ioFile
	failed     bool // an I/O has, and that was said
}

// ioFile is a store as the ring sees it, with what it was found unable to do.
type ioFile struct {
	file              uring.File
	chunk             int64 // bytes, of discards.chunk
	noPunch, noZeroes bool
	lanes             [lanes]lane
}

// diskOp is one I/O in flight.
type diskOp struct {
	io    engine.DiskIO
	to    *ioFile
	lane  *lane
	next  uint32  // the slab's index of the one that waits behind it
	done  int64   // bytes
	how   zeroing // of DiskZero
	whole int64   // bytes that are being zeroed in one operation, which says only whether it did; else its result counts
	stop  bool    // its disk was given up: what is left of it is not to be done
}

func newDisks(l *loop, release func(*backing)) (disks, error) {
	zeroes, err := uring.MapMemory(zeroPiece)
	return disks{l: l, stores: make(map[int]*attached), zeroes: zeroes, release: release, late: make(map[engine.Token]func())}, err
}

// add puts an opened backing store into use.
func (d *disks) add(vol int, b *backing) error {
	a := &attached{backing: b, data: ioFile{chunk: b.data.discards.chunk, lanes: newLanes(dataWidth)}, meta: ioFile{lanes: newLanes(metaWidth)}}
	var err error
	if a.data.file, err = d.l.ring.AddFile(b.data.fd); err != nil {
		return err
	}
	if a.meta.file = a.data.file; b.meta != b.data {
		if a.meta.file, err = d.l.ring.AddFile(b.meta.fd); err != nil {
			d.l.ring.RemoveFile(a.data.file)
			return err
		}
	}
	d.stores[vol] = a
	return nil
}

// giveBack takes a backing store out of use; nothing is in flight on it.
func (d *disks) giveBack(vol int) {
	a := d.stores[vol]
	if a == nil {
		return
	}
	delete(d.stores, vol)
	d.l.ring.RemoveFile(a.data.file)
	if a.backing.meta != a.backing.data {
		d.l.ring.RemoveFile(a.meta.file)
	}
	d.release(a.backing)
}

// abandon stops what is in flight on a disk that was given up, as far as it can be stopped.
func (d *disks) abandon(vol int) {
	a := d.stores[vol]
	if a == nil {
		return
	}
	for i := range d.slab {
		if op := &d.slab[i]; op.io.Token != 0 && op.io.Vol == vol {
			op.stop = true
		}
	}
	d.dismiss(&a.data)
	d.dismiss(&a.meta)
	keep := d.staged[:0]
	for _, i := range d.staged {
		if op := &d.slab[i]; op.stop {
			d.finish(uint64(i), op, engine.EIO)
		} else {
			keep = append(keep, i)
		}
	}
	d.staged = keep
	d.l.ring.CancelFile(uring.FD(a.backing.data.fd))
	if a.backing.meta != a.backing.data {
		d.l.ring.CancelFile(uring.FD(a.backing.meta.fd))
	}
}

// start takes an I/O for the next submit. False: the volume has no disk; nothing was started.
func (d *disks) start(io *engine.DiskIO) bool {
	a := d.stores[io.Vol]
	if a == nil {
		return false
	}
	if len(d.free) == 0 {
		d.slab = append(d.slab, diskOp{})
		d.free = append(d.free, uint32(len(d.slab)-1))
	}
	i := d.free[len(d.free)-1]
	d.free = d.free[:len(d.free)-1]
	op := &d.slab[i]
	*op = diskOp{io: *io, to: &a.data}
	if io.Meta {
		op.to = &a.meta
	}
	if io.Op == engine.DiskZero {
		op.how = op.to.first(io.Unmap)
	}
	if op.lane = op.to.lane(io.Op); op.lane.enter() {
		d.staged = append(d.staged, i)
	} else {
		op.lane.wait(d.slab, i)
	}
	return true
}

// submit puts what was started on the ring.
func (d *disks) submit() {
	for _, i := range d.staged {
		d.prep(uint64(i), &d.slab[i])
	}
	d.staged = d.staged[:0]
}

// prep submits what is left of an operation.
func (d *disks) prep(i uint64, op *diskOp) { d.l.ring.Prep(d.next(op), d, i) }

// next is what is left of an operation.
func (d *disks) next(op *diskOp) uring.Op {
	io := &op.io
	switch io.Op {
	case engine.DiskRead:
		return d.read(op.to.file, io.Data[op.done:], io.Off+op.done)
	case engine.DiskWrite:
		o := d.write(op.to.file, io.Data[op.done:], io.Off+op.done)
		if io.FUA {
			o.OpFlags = uring.WriteDSync
		}
		return o
	case engine.DiskFlush:
		return uring.Fsync(op.to.file, true)
	}
	return d.zero(op)
}

// read and write use memory that is registered with the ring as such: buffers of
// requests and of the engine are.
func (d *disks) read(f uring.File, p []byte, off int64) uring.Op {
	if slot, ok := d.l.ring.Slot(p); ok {
		return uring.ReadFixed(f, slot, p, off)
	}
	return uring.Read(f, p, off)
}

func (d *disks) write(f uring.File, p []byte, off int64) uring.Op {
	if slot, ok := d.l.ring.Slot(p); ok {
		return uring.WriteFixed(f, slot, p, off)
	}
	return uring.Write(f, p, off)
}

// Complete gets the end of an operation. What was done in part goes on.
func (d *disks) Complete(i uint64, res int32, _ uint32) {
	op := &d.slab[i]
	if res < 0 {
		d.failed(i, op, unix.Errno(-res))
		return
	}
	did := int64(res)
	if op.whole > 0 {
		did = op.whole
	}
	switch {
	case op.io.Op == engine.DiskFlush:
	case op.stop:
	case did == 0 && op.io.Len > 0:
		d.say(op, engine.ENODATA, "it ends there, and was longer when it was attached: what it had beyond is lost; give it back its size, for a full resync")
		err := engine.ENODATA
		if op.io.Meta {
			err = engine.EIO
		}
		d.finish(i, op, err)
		return
	default:
		if op.done += did; op.done < op.io.Len {
			d.prep(i, op)
			return
		}
	}
	d.finish(i, op, engine.OK)
}

func (d *disks) failed(i uint64, op *diskOp, errno unix.Errno) {
	switch {
	case op.stop:
		d.finish(i, op, engine.Errno(errno))
	case errno == unix.EINTR || errno == unix.EAGAIN:
		d.prep(i, op)
	case op.whole > 0:
		op.how = op.instead(errno)
		d.prep(i, op)
	default:
		d.say(op, engine.Errno(errno), remedies[errno])
		d.finish(i, op, engine.Errno(errno))
	}
}

func (d *disks) finish(i uint64, op *diskOp, err engine.Errno) {
	if next, ok := op.lane.leave(d.slab); ok {
		d.staged = append(d.staged, next)
	}
	d.report(i, op, err)
}

// report gives the place of an operation back, and its end to the engine. It has ended, or was never begun.
func (d *disks) report(i uint64, op *diskOp, err engine.Errno) {
	token := op.io.Token
	*op = diskOp{} // do not keep the engine's memory
	d.free = append(d.free, uint32(i))
	d.l.engine.DiskDone(d.l.now(), token, err)
	if len(d.late) == 0 {
		return
	}
	if ended := d.late[token]; ended != nil {
		delete(d.late, token)
		ended()
	}
}
