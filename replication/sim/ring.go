package sim

import (
	"github.com/urbd/urbd/replication/disktest"
	"github.com/urbd/urbd/replication/engine"
)

// corrode is called before a daemon comes: the activity log of one of its disks is damaged meanwhile, or cannot be read. What a
// ring that cannot be read makes of a disk is that it is not taken into use. One that is damaged is: if a Primary has
// crashed there, with every block marked. The rules of check.go hold it to that: they ask for the blocks that differ.
func (n *node) corrode() {
	s := n.s
	rng := s.media.rng
	for i := range n.disks {
		s.admin.replace(n, i)
	}
	if !s.admin.on || !s.media.rings || rng.IntN(2) == 0 {
		return
	}
	d := n.disks[rng.IntN(len(n.disks))]
	if d.vol.size > 64<<20 && rng.IntN(8) > 0 {
		return // a full resync would take the whole run
	}
	blocks := int(d.layout.ALBlocks())
	if rng.IntN(3) == 0 {
		at := d.layout.AL + rng.Int64N(int64(blocks))*4096
		d.unreadable = &disktest.Rule{Op: engine.DiskRead, Off: at, Len: 4096, Count: 1, Errno: engine.EIO}
		d.meta.Fail(d.unreadable)
		n.tell("volume %d: the activity log cannot be read", d.vol.number)
		return
	}
	// One block alone may be the newest, and then it cannot be told from one that a power cut has torn.
	count, first := 2+rng.IntN(blocks-1), rng.IntN(blocks)
	garbage := make([]byte, 512*(1+rng.IntN(7)))
	for i := range garbage {
		garbage[i] = byte(rng.Uint32())
	}
	for i := range count {
		d.meta.WriteAt(garbage, d.layout.AL+int64((first+i)%blocks)*4096)
	}
	s.counts[RingDamaged]++
	n.tell("volume %d: %d blocks of the activity log are damaged, from %d on", d.vol.number, count, first)
}

// ringErrors is how often the activity log could not be read.
func (d *disks) ringErrors() int {
	if d.unreadable == nil {
		return 0
	}
	return d.unreadable.Hits
}

// ringWasRead looks at the answer to an attach, before which the rule had hit so often.
func (d *disks) ringWasRead(before int, err error) {
	if d.ringErrors() == before {
		return
	}
	if err == nil {
		d.n.s.fail("%s: volume %d is attached, and its activity log could not be read", d.n.name, d.vol.number)
	}
	d.n.s.counts[RingUnreadable]++
}
