package sim

import (
	"slices"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// patience is how long a command, or a request, may take, in virtual time.
const patience = 120 * time.Second

// check looks at the invariants, after every event.
func (s *Sim) check() {
	for _, v := range s.vols {
		v.compare()
		v.oneWay()
		v.noteFailures()
		if n := uint64(len(v.differ)); n <= 64 || s.turn%(n/2) == 0 {
			v.checkKnown()
		}
		if s.turn%8 == 0 || len(v.differ) <= 8 {
			v.checkPowerCuts()
		}
	}
	s.admin.observe()
	s.link.agree()
	if (s.unheard || len(s.ambiguous) > 0) && s.admin.allInSync() {
		s.ambiguous, s.unheard = nil, false // the disk that had it was overwritten, or has it as both
	}
	s.admin.press()
	s.brew()
	if s.turn%64 == 0 {
		s.checkPatience()
	}
}

// sorted is the set in order, so that a run tells the same block first each time.
func sorted(set map[int64]struct{}) []int64 {
	l := make([]int64, 0, len(set))
	for b := range set {
		l = append(l, b)
	}
	slices.Sort(l)
	return l
}

// checkKnown: where the disks differ, somebody knows (I1, I5); and while both
// call themselves UpToDate and in sync, only writes in flight make a difference (I3, I6).
func (v *volume) checkKnown() {
	a, b := v.s.nodes[0], v.s.nodes[1]
	inSync := v.inSync()
	for _, blk := range sorted(v.differ) {
		if !a.knows(v, blk) && !b.knows(v, blk) {
			v.s.fail("volume %d: block %d differs, and no node knows", v.number, blk)
		}
		if inSync && !v.inFlight(a, blk) && !v.inFlight(b, blk) {
			v.s.fail("volume %d: both disks are UpToDate and connected, block %d differs, and no write is in flight there", v.number, blk)
		}
	}
}

// inSync reports whether both nodes think that both disks hold the same.
func (v *volume) inSync() bool {
	a, b := v.s.nodes[0], v.s.nodes[1]
	if a.end == nil || b.end != a.end.other {
		return false
	}
	for _, n := range v.s.nodes {
		if st := n.state(v.index); st.Conn != sm.Connected || !st.Redundant() {
			return false
		}
	}
	return true
}

// checkPowerCuts: if one node lost power now, or both, the differences that
// come of it would be known afterwards (I1, I4). What one node cannot say, the other has to.
func (v *volume) checkPowerCuts() {
	suspects := len(v.differ)
	for _, n := range v.s.nodes {
		suspects += n.disks[v.index].data.Unsafe()
	}
	if suspects > 100 && v.s.turn%uint64(suspects) != 0 {
		return // it is a matter of time
	}
	know := [2]*knowledge{v.s.nodes[0].disks[v.index].afterCut(), v.s.nodes[1].disks[v.index].afterCut()}
	for i, n := range v.s.nodes {
		n.disks[v.index].data.Volatile(func(off, size int64) {
			if off < v.size {
				v.checkCut(n, off, min(size, v.size-off), know[i], know[1-i])
			}
		})
		for _, blk := range sorted(v.differ) {
			v.checkCut(n, blk*blockSize, 1, know[i], know[1-i])
		}
	}
}

// checkCut looks at a range that may differ once n has lost power.
func (v *volume) checkCut(n *node, off, size int64, own, others *knowledge) {
	if own.hasAll(off, size) {
		return
	}
	for blk := off / blockSize; blk <= (off+size-1)/blockSize; blk++ {
		_, differs := v.differ[blk]
		switch at := blk * blockSize; {
		case own.has(blk):
		case !differs && n.disks[v.index].data.Certain(at, min(blockSize, v.size-at)):
		case !n.peer().knows(v, blk):
			v.s.fail("volume %d: if %s lost power now, block %d could differ, and no node would know (there %s)", v.number, n.name, blk, own.text)
		case !others.has(blk):
			v.s.fail("volume %d: if both lost power now, block %d could differ (volatile on %s), and no node would know (there %s, on the peer %s)", v.number, blk, n.name, own.text, others.text)
		}
	}
}

// checkPatience: nothing that was asked for is forgotten (I9).
func (s *Sim) checkPatience() {
	for _, n := range s.nodes {
		for _, o := range n.orders {
			if s.now-o.at > patience {
				s.fail("%s: %T of %v is not answered", n.name, o.cmd, o.at)
			}
		}
	}
	s.app.checkPatience()
}
