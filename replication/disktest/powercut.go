package disktest

import "github.com/urbd/urbd/replication/engine"

// PowerCut takes the power away: every flight is over, and of what was not
// durable a random part remains, sector by sector. In one cut out of four nothing
// of it remains, in another one everything that was finished.
func (d *Disk) PowerCut() {
	mood := d.rng.IntN(4)
	survives := func(finished bool) bool {
		switch mood {
		case 0:
			return false
		case 1:
			return finished
		}
		return d.rng.IntN(2) == 0
	}
	cache, flights := d.cache, d.flights
	for _, r := range cache {
		r.sectors(func(off int64, data []byte) {
			if survives(true) {
				d.safe.write(off, SectorSize, data)
			}
		})
	}
	for _, f := range flights {
		f.over = true
		if f.writes() && (f.err == engine.OK || f.torn) {
			each(f.io, func(off int64, data []byte) {
				if survives(false) {
					d.safe.write(off, SectorSize, data)
				}
			})
		}
	}
	d.now, d.cache, d.flights = d.safe.clone(), nil, nil
	for _, r := range cache {
		d.changed(r.off, r.n)
	}
	for _, f := range flights {
		d.changed(f.rangeOf())
	}
}

// sectorOf is what a write brings to the sector at off.
func sectorOf(io engine.DiskIO, off int64) (data []byte, ok bool) {
	at := off - io.Off
	switch {
	case at < 0 || at >= io.Len:
		return nil, false
	case io.Op != engine.DiskWrite:
		return zeroPage[:SectorSize], true
	}
	return io.Data[at : at+SectorSize], true
}

// each calls f for every sector of a write.
func each(io engine.DiskIO, f func(off int64, data []byte)) {
	for at := int64(0); at < io.Len; at += SectorSize {
		var data []byte
		if io.Op == engine.DiskWrite {
			data = io.Data[at : at+SectorSize]
		}
		f(io.Off+at, data)
	}
}

// tear writes a random part of the sectors of io.
func (d *Disk) tear(io engine.DiskIO, write func(off, n int64, data []byte)) {
	each(io, func(off int64, data []byte) {
		if d.rng.IntN(2) == 0 {
			write(off, SectorSize, data)
		}
	})
}

// Own copies the memory of a flight, for an owner that dies and leaves the
// flight to the device.
func (f *Flight) Own() {
	if f.io.Op != engine.DiskFlush && f.io.Data != nil {
		f.io.Data = append([]byte(nil), f.io.Data...)
	}
}

// InFlight is the number of I/Os that have not ended.
func (d *Disk) InFlight() int { return len(d.flights) }

// Unsafe is the number of writes that a power cut may take a part of.
func (d *Disk) Unsafe() int { return len(d.cache) + len(d.flights) }

// Volatile calls f for every range that a power cut may change: finished
// writes that are not durable, and writes in flight.
func (d *Disk) Volatile(f func(off, n int64)) {
	for _, r := range d.cache {
		if r.dead == nil {
			f(r.off, r.n)
			continue
		}
		r.sectors(func(off int64, _ []byte) { f(off, SectorSize) })
	}
	for _, fl := range d.flights {
		if fl.writes() {
			f(fl.io.Off, fl.io.Len)
		}
	}
}

// IsVolatile reports whether a power cut may change a part of [off, off+n).
func (d *Disk) IsVolatile(off, n int64) bool {
	for _, r := range d.cache {
		if r.off >= off+n || off >= r.off+r.n {
			continue
		}
		for at := max(off, r.off); at < min(off+n, r.off+r.n); at += SectorSize {
			if r.dead == nil || !r.dead[(at-r.off)/SectorSize] {
				return true
			}
		}
	}
	for _, fl := range d.flights {
		if fl.writes() && fl.io.Off < off+n && off < fl.io.Off+fl.io.Len {
			return true
		}
	}
	return false
}
