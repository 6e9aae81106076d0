package metadata

import (
	"iter"

	"github.com/urbd/urbd/bitmap"
)

// createSlots is the al_nr_extents that create-md leaves; attaching stores the
// number in use. Source: docs/drbd-metadata.md 1.5.
const createSlots = 257

// New is the superblock of fresh metadata as create-md leaves it: no agreed
// size, no data, a clean log. deviceUUID is the random identity of the replica.
// Source: docs/drbd-metadata.md 1.5.
func New(l Layout, deviceUUID uint64) Superblock {
	s := Superblock{
		Current:    JustCreated,
		DeviceUUID: deviceUUID,
		Flags:      ALClean,
		Clean:      true,
		ALExtents:  createSlots,
	}
	s.Place(l)
	return s
}

// Place stores the sizes and offsets of l.
func (s *Superblock) Place(l Layout) {
	s.MDSize = l.MDSize
	s.ALOffset = l.AL - l.Superblock
	s.BMOffset = l.Bitmap - l.Superblock
	s.BytesPerBit = bitmap.BlockSize
	s.Stripes = l.Stripes
}

// A Write is a part of the md device to write. Data nil stands for Len zeroes.
type Write struct {
	Off, Len int64
	Data     []byte
}

// Create is everything that create-md writes, in its order: no superblock, because one that is there tells of what goes now; the ring with INIT
// blocks, the bitmap with zeroes, then s. A flush belongs before and after each write of the superblock, so that whoever is interrupted leaves
// no metadata, or all. Data is valid until the next one is asked for.
// Source: docs/drbd-metadata.md 1.5.
func (l Layout) Create(s Superblock) iter.Seq[Write] {
	return func(yield func(Write) bool) {
		if !yield(Write{Off: l.Superblock, Len: BlockSize}) {
			return
		}
		for w := range l.InitRing() {
			if !yield(w) {
				return
			}
		}
		if yield(Write{Off: l.Bitmap, Len: l.BitmapSize}) {
			yield(l.super(s))
		}
	}
}

// Apply is what apply-al writes, in its order, when the bitmap has the marks of the hot extents: s, which may have got FULL_SYNC, while the log is
// still there; the ring with INIT blocks; and s again, which says that the log need not be read. PRIMARY_IND stays: it tells the next owner that
// this node has crashed as Primary. Flushes are those of Create.
// Source: docs/drbd-metadata.md 4.7.
func (l Layout) Apply(s Superblock) iter.Seq[Write] {
	return func(yield func(Write) bool) {
		if !yield(l.super(s)) {
			return
		}
		for w := range l.InitRing() {
			if !yield(w) {
				return
			}
		}
		s.Clean = true
		s.Flags |= ALClean
		yield(l.super(s))
	}
}

func (l Layout) super(s Superblock) Write {
	block := make([]byte, BlockSize)
	s.Encode(block)
	return Write{Off: l.Superblock, Len: BlockSize, Data: block}
}

// InitRing is the ring with INIT blocks: after a replay, and before a new count
// of transactions begins. Source: docs/drbd-metadata.md 4.7.
func (l Layout) InitRing() iter.Seq[Write] {
	return func(yield func(Write) bool) {
		const chunk = 64
		blocks := make([]byte, min(l.ALBlocks(), chunk)*BlockSize)
		for at := 0; at < len(blocks); at += BlockSize {
			EncodeInit(blocks[at:])
		}
		left := int64(l.ALBlocks()) * BlockSize
		for off := l.AL; left > 0; {
			n := min(left, int64(len(blocks)))
			if !yield(Write{Off: off, Len: n, Data: blocks[:n]}) {
				return
			}
			off, left = off+n, left-n
		}
	}
}
