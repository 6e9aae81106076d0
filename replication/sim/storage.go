package sim

import (
	"slices"
	"time"

	"github.com/urbd/urbd/replication/disktest"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
)

// disks are the backing store of one volume of one node. They outlive the daemon.
type disks struct {
	n       *node
	vol     *volume
	data    *disktest.Disk
	meta    *disktest.Disk // == data for internal metadata
	layout  metadata.Layout
	open    bool // the daemon has it
	flights int  // of the daemon that lives
	running []*ioFlight
	old     int // I/Os of dead daemons that the device still works on
	broken  bool
	mute    engine.Instant // it answers nothing before

	told       bool                     // that its blocks are too large
	block      int64                    // logical, bytes
	remembered engine.RememberBlockSize // what the owner of the daemon keeps
	unreadable *disktest.Rule           // of the activity log, when it was attached last

	image imageCache
	slots map[uint16]uint32 // of the activity log, as written in this life of the daemon
}

type ioFlight struct {
	disk *disktest.Disk
	f    *disktest.Flight
	over bool
}

func newDisks(n *node, i int) *disks {
	vp := &n.s.profile.volumes[i]
	d := newDisk(n, n.s.vols[i], vp.block[n.index], vp.backing[n.index])
	d.listen()
	return d
}

// newDisk is a disk with just created metadata.
func newDisk(n *node, v *volume, block, backing int64) *disks {
	s := n.s
	d := &disks{n: n, vol: v, block: block}
	vp := &s.profile.volumes[v.index]
	d.data = disktest.New(backing, s.rng)
	d.data.Block = block
	d.meta = d.data
	if vp.meta.External {
		d.meta = disktest.New(vp.metaSize, s.rng)
	}
	l, err := vp.place(backing)
	if err != nil {
		s.fail("%v", err)
	}
	d.layout = l
	zeroes := make([]byte, 4096)
	for w := range l.Create(metadata.New(l, s.rng.Uint64()|1)) {
		for off := w.Off; w.Data == nil && off < w.Off+w.Len; off += 4096 {
			d.meta.WriteAt(zeroes[:min(4096, w.Off+w.Len-off)], off)
		}
		if w.Data != nil {
			d.meta.WriteAt(w.Data, w.Off)
		}
	}
	d.data.WriteThrough = !s.profile.volatile[n.index]
	d.meta.WriteThrough = d.data.WriteThrough
	return d
}

// listen follows what changes on the disk.
func (d *disks) listen() {
	d.data.Changed = func(off, n int64) {
		d.vol.touched(off, n)
		if d.meta == d.data && off+n > d.layout.DataLimit {
			d.image.changed()
		}
	}
	if d.meta != d.data {
		d.meta.Changed = func(int64, int64) { d.image.changed() }
	}
}

// startDisk gives an I/O to its device; it ends some time later.
func (n *node) startDisk(io engine.DiskIO) {
	s := n.s
	d := n.disks[s.volumeIndex(io.Vol)]
	if !d.open {
		s.fail("%s: %v on the disk of volume %d, which was given back", n.name, io.Op, io.Vol)
	}
	disk := d.data
	if io.Meta {
		disk = d.meta
	} else if io.Op != engine.DiskFlush && io.Off > d.layout.DataLimit-io.Len {
		s.fail("%s: data %v of %d bytes at %d is beyond the data area of %d", n.name, io.Op, io.Len, io.Off, d.layout.DataLimit)
	}
	if io.Meta && io.Op == engine.DiskWrite && io.Off >= d.layout.AL && io.Off < d.layout.AL+int64(d.layout.ALBlocks())*4096 {
		d.logged(io.Data)
	}
	fl := &ioFlight{disk: disk, f: disk.Start(io)}
	d.running = append(d.running, fl)
	d.flights++
	delay := between(s.rng, s.profile.diskDelay[n.index])
	if io.Op == engine.DiskFlush {
		delay *= 3
	}
	life := n.life
	s.after(delay, func() { d.finished(fl, io, life) })
}

