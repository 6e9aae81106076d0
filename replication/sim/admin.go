package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// admin is the administrator and the cluster manager, and the one who pulls
// plugs. It keeps to a policy under which no acknowledged data may be lost: a node is promoted
// only if its disk, or the peer that it is connected to, has everything.
type admin struct {
	s  *Sim
	on bool

	has       [2][]bool   // by node and volume: its disk has everything that was acknowledged
	lost      [2]bool     // what was cached there was lost, and not replaced since
	behind    [2]bool     // with protocols A and B: the former Primary died with writes that may not be here
	last      int         // the node that was Primary last
	weak      [2][]uint64 // by node and volume: turn in which the disk of a Primary was not UpToDate last
	lone      [2][]uint64 // and in which that of its peer was not, or not in reach
	promoting *node
	busy      [2]bool // a sequence of steps is under way

	pressed  uint64 // turn before which no trouble is pressed for
	parted   bool   // split brain on purpose
	sawSplit [2]bool
	metAt    engine.Instant // when the parted nodes were let meet
	paused   [2][]bool
}

func (a *admin) begin() {
	for i := range a.has {
		a.has[i], a.paused[i] = make([]bool, len(a.s.vols)), make([]bool, len(a.s.vols))
		a.weak[i], a.lone[i] = make([]uint64, len(a.s.vols)), make([]uint64, len(a.s.vols))
	}
}

func (a *admin) start() {
	a.on = true
	a.plan()
}

func (a *admin) stop() { a.on = false }

func (a *admin) plan() {
	a.s.after(between(a.s.rng, a.s.profile.calm), func() {
		if a.on {
			a.tick()
			a.plan()
		}
	})
}

// tick does one thing: it repairs, or it makes trouble.
func (a *admin) tick() {
	if a.parted {
		return
	}
	if a.s.media.sparing && !a.allInSync() && a.s.media.rng.IntN(16) > 0 {
		a.repair()
		return
	}
	if a.s.rng.IntN(2) == 0 && a.repair() {
		return
	}
	a.trouble()
}

// observe keeps account of which disk has everything.
func (a *admin) observe() {
	if a.parted {
		return
	}
	for i, v := range a.s.vols {
		if v.early != nil && v.inSync() {
			a.adopts(v, v.early, PardonFailover)
		}
		if v.model.void != unpardoned && v.inSync() {
			from := a.s.nodes[0]
			if from.peer().primary() {
				from = from.peer() // the other one may not have all yet
			}
			a.adopts(v, from, v.model.void)
		}
		var primary *node
		for _, n := range a.s.nodes {
			n.people[i].lacks = n.people[i].lacks && !v.inSync()
			if n.alive() && n.state(i).Role == sm.Primary {
				if primary != nil {
					a.s.fail("volume %d: both nodes are Primary", v.number)
				}
				primary = n
			}
		}
		if primary == nil {
			a.nobodyPrimary(i, v)
		} else {
			a.onePrimary(i, v, primary)
		}
	}
}

func (a *admin) onePrimary(i int, v *volume, p *node) {
	q := p.peer()
	st := p.state(i)
	if st.Disk != sm.UpToDate {
		a.weak[p.index][i] = a.s.turn
	}
	if a.s.profile.net.Protocol != engine.ProtocolC && st.Disk.Gone() && p.people[i].lost && (!p.joined() || q.lostToo(i)) {
		v.model.void = PardonDiskLost // what the lost disk had may never have reached the peer's
	}
	replicates := replicates(st)
	if v.heir == p && (st.Disk == sm.UpToDate || replicates) {
		a.inherits(i, v, p)
	}
	if !replicates || q.state(i).Disk != sm.UpToDate {
		a.lone[p.index][i] = a.s.turn
	}
	p.users.worksOn(i, st.Disk == sm.UpToDate, replicates)
	switch {
	case st.Disk == sm.UpToDate:
		a.has[p.index][i] = true
	case replicates, q.alive() && q.end != nil && q.end.other == p.end && q.state(i).Disk == sm.UpToDate:
		a.has[p.index][i] = false // the peer has begun, or is about to begin, a generation without it
	}
	switch {
	case !replicates && st.Disk == sm.UpToDate:
		a.has[q.index][i] = false
	case replicates && q.alive() && q.state(i).Disk == sm.UpToDate && q.end != nil && q.end.other == p.end:
		a.has[q.index][i] = true
		if st.Disk == sm.UpToDate && v.inSync() {
			a.lost[q.index], a.behind[q.index] = false, false
		} else if st.Disk != sm.UpToDate && a.lost[q.index] {
			a.servedBy(q, v, p.people[i].lost)
		}
	}
}

