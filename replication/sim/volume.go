package sim

import (
	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/disktest"
)

const blockSize = bitmap.BlockSize

// volume is what the simulator knows of one volume of the pair.
type volume struct {
	s      *Sim
	index  int
	number int
	size   int64              // bytes that both nodes agree on
	differ map[int64]struct{} // blocks whose content differs now
	fresh  []span             // changed since differ was brought up to date

	model  *model
	forked [2]*model // while the data parts on purpose

	block  int64 // what its data is written in, bytes: the larger one of the blocks of the disks that were there first
	failed bool  // both disks
	early  *node // promoted although it may lack something; if its daemon dies before the answer, the disks show which data it is when they are the same
	heir   *node // promoted, and its own disk was lost before the answer: what its application finds is settled when it has one to work on
}

type span struct{ off, n int64 }

func newVolume(s *Sim, i int, vp volumeProfile) *volume {
	return &volume{s: s, index: i, number: vp.number, differ: map[int64]struct{}{}}
}

// begin gives the disks their first content, if they are not declared equal: A
// has data, B has garbage that must go.
func (v *volume) begin() {
	s := v.s
	a, b := s.nodes[0].disks[v.index], s.nodes[1].disks[v.index]
	v.size = s.profile.volumes[v.index].limit()
	v.block = max(smallBlock, a.block, b.block)
	base := func(int64) uint64 { return 0 }
	if !s.profile.fresh {
		salt := int64(s.rng.IntN(16))
		base = func(sector int64) uint64 {
			if (sector/8+salt)%3 == 0 {
				return 1
			}
			return 0
		}
		buf := make([]byte, sectorSize)
		for sec := int64(0); sec < v.size/sectorSize; sec++ {
			if stamp(buf, base(sec), sec); base(sec) != 0 {
				a.data.WriteAt(buf, sec*sectorSize)
			}
			if stamp(buf, 2, sec); (sec/8+salt)%4 == 0 {
				b.data.WriteAt(buf, sec*sectorSize)
			}
		}
	}
	v.model = newModel(base)
}

func (s *Sim) volumeIndex(number int) int {
	for i, v := range s.vols {
		if v.number == number {
			return i
		}
	}
	s.fail("volume %d does not exist", number)
	return -1
}

// touched notes that content may have changed.
func (v *volume) touched(off, n int64) {
	if off < v.size {
		v.fresh = append(v.fresh, span{off, min(n, v.size-off)})
	}
}

// compare brings differ up to date.
func (v *volume) compare() {
	a, b := v.s.nodes[0].disks[v.index].data, v.s.nodes[1].disks[v.index].data
	for _, sp := range v.fresh {
		for blk := sp.off / blockSize; blk <= (sp.off+sp.n-1)/blockSize; blk++ {
			if disktest.SamePage(a, b, blk*blockSize, v.size) {
				delete(v.differ, blk)
			} else {
				v.differ[blk] = struct{}{}
			}
		}
	}
	v.fresh = v.fresh[:0]
}

// modelOf is what the application of a node may see.
func (v *volume) modelOf(n *node) *model {
	if m := v.forked[n.index]; m != nil {
		return m
	}
	return v.model
}

// inFlight reports whether an own write of the node touches a block and is not over.
func (v *volume) inFlight(n *node, blk int64) bool {
	return n.eng != nil && n.eng.InFlight(v.number, blk*blockSize, min(blockSize, v.size-blk*blockSize))
}

// resynced checks a node's disk at the end of a resync (invariant I6). A peer that has left meanwhile, or has
// let this disk go, may have gone on alone: it knows what differs.
func (v *volume) resynced(n *node) {
	v.compare()
	if !n.peer().alive() {
		return
	}
	if st := n.peer().state(v.index); !st.Conn.Established() || st.PeerDisk.Gone() {
		return
	}
	for _, blk := range sorted(v.differ) {
		if !v.inFlight(n, blk) && !v.inFlight(n.peer(), blk) {
			v.s.fail("%s: volume %d: the resync is done and block %d differs", n.name, v.number, blk)
		}
	}
}

// may reports whether content is what the application may find in a sector now.
func (v *volume) may(m *model, sector int64, id uint64) bool {
	ok, by := m.allows(sector, id, v.s.turn)
	if ok {
		v.pardoned(by)
	}
	return ok
}

// verify compares the content that a node would serve with what was written.
func (v *volume) verify(n *node, why string) {
	m, d := v.modelOf(n), n.disks[v.index].data
	if len(m.writes) == 0 && len(m.sectors) == 0 {
		return
	}
	b := make([]byte, sectorSize)
	for _, sector := range sortedKeys(m.sectors) {
		d.ReadAt(b, sector*sectorSize)
		if id := contentID(b, sector); !v.may(m, sector, id) {
			v.s.fail("%s: volume %d: %s: sector %d has content %d, the application may expect %s", n.name, v.number, why, sector, int64(id), m.describe(sector))
		}
	}
}
