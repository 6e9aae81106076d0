package disktest

import "io"

// ReadAt reads what a reader sees now. It is no I/O of the disk: no rule applies.
func (d *Disk) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off > d.size-int64(len(b)) {
		return 0, io.EOF
	}
	d.now.read(off, b)
	return len(b), nil
}

// ReadSafe reads what a power cut leaves for certain where nothing is volatile.
func (d *Disk) ReadSafe(b []byte, off int64) (int, error) {
	if off < 0 || off > d.size-int64(len(b)) {
		return 0, io.EOF
	}
	d.safe.read(off, b)
	return len(b), nil
}

// ReadCut reads what a power cut at this moment could leave: each sector that
// is volatile as one of the versions that it may have, by pick (a number below n).
// It returns whether anything was volatile.
func (d *Disk) ReadCut(b []byte, off int64, pick func(n int) int) (volatile bool) {
	n := int64(len(b))
	d.safe.read(off, b)
	put := func(at int64, data []byte) {
		if at < off || at >= off+n {
			return
		}
		volatile = true
		if pick(2) == 0 {
			return
		}
		if to := b[at-off:][:min(SectorSize, off+n-at)]; data == nil {
			clear(to)
		} else {
			copy(to, data)
		}
	}
	for _, r := range d.cache {
		if r.off < off+n && off < r.off+r.n {
			r.sectors(put)
		}
	}
	for _, f := range d.flights {
		if f.writes() && f.io.Off < off+n && off < f.io.Off+f.io.Len {
			each(f.io, put)
		}
	}
	return volatile
}

// Certain reports whether a power cut leaves [off, off+n) as a reader sees it:
// also where something is volatile, if every version that may remain is the same.
func (d *Disk) Certain(off, n int64) bool {
	for end := off + n; off < end; off += SectorSize {
		if !d.certainSector(off, min(SectorSize, end-off)) {
			return false
		}
	}
	return true
}

// certainSector is Certain for a sector, or the beginning of one.
func (d *Disk) certainSector(off, n int64) bool {
	var now, safe [SectorSize]byte
	d.now.read(off, now[:n])
	d.safe.read(off, safe[:n])
	if now != safe {
		return false
	}
	for i := range d.cache {
		if data, ok := d.cache[i].sector(off); ok && string(data[:n]) != string(now[:n]) {
			return false
		}
	}
	for _, f := range d.flights {
		if !f.writes() {
			continue
		}
		if data, ok := sectorOf(f.io, off); ok && string(data[:n]) != string(now[:n]) {
			return false
		}
	}
	return true
}

// WriteAt changes the content durably. It is no I/O of the disk: no rule applies.
func (d *Disk) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off > d.size-int64(len(b)) {
		return 0, io.ErrShortWrite
	}
	n := int64(len(b))
	d.now.write(off, n, b)
	d.safe.write(off, n, b)
	for _, r := range d.cache {
		r.overwrite(off, n)
	}
	d.changed(off, n)
	return len(b), nil
}

// SamePage reports whether two disks show a reader the same page of 4096 bytes
// at off, as far as it lies below limit.
func SamePage(a, b *Disk, off, limit int64) bool {
	x, y := a.now[off/pageSize], b.now[off/pageSize]
	if x == y {
		return true // both are zero
	}
	if x == nil {
		x = &zeroPage
	}
	if y == nil {
		y = &zeroPage
	}
	n := min(pageSize, limit-off)
	return string(x[:n]) == string(y[:n])
}

// Pages calls f with the offset of every page that is not zero.
func (d *Disk) Pages(f func(off int64)) {
	for i, pg := range d.now {
		if *pg != zeroPage {
			f(i * pageSize)
		}
	}
}
