package sim

import (
	"math/rand/v2"
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// deed is something that the administrator, or fate, may do now.
type deed struct {
	weight int
	do     func()
}

// one does one of the deeds, by their weights.
func (a *admin) one(deeds []deed) bool { return a.oneOf(a.s.rng, deeds) }

func (a *admin) oneOf(rng *rand.Rand, deeds []deed) bool {
	sum := 0
	for _, d := range deeds {
		sum += d.weight
	}
	if sum == 0 {
		return false
	}
	k := rng.IntN(sum)
	for _, d := range deeds {
		if k -= d.weight; k < 0 {
			d.do()
			return true
		}
	}
	return false
}

// repair brings something back that is missing.
func (a *admin) repair() bool {
	s := a.s
	var can []deed
	add := func(weight int, do func()) { can = append(can, deed{weight, do}) }
	for _, n := range s.nodes {
		switch {
		case n.told():
			add(2, func() { n.refit() })
			if n.ready() {
				add(2, n.begins)
			} else if n.alive() && len(n.orders) == 0 && !a.busy[n.index] {
				a.repairNode(n, add)
			}
		case n.ready():
			add(3, n.begins)
		case n.alive() && len(n.orders) == 0 && !a.busy[n.index]:
			a.repairNode(n, add)
		}
	}
	return a.one(can)
}

func (a *admin) repairNode(n *node, add func(int, func())) {
	s := a.s
	for i, d := range n.disks {
		if n.state(i).Disk == sm.Diskless && !d.open {
			add(3, func() {
				d.repair()
				a.replace(n, i)
				n.attach(i, func(err error) {
					if err == nil {
						s.counts[Attached]++
					}
				})
			})
		}
		if a.paused[n.index][i] {
			add(3, func() { a.pause(n, i, false) })
		}
	}
	if n.state(0).Conn == sm.StandAlone {
		add(3, func() { n.order(engine.Connect{}, nil) })
	}
	if a.mayPromote(n) {
		add(4, func() { a.promote(n) })
	}
}

func (a *admin) pause(n *node, i int, on bool) {
	n.order(engine.PauseSync{Vol: a.s.vols[i].number, On: on}, func(err error) {
		if err == nil {
			a.paused[n.index][i] = on
			a.s.counts[Paused]++
		}
	})
}

// trouble does something that need not be.
func (a *admin) trouble() {
	s := a.s
	var can []deed
	add := func(weight int, do func()) { can = append(can, deed{weight, do}) }
	if s.nodes[0].end != nil {
		add(16, s.link.cut)
	}
	add(3, func() { s.link.stall(between(s.rng, 100*time.Millisecond)) })
	add(1, func() { s.link.stall(between(s.rng, 5*time.Second)) })
	for _, n := range s.nodes {
		add(1, func() { s.link.partition(n, between(s.rng, pick(s.rng, 100*time.Millisecond, 2*time.Second))) })
	}
	if s.nodes[0].alive() && s.nodes[1].alive() && s.rng.IntN(2) == 0 {
		add(1, func() {
			s.counts[BothPowerLoss]++
			s.nodes[0].die(true)
			s.nodes[1].die(true)
		})
	}
	for _, n := range s.nodes {
		if !n.alive() {
			continue
		}
		add(2, func() { s.counts[PowerLoss]++; n.die(true) })
		crash := func() { s.counts[DaemonCrash]++; n.die(false) }
		add(2, crash)
		if n.primary() && a.allInSync() {
			add(8, crash) // and the peer could take over
		}
		if len(n.orders) < 2 && !a.busy[n.index] {
			a.orders(n, add)
		}
	}
	if s.profile.splitBrain && a.maySplit() {
		add(8, a.split)
	}
	a.one(can)
}

// orders are the commands that may be given to a node now.
func (a *admin) orders(n *node, add func(int, func())) {
	s := a.s
	i := s.rng.IntN(len(s.vols))
	v, st := s.vols[i], n.state(i)
	if n.primary() {
		if a.promoting == nil {
			add(4, func() { a.demote(n) })
		}
	} else if a.mayPromote(n) {
		add(5, func() { a.promote(n) })
	}
	if st.Conn != sm.StandAlone {
		add(2, func() { a.disconnect(n) })
	}
	if a.promoting != n && !n.users.wait {
		add(1, func() { a.down(n) })
	}
	if st.Disk.Usable() && len(n.orders) == 0 {
		add(2, func() {
			n.order(engine.Detach{Vol: v.number, Force: s.rng.IntN(4) == 0 && v.inSync()}, func(err error) {
				if err == nil {
					s.counts[Detached]++
				}
			})
		})
	}
	if v.inSync() {
		a.resyncs(n, v, add)
	}
	if st.Conn == sm.StandAlone {
		add(6, func() {
			all := a.forbidAlone(n, i)
			a.askForbidden(n, all[s.rng.IntN(len(all))])
		})
	}
	if !a.paused[n.index][i] {
		add(2, func() { a.pause(n, i, true) })
	}
	if s.profile.errors && !n.peer().spoilt() && a.allInSync() {
		add(16, func() { n.disks[i].spoil() })
		add(16, func() { a.hang(n, i) })
	}
}

// resyncs are the orders that overwrite one of two good disks.
func (a *admin) resyncs(n *node, v *volume, add func(int, func())) {
	if v.size > 64<<20 && a.s.rng.IntN(30) > 0 {
		return // it would take the whole run
	}
	count := func(f Fault) func(error) {
		return func(err error) {
			if err == nil {
				a.s.counts[f]++
				a.s.counts[FullResync]++
			}
		}
	}
	add(1, func() { n.order(engine.Invalidate{Vol: v.number}, count(Invalidated)) })
	add(1, func() { n.order(engine.InvalidateRemote{Vol: v.number}, count(InvalidatedPeer)) })
}

// hang lets a disk answer nothing for a while. Without disk-timeout somebody notices, perhaps.
func (a *admin) hang(n *node, i int) {
	s := a.s
	n.disks[i].hang()
	life := n.life
	s.after(between(s.rng, time.Second), func() {
		if n.life == life && n.alive() && n.disks[i].mute > s.now && s.rng.IntN(2) == 0 {
			n.order(pick[engine.Command](s.rng, engine.Detach{Vol: s.vols[i].number, Force: true}, engine.Disconnect{Force: true}), nil)
		}
	})
}

func (a *admin) disconnect(n *node) {
	force := a.s.rng.IntN(3) == 0
	together := n.joined() && n.state(0).Conn.Established() && n.peer().state(0).Conn.Established()
	n.order(engine.Disconnect{Force: force}, func(err error) {
		if err != nil {
			return
		}
		a.s.counts[Disconnected]++
		if !force && together {
			a.left(n)
		}
	})
}

func (n *node) spoilt() bool {
	for _, d := range n.disks {
		if d.broken || !n.alive() {
			return true
		}
		for _, disk := range d.both() {
			if disk.Spoilt() {
				return true
			}
		}
	}
	return false
}

func (a *admin) allInSync() bool {
	for _, v := range a.s.vols {
		if !v.inSync() {
			return false
		}
	}
	return true
}
