package disktest

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"github.com/urbd/urbd/replication/engine"
)

// SectorSize is what a disk writes in one piece, in bytes.
const SectorSize = 512

// A Disk is one block device.
type Disk struct {
	// WriteThrough makes every finished write durable: a disk without a volatile cache.
	WriteThrough bool

	// Changed, if set, is told of every range whose content, or whose fate in a
	// power cut, may have changed.
	Changed func(off, n int64)

	// Block is what I/Os are aligned to, in bytes; 0: SectorSize. What is written in one piece is a sector all the same.
	Block int64

	size    int64
	rng     *rand.Rand
	now     pages // what a reader sees
	safe    pages // what the medium holds for certain
	cache   []*record
	flights []*Flight
	seq     uint64
	rules   []*Rule
}

// record is a finished write that is not durable, in order of its end.
type record struct {
	off, n int64
	data   []byte // nil: zeroes
	seq    uint64
	dead   []bool // sectors that were written durably since; nil: none
}

// New makes an empty disk of size bytes. rng decides what a power cut leaves,
// and which rules with a chance apply.
func New(size int64, rng *rand.Rand) *Disk {
	return &Disk{size: size, rng: rng, now: pages{}, safe: pages{}}
}

// Size is the size in bytes.
func (d *Disk) Size() int64 { return d.size }

// A Flight is an I/O between its start and its end.
type Flight struct {
	d    *Disk
	io   engine.DiskIO
	err  engine.Errno
	torn bool   // a write that fails leaves some of its sectors
	upTo uint64 // of a flush: what it covers
	sum  uint32 // of the data of a write
	over bool
}

// Start begins io. Offsets outside of the disk and broken alignment are bugs
// of the caller.
func (d *Disk) Start(io engine.DiskIO) *Flight {
	if io.Op != engine.DiskFlush && ((io.Off|io.Len)%max(SectorSize, d.Block) != 0 || io.Off < 0 || io.Len <= 0 || io.Off > d.size-io.Len) {
		panic(fmt.Sprintf("disktest: %v of %d bytes at %d on a disk of %d bytes", io.Op, io.Len, io.Off, d.size))
	}
	if (io.Op == engine.DiskRead || io.Op == engine.DiskWrite) && int64(len(io.Data)) != io.Len {
		panic(fmt.Sprintf("disktest: %v of %d bytes with %d bytes of memory", io.Op, io.Len, len(io.Data)))
	}
	f := &Flight{d: d, io: io, upTo: d.seq}
	f.err, f.torn = d.verdict(io)
	if io.Op == engine.DiskWrite {
		f.sum = checksum(io.Data)
	}
	d.flights = append(d.flights, f)
	d.changed(f.rangeOf())
	return f
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// writes reports whether the flight changes content.
func (f *Flight) writes() bool { return f.io.Op == engine.DiskWrite || f.io.Op == engine.DiskZero }

// rangeOf is the range that the flight may change.
func (f *Flight) rangeOf() (off, n int64) {
	if !f.writes() {
		return 0, 0
	}
	return f.io.Off, f.io.Len
}

// Finish ends the flight: now it has happened, or failed. The memory of a
// write must not have changed since Start.
func (f *Flight) Finish() engine.Errno {
	d := f.leave()
	switch {
	case f.err != engine.OK:
		if f.torn && f.writes() {
			d.tear(f.io, func(off, n int64, data []byte) { d.finishWrite(off, n, data, false) })
		}
	case f.io.Op == engine.DiskRead:
		d.now.read(f.io.Off, f.io.Data)
	case f.io.Op == engine.DiskFlush:
		d.flush(f.upTo)
	default:
		d.finishWrite(f.io.Off, f.io.Len, f.payload(), f.io.FUA)
	}
	d.changed(f.rangeOf())
	return f.err
}

// Drop ends the flight without having happened: its owner died before the
// device took it.
func (f *Flight) Drop() {
	f.leave().changed(f.rangeOf())
}

// leave takes the flight off the list.
func (f *Flight) leave() *Disk {
	if f.over {
		panic("disktest: a flight ends twice")
	}
	f.over = true
	d := f.d
	for i, o := range d.flights {
		if o == f {
			d.flights = append(d.flights[:i], d.flights[i+1:]...)
			break
		}
	}
	if f.io.Op == engine.DiskWrite && checksum(f.io.Data) != f.sum {
		panic(fmt.Sprintf("disktest: the memory of a write of %d bytes at %d changed while it was in flight", f.io.Len, f.io.Off))
	}
	return d
}

func (f *Flight) payload() []byte {
	if f.io.Op == engine.DiskZero {
		return nil
	}
	return f.io.Data
}

// finishWrite puts a write where readers see it, and with durable on the medium.
func (d *Disk) finishWrite(off, n int64, data []byte, durable bool) {
	d.now.write(off, n, data)
	if !durable && !d.WriteThrough {
		r := &record{off: off, n: n, seq: d.nextSeq()}
		if data != nil && !allZero(data) {
			r.data = append([]byte(nil), data...)
		}
		d.cache = append(d.cache, r)
		return
	}
	d.safe.write(off, n, data)
	for _, r := range d.cache {
		r.overwrite(off, n)
	}
}

func (d *Disk) nextSeq() uint64 {
	d.seq++
	return d.seq
}

// overwrite notes that [off, off+n) was written durably after r: what r has there cannot come back.
func (r *record) overwrite(off, n int64) {
	from, to := max(off, r.off), min(off+n, r.off+r.n)
	for ; from < to; from += SectorSize {
		if r.dead == nil {
			r.dead = make([]bool, r.n/SectorSize)
		}
		r.dead[(from-r.off)/SectorSize] = true
	}
}

// sector is what r still brings to the sector at off.
func (r *record) sector(off int64) (data []byte, ok bool) {
	at := off - r.off
	switch {
	case at < 0 || at >= r.n || r.dead != nil && r.dead[at/SectorSize]:
		return nil, false
	case r.data == nil:
		return zeroPage[:SectorSize], true
	}
	return r.data[at : at+SectorSize], true
}

// sectors calls f for every sector of r that still waits.
func (r *record) sectors(f func(off int64, data []byte)) {
	for at := int64(0); at < r.n; at += SectorSize {
		if r.dead != nil && r.dead[at/SectorSize] {
			continue
		}
		var data []byte
		if r.data != nil {
			data = r.data[at : at+SectorSize]
		}
		f(r.off+at, data)
	}
}

// flush makes durable what was finished up to seq.
func (d *Disk) flush(seq uint64) {
	n := 0
	for n < len(d.cache) && d.cache[n].seq <= seq {
		r := d.cache[n]
		if r.dead == nil {
			d.safe.write(r.off, r.n, r.data)
		} else {
			r.sectors(func(off int64, data []byte) { d.safe.write(off, SectorSize, data) })
		}
		n++
	}
	done := d.cache[:n]
	d.cache = append([]*record(nil), d.cache[n:]...)
	for _, r := range done {
		d.changed(r.off, r.n)
	}
}

func (d *Disk) changed(off, n int64) {
	if d.Changed != nil && n > 0 {
		d.Changed(off, n)
	}
}
