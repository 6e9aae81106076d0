package metadata

import (
	"fmt"

	"github.com/urbd/urbd/bitmap"
)

// Kind is where metadata lies. Source: docs/drbd-metadata.md 2.1.
type Kind int

const (
	Internal         Kind = iota // end of the backing device
	ExternalFlexible             // a device of its own
	ExternalIndexed              // one of several areas of 128 MiB
)

func (k Kind) String() string {
	switch k {
	case Internal:
		return "internal"
	case ExternalFlexible:
		return "flexible"
	case ExternalIndexed:
		return "indexed"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

const (
	indexedSize = 128 << 20 // bytes of one index, fixed by the disk
	maxIndex    = maxSize/indexedSize - 1

	// What one sector of the bitmap covers: 4096 bits.
	dataPerBitmapSector = sector * 8 * bitmap.BlockSize

	// minMD is the driver's lower bound for every md device without index.
	minMD = 1 << 20
)

// Stripes is the geometry of the activity-log ring: Count stripes of Size4k
// blocks. The zero value stands for 1 x 8. Source: docs/drbd-metadata.md 4.2.
type Stripes struct{ Count, Size4k uint32 }

const (
	minRing = 8    // blocks
	maxRing = 8192 // blocks; the driver takes more, drbdmeta does not
)

// normal is the geometry with the zero value spelled out.
func (s Stripes) normal() Stripes {
	if s == (Stripes{}) {
		return Stripes{1, 8}
	}
	return s
}

// Blocks is the number of blocks in the ring.
func (s Stripes) Blocks() uint32 {
	s = s.normal()
	return s.Count * s.Size4k
}

func (s Stripes) check() error {
	s = s.normal()
	if s.Count == 0 || s.Size4k == 0 {
		return bad("al_stripes", "", "%d x %d: exactly one of the two is 0", s.Count, s.Size4k)
	}
	if n := uint64(s.Count) * uint64(s.Size4k); n < minRing || n > maxRing {
		return bad("al_stripes", "", "an activity log of %d x %d blocks, need %d to %d in all", s.Count, s.Size4k, minRing, maxRing)
	}
	return nil
}

// Position is the place in the ring, in blocks, of the transaction with number
// tr. Source: docs/drbd-metadata.md 4.2.
func (s Stripes) Position(tr uint32) uint32 {
	s = s.normal()
	t := tr % s.Blocks()
	return t%s.Count*s.Size4k + t/s.Count
}

// A Layout is where everything is on one device. Offsets are bytes on the md
// device (for Internal the backing device).
type Layout struct {
	Kind       Kind
	Index      int   // of ExternalIndexed
	Superblock int64 // offset
	AL         int64 // offset of the ring
	Bitmap     int64 // offset
	BitmapSize int64 // bytes reserved for the bitmap
	MDSize     int64 // bytes of the whole area, as in the superblock
	DataLimit  int64 // usable bytes of the backing device
	Stripes    Stripes
}

// Locate is the offset of the superblock on the md device: the only place where
// one counts. A device whose metadata moved keeps valid-looking old ones inside
// its data. The error is an *Error. Source: docs/drbd-metadata.md 2.1, 7.3.
func Locate(kind Kind, index int, backingSize, mdSize int64) (int64, error) {
	switch kind {
	case Internal:
		if backingSize > maxSize {
			return 0, bad("backing device", "", "%d bytes are more than the %d that there can be", backingSize, int64(maxSize))
		}
		if backingSize < minMD {
			return 0, bad("backing device", "use a device of at least 1 MiB", "%d bytes cannot hold internal metadata", backingSize)
		}
		return backingSize/BlockSize*BlockSize - BlockSize, nil
	case ExternalFlexible:
		if mdSize < minMD || mdSize > maxSize {
			return 0, bad("md device", "use a device of at least 1 MiB", "%d bytes is no size for a metadata device", mdSize)
		}
		return 0, nil
	case ExternalIndexed:
		if index < 0 || index > maxIndex {
			return 0, bad("index", "", "%d is no index", index)
		}
		off := int64(index) * indexedSize
		if mdSize-off < indexedSize {
			return 0, bad("md device", "each index takes 128 MiB", "%d bytes, index %d needs %d", mdSize, index, off+indexedSize)
		}
		return off, nil
	}
	return 0, bad("meta-disk", "", "unknown kind %d", int(kind))
}

// Place computes the layout for a backing device of backingSize bytes and, if
// it is not Internal, an md device of mdSize bytes. stripes is at most one
// geometry of the activity log, 1 x 8 if none. The error is an *Error: the
// devices are too small, or the geometry is not allowed.
// Source: docs/drbd-metadata.md 2.1.
func Place(kind Kind, index int, backingSize, mdSize int64, stripes ...Stripes) (Layout, error) {
	l := Layout{Kind: kind, Stripes: Stripes{1, 8}}
	for _, s := range stripes {
		l.Stripes = s.normal()
	}
	if err := l.Stripes.check(); err != nil {
		return Layout{}, err
	}
	at, err := Locate(kind, index, backingSize, mdSize)
	if err != nil {
		return Layout{}, err
	}
	if backingSize < 0 || backingSize > maxSize {
		return Layout{}, bad("backing device", "", "%d bytes is no size for a device", backingSize)
	}
	l.Superblock = at
	ring := int64(l.Stripes.Blocks()) * BlockSize
	if kind == Internal {
		return l.internal(backingSize, ring)
	}
	l.AL = at + BlockSize
	l.Bitmap = l.AL + ring
	l.MDSize = mdSize / sector * sector
	if kind == ExternalIndexed {
		if ring != minRing*BlockSize || l.Stripes.Count != 1 {
			return Layout{}, bad("al_stripes", "use flexible external metadata for another log", "indexed metadata has an activity log of 1 x 8 blocks only")
		}
		l.Index, l.MDSize = index, indexedSize
	}
	l.BitmapSize = at + l.MDSize - l.Bitmap
	if l.BitmapSize < BlockSize {
		return Layout{}, bad("md device", "use a larger device or a smaller activity log", "%d bytes leave no room for a bitmap", mdSize)
	}
	l.DataLimit = min(backingSize/sector*sector, l.BitmapSize/sector*dataPerBitmapSector)
	return l, nil
}

// internal completes the layout of metadata at the end of the device.
func (l Layout) internal(backingSize, ring int64) (Layout, error) {
	sectors := (backingSize/sector*sector + dataPerBitmapSector - 1) / dataPerBitmapSector
	l.BitmapSize = (sectors + 7) / 8 * 8 * sector
	l.MDSize = l.BitmapSize + BlockSize + ring
	l.AL = l.Superblock - ring
	l.Bitmap = l.AL - l.BitmapSize
	l.DataLimit = l.Bitmap
	if l.Bitmap < sector {
		return Layout{}, bad("backing device", "use a larger device or external metadata", "%d bytes leave no room for data beside %d bytes of metadata", backingSize, l.MDSize)
	}
	return l, nil
}

// ALBlocks is the number of blocks in the activity-log ring.
func (l Layout) ALBlocks() uint32 { return l.Stripes.Blocks() }

// ALBlockOffset is where the transaction with number tr is written.
func (l Layout) ALBlockOffset(tr uint32) int64 {
	return l.AL + int64(l.Stripes.Position(tr))*BlockSize
}

// BitmapPageOffset is where page p of the bitmap is written.
func (l Layout) BitmapPageOffset(p int) int64 {
	return l.Bitmap + int64(p)*bitmap.PageSize
}

// BitmapPageLen is how many of the 4096 bytes of page p lie inside the bitmap
// area: fewer only for the last page of a flexible md device whose size is no
// multiple of 4096.
func (l Layout) BitmapPageLen(p int) int {
	left := l.BitmapSize - int64(p)*bitmap.PageSize
	return int(min(max(left, 0), bitmap.PageSize))
}

// MaxSlots is the largest activity log that the ring can restore after a torn
// write. Source: docs/drbd-metadata.md 4.4.
func (l Layout) MaxSlots() int {
	return int(min((int64(l.ALBlocks())-1)*bitmap.ContextSlots, 65534))
}

// Slots is the activity log to use for a configured al-extents: 67 at least,
// MaxSlots at most. Source: docs/drbd-metadata.md 4.4.
func (l Layout) Slots(configured int) int {
	return min(max(configured, 67), l.MaxSlots())
}
