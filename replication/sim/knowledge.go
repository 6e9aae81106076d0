package sim

import (
	"fmt"
	"hash/crc32"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/metadata"
)

// knowledge is what a node would know of its volume after an attach: the
// blocks that may differ from the peer's.
type knowledge struct {
	all  bool
	bm   *bitmap.Bitmap
	text string // what it was read from
}

func (k *knowledge) has(blk int64) bool {
	return k.all || k.bm.AnySet(blk*blockSize, 1)
}

// hasAll reports whether every block that a range touches is known.
func (k *knowledge) hasAll(off, n int64) bool {
	return k.all || k.bm.CountRange(off, n) == (off+n-1)/blockSize-off/blockSize+1
}

// imageCache keeps what was read from a metadata device until it changes.
type imageCache struct {
	now, cut *knowledge // of a reader, and of a power cut; nil: to be read
	ringSum  uint32
	hot      []uint32
	trusted  bool
	ring     []byte
	page     [4096]byte
}

func (c *imageCache) changed() { c.now, c.cut = nil, nil }

// asIs is what an attach would find now.
func (d *disks) asIs() *knowledge {
	if d.image.now == nil {
		d.image.now, _ = d.read(func(b []byte, off int64) bool {
			d.meta.ReadAt(b, off)
			return false
		})
	}
	return d.image.now
}

// afterCut is what an attach would find after a power cut now, one of the possible ones.
func (d *disks) afterCut() *knowledge {
	if d.image.cut != nil {
		return d.image.cut
	}
	k, volatile := d.read(func(b []byte, off int64) bool { return d.meta.ReadCut(b, off, d.n.s.rng.IntN) })
	if !volatile {
		d.image.cut = k
	}
	return k
}

// read does what an attach does (docs/drbd-metadata.md 4.6), with its own words.
func (d *disks) read(at func(b []byte, off int64) (volatile bool)) (*knowledge, bool) {
	c, l := &d.image, d.layout
	volatile := at(c.page[:], l.Superblock)
	sb, err := metadata.DecodeSuperblock(c.page[:])
	if err != nil {
		d.n.s.fail("%s: volume %d: metadata after a crash: %v", d.n.name, d.vol.number, err)
	}
	primary := sb.Flags.Has(metadata.PrimaryInd)
	if sb.LastAgreedSize == 0 || sb.Flags.Has(metadata.FullSync) {
		return &knowledge{all: true}, volatile
	}
	k := &knowledge{bm: bitmap.New(sb.LastAgreedSize), text: sb.Flags.String()}
	for p := range k.bm.Pages() {
		clear(c.page[:])
		volatile = at(c.page[:l.BitmapPageLen(p)], l.BitmapPageOffset(p)) || volatile
		k.bm.LoadPage(p, c.page[:])
	}
	if !primary || !sb.NeedsReplay() {
		return k, volatile
	}
	if c.ring == nil {
		c.ring = make([]byte, int(l.ALBlocks())*4096)
	}
	volatile = at(c.ring, l.AL) || volatile
	if sum := crc32.ChecksumIEEE(c.ring); sum != c.ringSum {
		hot, _, verdict := metadata.Replay(c.ring, l.Stripes)
		c.ringSum, c.hot, c.trusted = sum, hot, verdict.Trusted()
	}
	if !c.trusted {
		return &knowledge{all: true}, volatile
	}
	metadata.MarkHot(k.bm, c.hot)
	k.text += fmt.Sprintf(" hot %v", c.hot)
	return k, volatile
}

// knows reports whether a node, as it is now, would have the block resynced.
func (n *node) knows(v *volume, blk int64) bool {
	if n.eng != nil {
		if marked, known := n.eng.Marked(v.number, blk*blockSize, 1); known {
			return marked || v.inFlight(n, blk)
		}
	}
	return n.disks[v.index].asIs().has(blk)
}
