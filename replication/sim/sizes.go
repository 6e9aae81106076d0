package sim

import (
	"math/rand/v2"

	"github.com/urbd/urbd/replication/metadata"
)

// shrinker has devices that hold data shrink: a smaller size is written into the configuration of both nodes while neither daemon runs, and
// each takes it over when it attaches its disk, whatever state that was left in. (Growing is not served: a larger
// configuration, or a larger disk, changes nothing.)
type shrinker struct {
	rng  *rand.Rand
	left int // times
}

func newShrinker(seed uint64, plain bool) shrinker {
	k := shrinker{rng: rand.New(rand.NewPCG(seed, 0x512e))}
	if !plain && k.rng.IntN(3) == 0 {
		k.left = 1 + k.rng.IntN(3)
	}
	return k
}

// shrink is called before a daemon comes.
func (s *Sim) shrink() {
	k := &s.shrinker
	if k.left == 0 || !s.admin.on || s.admin.parted {
		return
	}
	for _, n := range s.nodes {
		if n.alive() || n.users.wait {
			return
		}
	}
	k.left--
	v := s.vols[k.rng.IntN(len(s.vols))]
	size := v.size / 16 * (8 + k.rng.Int64N(8)) / largeBlock * largeBlock
	s.tell("volume %d: a size of %d bytes is configured on both nodes, it was %d", v.number, size, v.size)
	s.counts[SizeShrunk]++
	v.shrinkTo(size)
}

// shrinkTo forgets what is behind the new end.
func (v *volume) shrinkTo(size int64) {
	v.compare()
	v.size = size
	v.s.profile.volumes[v.index].size = [2]int64{size, size}
	for blk := range v.differ {
		if blk*blockSize >= size {
			delete(v.differ, blk)
		}
	}
	for sector := range v.model.sectors {
		if sector*sectorSize >= size {
			delete(v.model.sectors, sector)
		}
	}
}

// configured is the size that a daemon finds in its configuration. Once the nodes have agreed on one, a larger one changes nothing.
func (n *node) configured(i int) int64 {
	s := n.s
	vp := &s.profile.volumes[i]
	size := vp.size[n.index]
	if rng := s.media.rng; s.media.resized && n.life > 0 && rng.IntN(2) == 0 {
		larger := pick(rng, 0, s.vols[i].size, s.vols[i].size+rng.Int64N(n.disks[i].layout.DataLimit-s.vols[i].size+1)/largeBlock*largeBlock)
		if n.disks[i].superblock().LastAgreedSize > s.vols[i].size {
			return size // it has not heard of the smaller one
		}
		s.counts[SizeChanged]++
		size = larger
	}
	return size
}

// superblock is what the metadata says.
func (d *disks) superblock() metadata.Superblock {
	b := make([]byte, 4096)
	d.meta.ReadAt(b, d.layout.Superblock)
	sb, err := metadata.DecodeSuperblock(b)
	if err != nil {
		d.n.s.fail("%s: metadata: %v", d.n.name, err)
	}
	return sb
}

// countSizes counts what a promoted device is like.
func (n *node) countSizes() {
	for i, v := range n.s.vols {
		if vp := &n.s.profile.volumes[i]; v.size < min(vp.room(0), vp.room(1)) {
			n.s.counts[SizeConfigured]++
		}
	}
}
