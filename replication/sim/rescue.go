package sim

import (
	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// rescue is for the data of a pair whose only good disk was given up for the peer's on a request that nobody had made, while the peer's failed: no disk
// is good any more, and no resync has a source. A person, who has the notices of both, takes the disk that has data for good: it has to have everything.
func (n *node) rescue() bool {
	s := n.s
	if !s.link.misled || len(s.vols) > 1 || !n.holdsData() || s.nodes[0].state(0).Disk != sm.Inconsistent || s.nodes[1].state(0).Disk != sm.Inconsistent || n.peer().holdsData() {
		return false
	}
	s.counts[Rescued]++
	n.order(engine.Promote{Force: true}, func(err error) {
		if err != nil {
			s.fail("%s: forced promotion of the only disk with data: %v", n.name, err)
		}
		s.admin.promoted(n)
	})
	return true
}

// holdsData reports whether the disk of the first volume has had data once.
func (n *node) holdsData() bool {
	return n.alive() && n.eng.Status().Volumes[0].UUIDs.Current&^sm.RoleBit != sm.JustCreated&^sm.RoleBit
}