// lostToo reports whether the disk of a node is lost as well, and people know.
func (n *node) lostToo(i int) bool { return n.alive() && n.state(i).Disk.Gone() && n.people[i].lost }

// replicates reports whether what a Primary is given goes to a good disk of its peer.
func replicates(st sm.State) bool { return st.ReplicatesData() && st.PeerDisk == sm.UpToDate }

func (a *admin) nobodyPrimary(i int, v *volume) {
	if v.inSync() {
		for _, n := range a.s.nodes {
			a.has[n.index][i] = true
			if a.lost[n.index] {
				a.loses(n)
			}
			a.behind[n.index] = false
		}
		return
	}
	for _, n := range a.s.nodes {
		if st := n.state(i); n.alive() && st.Disk.Usable() && st.Disk < sm.UpToDate {
			a.has[n.index][i] = false
		}
	}
}

// joined reports whether what a node sends gets to its peer.
func (n *node) joined() bool {
	return n.end != nil && n.peer().end == n.end.other && !n.end.cut && !n.end.other.cut
}

// servedBy lets the application of a Primary that has lost its disk go on with what the
// peer's power loss has left there. With protocols A and B a flush made durable what
// the lost disk had: of both losses together nothing is promised, and if that disk comes back
// before anything was written, what it has comes back.
func (a *admin) servedBy(q *node, v *volume, lost bool) {
	if v.model.void = unpardoned; lost && a.s.profile.net.Protocol != engine.ProtocolC {
		v.model.void = PardonBothLost
	}
	a.loses(q)
}

// adopts takes what a node has for the truth.
func (a *admin) adopts(v *volume, n *node, by Fault) {
	v.early = nil
	if bad := v.model.adopt(n.disks[v.index].data, a.s.turn, func(has Fault) { v.excuse(n, has, by) }); bad >= 0 {
		a.s.fail("%s: volume %d: sector %d has content that was never written there", n.name, v.number, bad)
	}
}

// loses lets the model forget what a node's power loss may have taken.
func (a *admin) loses(n *node) {
	a.lost[n.index] = false
	for _, v := range a.s.vols {
		v.model.lose(PardonPowerLoss)
	}
}

// copied keeps account of a node that has been overwritten: what its peer lacks, it lacks. The peer may go before it
// hears of the end, and nobody sees the two in sync.
func (a *admin) copied(n *node) {
	from := 1 - n.index
	a.lost[n.index] = a.lost[n.index] || a.lost[from]
	a.behind[n.index] = a.behind[n.index] || a.behind[from]
}

// dies keeps account of a node that is about to die.
func (a *admin) dies(n *node, power bool) {
	if power {
		a.lost[n.index] = true
	}
	for i := range a.lone[n.index] {
		a.lone[n.index][i] = a.s.turn
	}
	if n.primary() {
		a.last = n.index
		for _, v := range a.s.vols {
			if !n.users.wait {
				v.model.forgetSeen()
			}
		}
		a.behind[1-n.index] = a.s.profile.net.Protocol != engine.ProtocolC
	}
	if a.promoting == n {
		a.promoting = nil
	}
	a.busy[n.index] = false
	for i := range a.paused[n.index] {
		a.paused[n.index][i] = false
	}
}

