package bitmap

// SetRange marks every block that [off, off+n) touches, even partly, as out of
// sync, and returns how many bits were clear before. What lies outside the
// device is ignored. Source: docs/drbd-metadata.md 3.2.
func (b *Bitmap) SetRange(off, n int64) (newly int64) {
	return b.setBits(b.touched(off, n))
}

// ClearRange marks every block that [off, off+n) covers completely as in sync,
// and returns how many bits were set before. The last block of the device
// counts as covered when the range reaches the end of the device.
// Source: docs/drbd-metadata.md 3.2.
func (b *Bitmap) ClearRange(off, n int64) (cleared int64) {
	off, end := b.clip(off, n)
	last := end / BlockSize
	if end == b.size {
		last = b.bits
	}
	return b.clearBits(blocks(off), last)
}

// AnySet reports whether a block that [off, off+n) touches is out of sync.
func (b *Bitmap) AnySet(off, n int64) bool {
	from, to := b.touched(off, n)
	bit, ok := b.NextSet(from)
	return ok && bit < to
}

// CountRange is the number of set bits among the blocks that [off, off+n)
// touches.
func (b *Bitmap) CountRange(off, n int64) (set int64) {
	from, to := b.touched(off, n)
	for from < to {
		p, lo, hi := b.within(from, to)
		switch b.pages[p] {
		case nil:
		case allSet:
			set += int64(hi - lo)
		default:
			set += int64(b.pages[p].ones(lo, hi))
		}
		from += int64(hi - lo)
	}
	return set
}

// SetAll sets every bit. Every page counts as unwritten afterwards, also those
// that were all set before: it is the memory half of the full-sync procedure.
// Source: docs/drbd-metadata.md 3.4.
func (b *Bitmap) SetAll() {
	b.setBits(0, b.bits)
	b.mustSave.fill(true)
}

// ClearAll clears every bit. Every page counts as unwritten (lazily)
// afterwards, also those that were clear before.
func (b *Bitmap) ClearAll() {
	b.clearBits(0, b.bits)
	b.maySave.fill(true)
}

// clip is the part of [off, off+n) that lies on the device, as [off, end).
func (b *Bitmap) clip(off, n int64) (start, end int64) {
	if n <= 0 || off >= b.size {
		return 0, 0
	}
	if off < 0 {
		n, off = max(n+off, 0), 0
	}
	return off, off + min(n, b.size-off)
}

// touched is the half-open range of bits that [off, off+n) touches.
func (b *Bitmap) touched(off, n int64) (from, to int64) {
	off, end := b.clip(off, n)
	return off / BlockSize, blocks(end)
}

// within cuts bits [from, to) to the page that holds from.
func (b *Bitmap) within(from, to int64) (p, lo, hi int) {
	p = int(from / PageBits)
	lo = int(from % PageBits)
	return p, lo, lo + int(min(to-from, int64(PageBits-lo)))
}

func (b *Bitmap) setBits(from, to int64) (newly int64) {
	for from < to {
		p, lo, hi := b.within(from, to)
		from += int64(hi - lo)
		have := int(b.count[p])
		if have == b.pageBits(p) {
			continue
		}
		changed := PageBits - have
		if hi-lo < PageBits { // a whole page needs no memory of its own
			changed = b.own(p).set(lo, hi)
		}
		if changed > 0 {
			b.recount(p, have+changed)
			b.mustSave.put(p, true)
			newly += int64(changed)
		}
	}
	return newly
}

func (b *Bitmap) clearBits(from, to int64) (cleared int64) {
	for from < to {
		p, lo, hi := b.within(from, to)
		from += int64(hi - lo)
		have := int(b.count[p])
		if have == 0 {
			continue
		}
		changed := have
		if hi-lo < b.pageBits(p) {
			changed = b.own(p).clear(lo, hi)
		}
		if changed > 0 {
			b.recount(p, have-changed)
			b.maySave.put(p, true)
			cleared += int64(changed)
		}
	}
	return cleared
}
