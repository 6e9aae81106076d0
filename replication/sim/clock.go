package sim

import (
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// clock is a node's own: while den passes in the simulation, num passes here.
type clock struct{ num, den int64 }

var exact = clock{1, 1}

// reads is what the clock shows at a time of the simulation.
func (c clock) reads(at engine.Instant) engine.Instant {
	return at/engine.Instant(c.den)*engine.Instant(c.num) + at%engine.Instant(c.den)*engine.Instant(c.num)/engine.Instant(c.den)
}

// shows is when, in the simulation, the clock shows an instant, or has just shown it.
func (c clock) shows(t engine.Instant) engine.Instant {
	if t == engine.Never {
		return engine.Never
	}
	num, den := engine.Instant(c.num), engine.Instant(c.den)
	return t/num*den + (t%num*den+num-1)/num
}

// now is what a node's clock shows.
func (n *node) now() engine.Instant { return n.s.cond.clocks[n.index].reads(n.s.now) }

// lasts is how long what a node takes for d lasts.
func (n *node) lasts(d time.Duration) time.Duration { return n.s.cond.clocks[n.index].shows(d) }

// stall takes the processor from a daemon for d: nothing that has happened is noticed before, and then all of it at once, at
// an hour that may be past its deadlines. What the kernel does for it goes on.
func (n *node) stall(d time.Duration) {
	s := n.s
	n.tell("the daemon gets no processor for %v", d)
	s.counts[ProcessStalled]++
	n.asleep = s.now + d
	for i, disk := range n.disks {
		if disk.flights > 0 && s.profile.volumes[i].disk.Timeout > 0 {
			disk.broken = true // by its clock the disk takes too long
		}
	}
	if s.cond.rng.IntN(2) == 0 { // it looks at the clock before it looks at anything else
		life := n.life
		s.agenda.plan(n.asleep, func() {
			if n.life == life {
				n.touched()
			}
		})
	}
}

// sleeps puts off what the daemon has to do itself, and reports whether it did.
func (n *node) sleeps(do func()) bool {
	if n.asleep <= n.s.now {
		return false
	}
	life := n.life
	n.s.agenda.plan(n.asleep, func() {
		if n.life == life {
			do()
		}
	})
	return true
}
