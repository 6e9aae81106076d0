package bitmap

import "fmt"

const (
	// BlockSize is the number of device bytes that one bit stands for. Fixed by
	// wire and disk (bm_bytes_per_bit). Source: docs/drbd-metadata.md 1.1.
	BlockSize = 4096

	// PageSize is the size of one on-disk page in bytes.
	PageSize = 4096

	// PageBits is the number of bits in one on-disk page: 128 MiB of device.
	PageBits = PageSize * 8

	// sparePages bounds the mixed pages kept for reuse, so that a page that
	// flaps between empty and mixed does not allocate each time.
	sparePages = 16
)

// A Bitmap says of every 4 KiB block of a device whether it may differ from the
// peer (1) or not (0). A last partial block has a bit of its own.
//
// It also remembers which pages differ from what is on disk; see NextUnwritten.
// One goroutine owns it. Source: docs/drbd-metadata.md 3.
type Bitmap struct {
	size  int64 // bytes of the device
	bits  int64 // ceil(size / BlockSize)
	total int64 // set bits

	pages []*page  // nil: all clear; allSet: all set; bits past the end are 0
	count []uint16 // set bits of each page, 0..32768
	spare []*page  // zeroed

	notEmpty pageSet // pages with a set bit
	notFull  pageSet // pages with a clear bit
	mustSave pageSet // a bit was set since the page was written
	maySave  pageSet // a bit was cleared since the page was written
}

// New makes the bitmap of a device of size bytes, all clear, every page counted
// as written. A negative size is a bug of the caller.
func New(size int64) *Bitmap {
	b := &Bitmap{}
	b.reshape(size)
	b.notFull.fill(true)
	return b
}

// reshape sets the size and makes room for its pages.
func (b *Bitmap) reshape(size int64) {
	if size < 0 {
		panic(fmt.Sprintf("bitmap: negative device size %d", size))
	}
	b.size, b.bits = size, blocks(size)
	n := int((b.bits + PageBits - 1) / PageBits)
	pages, count := make([]*page, n), make([]uint16, n)
	copy(pages, b.pages)
	copy(count, b.count)
	b.pages, b.count = pages, count
	for _, s := range []*pageSet{&b.notEmpty, &b.notFull, &b.mustSave, &b.maySave} {
		s.resize(n)
	}
}

// blocks is ceil(n / BlockSize) for n >= 0, without overflow.
func blocks(n int64) int64 {
	q := n / BlockSize
	if n%BlockSize != 0 {
		q++
	}
	return q
}

// Size is the size of the device in bytes.
func (b *Bitmap) Size() int64 { return b.size }

// Bits is the number of bits: one for each block, the last one maybe partial.
func (b *Bitmap) Bits() int64 { return b.bits }

// Pages is the number of on-disk pages.
func (b *Bitmap) Pages() int { return len(b.pages) }

// Count is the number of set bits.
func (b *Bitmap) Count() int64 { return b.total }

// Resize changes the size of the device. Bits of new blocks are set or clear as
// set says; a partial last block that grows counts as new. Pages beyond the old
// end count as unwritten. Nothing else about the pages' place on disk is known
// here: if that changed too, call MarkAllUnwritten.
// Source: docs/drbd-metadata.md 7.3.
func (b *Bitmap) Resize(size int64, set bool) {
	oldSize, oldPages := b.size, len(b.pages)
	if size < oldSize {
		keep := blocks(max(size, 0))
		b.clearBits(keep, b.bits)
		b.reshape(size)
		if last := len(b.pages) - 1; last >= 0 {
			b.recount(last, int(b.count[last])) // its number of bits changed
		}
		return
	}
	b.reshape(size)
	for p := max(oldPages-1, 0); p < len(b.pages); p++ {
		b.recount(p, int(b.count[p]))
		if p >= oldPages {
			b.maySave.put(p, true)
		}
	}
	if set && size > oldSize {
		b.setBits(oldSize/BlockSize, b.bits)
	}
}

// pageBits is the number of valid bits in page p.
func (b *Bitmap) pageBits(p int) int {
	return int(min(PageBits, b.bits-int64(p)*PageBits))
}

// own returns page p for writing.
func (b *Bitmap) own(p int) *page {
	pg := b.pages[p]
	if pg != nil && pg != allSet {
		return pg
	}
	var fresh *page
	if n := len(b.spare); n > 0 {
		fresh, b.spare = b.spare[n-1], b.spare[:n-1]
	} else {
		fresh = new(page)
	}
	if pg == allSet {
		*fresh = *allSet
	}
	b.pages[p] = fresh
	return fresh
}

// drop replaces page p by a shared form and keeps its memory for own.
func (b *Bitmap) drop(p int, by *page) {
	old := b.pages[p]
	b.pages[p] = by
	if old == nil || old == allSet || len(b.spare) == sparePages {
		return
	}
	*old = page{}
	b.spare = append(b.spare, old)
}

// recount notes that page p now has n set bits, and gives up its memory if it
// has become uniform.
func (b *Bitmap) recount(p, n int) {
	b.total += int64(n) - int64(b.count[p])
	b.count[p] = uint16(n)
	b.notEmpty.put(p, n > 0)
	b.notFull.put(p, n < b.pageBits(p))
	switch n {
	case 0:
		b.drop(p, nil)
	case PageBits:
		b.drop(p, allSet)
	}
}
