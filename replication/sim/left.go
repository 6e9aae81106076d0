package sim

import (
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// left checks what an end of the connection in order leaves behind: the disk that a Primary writes without says
// itself that it is old, when the order is answered. A node that leaves at the same time answers for its own.
func (a *admin) left(n *node) {
	for _, p := range a.s.nodes {
		q := p.peer()
		if q.isLeaving() {
			continue
		}
		for i := range a.s.vols {
			st := p.state(i)
			if !p.alive() || st.Role != sm.Primary || st.Disk != sm.UpToDate || st.Conn.Established() || st.PeerDisk != sm.Outdated {
				continue
			}
			if q.disks[i].saysUpToDate() && !a.s.link.misled && !a.s.link.slandered {
				a.s.fail("%s has left in order, %s writes on, and the disk of %s says that it is UpToDate", n.name, p.name, q.name)
			}
			a.s.counts[LeftOutdated]++
		}
	}
}

// isLeaving reports whether a node has an order to leave that it has not answered.
func (n *node) isLeaving() bool {
	for _, o := range n.orders {
		switch o.cmd.(type) {
		case engine.Disconnect, engine.Down:
			return true
		}
	}
	return false
}

// saysUpToDate reports whether an attach, alone, would find the disk good.
func (d *disks) saysUpToDate() bool {
	return d.superblock().Flags.AtAttach(metadata.Attach{}).Disk == metadata.DiskUpToDate
}
