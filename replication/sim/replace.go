package sim

import (
	"slices"
	"strings"

	sm "github.com/urbd/urbd/statemachine"
)

// replace gives a node a new disk for one that is not in use, while its peer has everything that counts. The new one may be larger,
// and its logical blocks too: those have to be refused if the data was written in smaller ones.
func (a *admin) replace(n *node, i int) {
	rng := a.s.media.rng
	d, p := n.disks[i], n.peer()
	if !a.on || !a.s.media.replaced || rng.IntN(3) > 0 {
		return
	}
	idle := !d.open && d.old == 0 && (!n.alive() || n.state(i).Disk == sm.Diskless && len(n.orders) == 0)
	if !p.disks[i].saysUpToDate() { // it would not outlive its daemon
		return
	}
	if !idle || d.misfits() || n.users.wait || d.vol.size > 64<<20 || !a.has[p.index][i] || !p.alive() || p.state(i).Disk != sm.UpToDate || p.spoilt() || a.behind[p.index] || a.lost[p.index] {
		return
	}
	block := pick(rng, smallBlock, largeBlock, largeBlock)
	d.renew(block, d.least()+rng.Int64N(256)*4096)
}

const smallBlock, largeBlock = int64(512), int64(4096)

// least is the size of the smallest disk that the volume fits on.
func (d *disks) least() int64 {
	vp := &d.n.s.profile.volumes[d.vol.index]
	return max(vp.backing[0], vp.backing[1])/largeBlock*largeBlock + largeBlock
}

// renew makes a new disk of it, with nothing on it but new metadata.
func (d *disks) renew(block, backing int64) {
	s := d.n.s
	fresh := newDisk(d.n, d.vol, block, backing)
	d.data, d.meta, d.layout, d.block = fresh.data, fresh.meta, fresh.layout, block
	d.listen()
	d.image = imageCache{}
	d.broken, d.mute, d.unreadable, d.told = false, 0, nil, false
	d.vol.touched(0, d.vol.size)
	s.admin.has[d.n.index][d.vol.index] = false
	s.counts[DiskReplaced]++
	d.n.tell("volume %d: a new disk of %d bytes, in blocks of %d", d.vol.number, backing, block)
}

// misfits reports whether the disk has larger blocks than the data is written in.
func (d *disks) misfits() bool { return d.block > d.vol.block }

// refit gives a node a disk that fits, for one that does not. Its host is taken off for that.
func (n *node) refit() (done bool) {
	for _, d := range n.disks {
		if !d.misfits() {
			continue
		}
		n.die(true)
		d.renew(d.vol.block, d.least())
		done = true
	}
	return done
}

// refusesBlocks looks at the answer to an attach of a disk that does not fit.
func (d *disks) refusesBlocks(err error) {
	if err != nil && strings.Contains(err.Error(), "logical blocks of") {
		if !d.misfits() {
			d.n.s.fail("%s: volume %d: a disk with blocks of %d bytes, for data in units of %d: %v", d.n.name, d.vol.number, d.block, d.vol.block, err)
		}
		d.told = true
		d.n.s.counts[BlocksRefused]++
	}
}

// blocksRefused looks at a connection that was refused because of a disk with larger blocks.
func (n *node) blocksRefused(text string) {
	if !n.misfit() && !n.peer().misfit() && !(n.end != nil && n.end.misfit) {
		n.s.fail("%s: %s", n.name, text)
	}
	for _, m := range n.s.nodes {
		for _, d := range m.disks {
			d.told = d.told || d.misfits()
		}
	}
	n.s.counts[BlocksRefused]++
}

// fits checks that a disk which takes part in the data can be written in its units, and has the size of the device.
func (n *node) fits(i int, from, to sm.State) {
	d, s := n.disks[i], n.s
	if n.eng == nil || d.vol.block == 0 {
		return
	}
	if d.misfits() && (targets.has(to.Conn) || to.Disk == sm.UpToDate) {
		s.fail("%s: volume %d: %v, on a disk with blocks of %d bytes, and the data is in units of %d", n.name, d.vol.number, to, d.block, d.vol.block)
	}
	st := n.eng.Status().Volumes[i]
	if from.Role != sm.Primary && to.Role == sm.Primary && n.state(i) == to && (st.Size != d.vol.size || st.BlockSize != d.vol.block) {
		s.fail("%s: volume %d: a device of %d bytes, in blocks of %d; it has to be %d, in blocks of %d",
			n.name, d.vol.number, st.Size, st.BlockSize, d.vol.size, d.vol.block)
	}
}

// told reports whether somebody knows that a node has such a disk.
func (n *node) told() bool {
	return slices.ContainsFunc(n.disks, func(d *disks) bool { return d.told })
}

// misfit reports whether a node has a disk that does not fit.
func (n *node) misfit() bool { return slices.ContainsFunc(n.disks, (*disks).misfits) }
