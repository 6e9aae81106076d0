package sim

import (
	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// rescue is for the data of a pair whose only good disk was given up for the peer's on a request that nobody had made, while the peer's failed, or was given up
// for this one: no disk is good any more, and no resync has a source. A person, who has the notices of both, takes the disk that has data for good, or either
// of two that are the same: it has to have everything.
func (n *node) rescue() bool {
	s, lost := n.s, false
	for i := range s.vols {
		switch {
		case n.alive() && n.state(i).Disk == sm.UpToDate:
		case !s.link.misled || !n.onlyData(i):
			return false
		default:
			lost = true
		}
	}
	if !lost {
		return false
	}
	s.counts[Rescued]++
	n.order(engine.Promote{Force: true}, func(err error) {
		if err == sm.InTransientState {
			return // the nodes are just meeting: once more, then
		}
		if err != nil {
			s.fail("%s: forced promotion of the only disk with data: %v", n.name, err)
		}
		s.admin.promoted(n)
	})
	return true
}

// onlyData reports whether a disk here has the data of a volume of which no disk is good.
func (n *node) onlyData(i int) bool {
	p := n.peer()
	if n.state(i).Disk != sm.Inconsistent || p.state(i).Disk != sm.Inconsistent || !n.holdsData(i) {
		return false
	}
	return !p.holdsData(i) || n.s.identical(i, n.s.vols[i]) == nil
}

// holdsData reports whether the disk of a volume has had data once.
func (n *node) holdsData(i int) bool {
	return n.alive() && n.eng.Status().Volumes[i].UUIDs.Current&^sm.RoleBit != sm.JustCreated&^sm.RoleBit
}
