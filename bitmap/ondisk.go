package bitmap

import (
	"encoding/binary"
	"math/bits"
)

// EncodePage writes the on-disk form of page p to dst[:4096]: little-endian
// words, bits past the last valid one 0. Source: docs/drbd-metadata.md 3.1.
func (b *Bitmap) EncodePage(p int, dst []byte) {
	dst = dst[:PageSize]
	pg := b.pages[p]
	if pg == nil {
		clear(dst)
		return
	}
	for w, v := range pg {
		binary.LittleEndian.PutUint64(dst[w*8:], v)
	}
}

// LoadPage replaces page p by its on-disk form src[:4096]. Bits past the last
// valid one are ignored. The page counts as written.
func (b *Bitmap) LoadPage(p int, src []byte) {
	src = src[:PageSize]
	var pg page
	n, end := 0, b.pageBits(p)
	for w := 0; w*64 < end; w++ {
		pg[w] = binary.LittleEndian.Uint64(src[w*8:]) & mask(w, 0, end)
		n += bits.OnesCount64(pg[w])
	}
	if n > 0 && n < PageBits {
		*b.own(p) = pg
	}
	b.recount(p, n)
	b.MarkWritten(p)
}

// PageOf is the page that holds the bit of the block at byte off of the device.
func (b *Bitmap) PageOf(off int64) int { return int(off / BlockSize / PageBits) }

// NextUnwritten is the first page at or after from that differs from its
// on-disk form. With lazy false only pages in which a bit was set count: those
// must reach the disk before what they stand for is forgotten. With lazy true
// pages in which bits were only cleared count too.
// Source: docs/drbd-metadata.md 3.3.
func (b *Bitmap) NextUnwritten(from int, lazy bool) (p int, ok bool) {
	p, ok = b.mustSave.next(from)
	if !lazy {
		return p, ok
	}
	q, also := b.maySave.next(from)
	if also && (!ok || q < p) {
		return q, true
	}
	return p, ok
}

// Unwritten reports whether page p differs from its on-disk form, as
// NextUnwritten does.
func (b *Bitmap) Unwritten(p int, lazy bool) bool {
	return b.mustSave.has(p) || lazy && b.maySave.has(p)
}

// MarkWritten notes that what EncodePage gave for page p is on its way to the
// disk. Call it together with EncodePage, not when the write completes: bits
// set in between belong to the next write. If the write fails, call
// MarkUnwritten.
func (b *Bitmap) MarkWritten(p int) {
	b.mustSave.put(p, false)
	b.maySave.put(p, false)
}

// MarkUnwritten notes that page p must be written.
func (b *Bitmap) MarkUnwritten(p int) { b.mustSave.put(p, true) }

// MarkAllUnwritten notes that every page must be written, as after the bitmap
// has moved on disk.
func (b *Bitmap) MarkAllUnwritten() { b.mustSave.fill(true) }
