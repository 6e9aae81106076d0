package sim

import "time"

// mischief goes on as long as the administrator works: what the conditions of the seed allow to happen.
func (s *Sim) mischief() {
	s.after(between(s.cond.rng, min(2*s.profile.calm, 100*time.Millisecond)), func() {
		if s.admin.on {
			s.befall()
			s.mischief()
		}
	})
}

// befall has one thing happen.
func (s *Sim) befall() {
	c := &s.cond
	var can []func()
	for _, n := range s.nodes {
		if c.stalls && n.alive() && n.asleep <= s.now && !s.admin.parted {
			can = append(can, func() { n.stall(between(c.rng, pick(c.rng, 20*time.Millisecond, 500*time.Millisecond, 3*time.Second))) })
		}
		if e := n.end; c.rests && e != nil && e.up && !e.cut && !s.admin.parted {
			can = append(can, func() { s.link.halfOpen(e) })
		}
		if c.oneWay && n.end != nil && n.end.up && !s.admin.parted {
			can = append(can, func() { s.link.partition(n, between(c.rng, pick(c.rng, 200*time.Millisecond, 2*time.Second))) })
		}
		if c.asks && n.alive() && len(n.orders) == 0 {
			can = append(can, func() {
				all := s.admin.forbid(n, c.rng.IntN(len(s.vols)))
				s.admin.askForbidden(n, all[c.rng.IntN(len(all))])
			})
		}
	}
	if len(can) > 0 {
		can[c.rng.IntN(len(can))]()
	}
}

// disturb troubles a resync that has begun and takes long: its Target's disk fails, the connection is lost, or both.
func (n *node) disturb(i int) {
	s, rng, life := n.s, n.s.cond.rng, n.life
	s.after(between(rng, pick(rng, time.Millisecond, 50*time.Millisecond, 500*time.Millisecond)), func() {
		if n.life != life || s.healing || s.admin.parted || !targets.has(n.state(i).Conn) {
			return
		}
		how := rng.IntN(4)
		if how < 3 && !s.profile.splitBrain && !n.peer().spoilt() {
			n.disks[i].spoil()
		}
		if how > 1 {
			s.link.cut()
		}
		n.disturb(i)
	})
}