// mayPromote is the policy. A node whose own disk has not everything is promoted for the peer's, but not while that disk is
// on its way into use: if the peer went before it had answered, the order would be
// carried out alone, on what the metadata says of a disk that nobody has compared.
func (a *admin) mayPromote(n *node) bool {
	if !n.alive() || n.primary() || n.peer().primary() || a.promoting != nil || a.busy[0] || a.busy[1] {
		return false
	}
	for i := range a.s.vols {
		st := n.state(i)
		connected := n.end != nil && n.peer().end == n.end.other && st.Conn.Established() && st.PeerDisk == sm.UpToDate
		undecided := st.Disk == sm.Attaching || st.Disk == sm.Negotiating
		if !(a.has[n.index][i] && st.Disk == sm.UpToDate) && !(connected && a.has[1-n.index][i] && !undecided) {
			return false
		}
	}
	return true
}

// promote makes a node Primary and starts its application.
func (a *admin) promote(n *node) {
	a.promoting = n
	n.order(engine.Promote{}, func(err error) {
		a.promoting = nil
		if err == nil {
			a.promoted(n)
		}
	})
}

func (a *admin) promoted(n *node) {
	s := a.s
	s.counts[Promoted]++
	n.countSizes()
	alone := n.end == nil || !n.state(0).Conn.Established()
	if alone && a.last != n.index {
		s.counts[FailedOver]++
	}
	a.last = n.index
	n.users.served()
	n.peer().users.doom()
	n.peer().users.firm = n.peer().users.doomed != "" && n.worksOnSomething()
	for i, v := range s.vols {
		a.inherits(i, v, n)
	}
	s.app.on[n.index] = true
}

// worksOnSomething reports whether a Primary has any good disk. One that has lost its own before the generation was on it, and
// has no peer, has changed nothing.
func (n *node) worksOnSomething() bool {
	return slices.ContainsFunc(n.s.vols, func(v *volume) bool {
		st := n.state(v.index)
		return st.Disk == sm.UpToDate || replicates(st)
	})
}

// inherits settles what a promoted node's application finds: on its own disk,
// or on the peer's.
func (a *admin) inherits(i int, v *volume, n *node) {
	from, st := n, n.state(i)
	if st.Disk != sm.UpToDate {
		from = n.peer()
	}
	v.heir = nil
	switch {
	case a.parted:
	case from != n && !replicates(st): // there is none to work on
		v.heir = n
	case a.behind[from.index] && (!v.inSync() || v.early != nil):
		if a.lost[from.index] {
			v.model.lose(PardonPowerLoss) // it was promoted since, and nobody owes a warning of what its own cache had
		}
		a.adopts(v, from, PardonFailover)
	case a.lost[from.index]:
		v.model.lose(PardonPowerLoss)
	}
	if from == n {
		v.verify(n, "promoted")
	}
}

// demote stops the application first, as one unmounts.
func (a *admin) demote(n *node) {
	a.busy[n.index] = true
	life := n.life
	a.s.app.stop(n, func() {
		if n.life != life {
			return
		}
		n.order(engine.Demote{}, func(err error) {
			a.busy[n.index] = false
			if err != nil {
				a.s.app.on[n.index] = true
				return
			}
			a.s.counts[Demoted]++
		})
	})
}

// down ends a daemon in order.
func (a *admin) down(n *node) {
	a.busy[n.index] = true
	life := n.life
	a.s.app.stop(n, func() {
		if n.life != life {
			return
		}
		n.order(engine.Down{}, func(err error) {
			a.busy[n.index] = false
			if left := new(engine.LeaveError); err != nil && !errors.As(err, &left) {
				return // the peer could not do without it
			}
			a.s.counts[Restarted]++
			n.leaves()
		})
	})
}

// leaves ends a daemon that has nothing any more, but a disk that it was given when it was down, and before it said so.
func (n *node) leaves() {
	for i, d := range n.disks {
		if (d.open || d.flights > 0) && !n.attaches(i) {
			n.s.fail("%s: down is done, and volume %d is not given back", n.name, n.s.vols[i].number)
		}
	}
	n.s.after(time.Millisecond, func() {
		if n.alive() {
			n.die(false)
		}
	})
}
