package bitmap

// NextSet is the first set bit at or after from.
func (b *Bitmap) NextSet(from int64) (bit int64, ok bool) {
	return b.next(from, &b.notEmpty, 0)
}

// NextClear is the first clear bit at or after from.
func (b *Bitmap) NextClear(from int64) (bit int64, ok bool) {
	return b.next(from, &b.notFull, ^uint64(0))
}

// next finds the first bit that is set (flip 0) or clear (flip all ones); among
// holds the pages that have such a bit.
func (b *Bitmap) next(from int64, among *pageSet, flip uint64) (bit int64, ok bool) {
	from = max(from, 0)
	if from >= b.bits {
		return 0, false
	}
	p, lo := int(from/PageBits), int(from%PageBits)
	for {
		member, ok := among.next(p)
		if !ok {
			return 0, false
		}
		if member > p {
			p, lo = member, 0
		}
		end := b.pageBits(p)
		at := lo
		if pg := b.pages[p]; pg != nil && pg != allSet {
			at = pg.next(lo, end, flip)
		}
		if at < end {
			return int64(p)*PageBits + int64(at), true
		}
		p, lo = p+1, 0
	}
}

// Run is the length in bits of the run of set bits that starts at from, at most
// limit; 0 if that bit is clear or outside the device.
func (b *Bitmap) Run(from, limit int64) int64 {
	first, ok := b.NextSet(from)
	if !ok || first != from {
		return 0
	}
	end, ok := b.NextClear(from)
	if !ok {
		end = b.bits
	}
	return min(end-from, max(limit, 0))
}

// Word is the 64-bit word w of the bitmap: bit n is bit n%64 of word n/64. Bits
// past the end are 0, as are words up to the end of the last page.
func (b *Bitmap) Word(w int64) uint64 {
	pg := b.pages[w/wordsPerPage]
	if pg == nil {
		return 0
	}
	return pg[w%wordsPerPage]
}