// logged counts the transactions of the activity log that reuse a slot.
func (d *disks) logged(block []byte) {
	blk, err := metadata.DecodeALBlock(block)
	if err != nil || blk.Init {
		d.slots = map[uint16]uint32{}
		return
	}
	for _, u := range blk.Updates {
		if old, ok := d.slots[u.Slot]; ok && old != u.Extent {
			d.n.s.counts[LogTurnover]++
		}
		d.slots[u.Slot] = u.Extent
	}
}

func (d *disks) finished(fl *ioFlight, io engine.DiskIO, life int) {
	if fl.over {
		return
	}
	n := d.n
	if wait := max(d.mute, n.asleep) - n.s.now; wait > 0 {
		n.s.after(wait, func() { d.finished(fl, io, life) })
		return
	}
	fl.over = true
	d.running = slices.DeleteFunc(d.running, func(o *ioFlight) bool { return o == fl })
	err := fl.f.Finish()
	if life != n.life {
		d.old--
		n.s.counts[FlightOutlived]++
		return
	}
	if err != engine.OK {
		n.tell("volume %d: %v meta=%v of %d bytes at %d fails", io.Vol, io.Op, io.Meta, io.Len, io.Off)
		d.countError(io)
	}
	d.flights--
	n.eng.DiskDone(n.now(), io.Token, err)
	n.touched()
}

func (d *disks) countError(io engine.DiskIO) {
	c := &d.n.s.counts
	d.broken = true
	if d.n.s.cond.slow && resyncing.has(d.n.state(d.vol.index).Conn) {
		c[SlowResyncError]++
	}
	switch {
	case io.Meta:
		c[MetaError]++
	case io.Op == engine.DiskRead:
		c[DiskErrorRead]++
	case io.Op == engine.DiskFlush:
		c[DiskErrorFlush]++
	default:
		c[DiskErrorWrite]++
	}
}

// died leaves the disks as the end of the daemon, or of the power, does.
func (d *disks) died(power bool) {
	s := d.n.s
	if power {
		for _, disk := range d.both() {
			volatile := false
			disk.Volatile(func(int64, int64) { volatile = true })
			if disk.InFlight() > 0 {
				s.counts[FlightTorn]++
			} else if volatile {
				s.counts[CachedDataLost]++
			}
			disk.PowerCut()
		}
		for _, fl := range d.running {
			fl.over = true
		}
		d.running, d.old = nil, 0
	} else {
		for _, fl := range slices.Clone(d.running) {
			if s.rng.IntN(3) == 0 {
				fl.over = true
				fl.f.Drop()
				continue
			}
			fl.f.Own()
		}
		d.running = slices.DeleteFunc(d.running, func(fl *ioFlight) bool { return fl.over })
		d.old = len(d.running)
	}
	d.flights, d.open = 0, false
	d.image.changed()
}

func (d *disks) both() []*disktest.Disk {
	if d.meta == d.data {
		return []*disktest.Disk{d.data}
	}
	return []*disktest.Disk{d.data, d.meta}
}

// spoil makes the next I/O of some kind fail.
func (d *disks) spoil() {
	s := d.n.s
	disk, what := d.data, "data"
	if s.rng.IntN(4) == 0 {
		disk, what = d.meta, "meta"
	}
	r := &disktest.Rule{
		Op: pick(s.rng, engine.DiskRead, engine.DiskWrite, engine.DiskWrite, engine.DiskFlush, engine.DiskZero), Skip: s.rng.IntN(5),
		Count: 1 + s.rng.IntN(3), Errno: engine.EIO, Torn: s.rng.IntN(2) == 0,
	}
	disk.Fail(r)
	d.n.tell("volume %d: %s %v will fail", d.vol.number, what, r.Op)
}

// hang lets the disk answer nothing for a while.
func (d *disks) hang() {
	s := d.n.s
	d.mute, d.broken = s.now+between(s.rng, 3*time.Second), true
	s.counts[DiskHung]++
	d.n.tell("volume %d: the disk does not answer until %v", d.vol.number, d.mute)
}

func (d *disks) repair() {
	for _, disk := range d.both() {
		disk.Heal()
	}
	d.broken, d.mute = d.mute > d.n.s.now, 0 // what it has hung with is late all the same
}
