package sim

import (
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// maySplit reports whether the pair is in a state from which it can be made to part.
func (a *admin) maySplit() bool {
	awake := max(a.s.nodes[0].asleep, a.s.nodes[1].asleep) <= a.s.now
	return awake && a.allInSync() && a.s.nodes[a.last].primary() && a.idle()
}

// idle reports whether nobody waits for anything.
func (a *admin) idle() bool {
	return !a.s.nodes[0].users.wait && !a.s.nodes[1].users.wait && a.promoting == nil && !a.busy[0] && !a.busy[1] &&
		len(a.s.nodes[0].orders)+len(a.s.nodes[1].orders) == 0
}

// partAtEnd parts the nodes in the moment when a resync has ended on its target, and the source, Primary, has not heard of it: the one moment in which
// the source has a bitmap UUID, and the target has everything.
func (a *admin) partAtEnd(target *node) {
	s := a.s
	if !s.profile.splitBrain || s.turn%4 == 0 {
		return
	}
	s.after(0, func() {
		if a.on && !a.parted && a.idle() && a.missedEnd(target) {
			s.counts[PartedAtEnd]++
			a.last = 1 - target.index
			a.split()
		}
	})
}

// missedEnd reports whether a node has everything, and its peer, Primary, does not know of it.
func (a *admin) missedEnd(target *node) bool {
	source, missed := target.peer(), false
	if !source.joined() || !target.alive() {
		return false
	}
	for i, v := range a.s.vols {
		mine, theirs := target.state(i), source.state(i)
		if mine.Conn != sm.Connected || !mine.Redundant() || theirs.Role != sm.Primary {
			return false
		}
		missed = missed || sources.has(theirs.Conn)
		if !sources.has(theirs.Conn) && !v.inSync() {
			return false
		}
	}
	return missed
}

// split makes both nodes Primary while they cannot see each other. When they
// meet again both have to stop, and nothing may be overwritten (I2).
func (a *admin) split() {
	s := a.s
	a.parted, a.metAt = true, 0
	s.tell("split brain on purpose")
	p := s.nodes[a.last]
	q := p.peer()
	s.link.stalled = s.now + 1000*time.Second
	for _, n := range s.nodes {
		n.end.notice(engine.NetworkFailure)
	}
	for _, v := range s.vols {
		v.forked[p.index] = v.model
		v.forked[q.index] = v.model.clone()
		for _, w := range v.forked[q.index].writes {
			if w.over == 0 {
				w.over = s.turn // its answer comes, if at all, on the other side
			}
		}
		v.forked[q.index].forgetSeen() // so does what was read there of writes that were not answered, and perhaps never got here
	}
	q.order(engine.Promote{}, func(err error) {
		if err != nil {
			s.fail("%s is alone, UpToDate, and cannot be promoted: %v", q.name, err)
		}
		for i, v := range s.vols {
			if bad := v.forked[q.index].adopt(q.disks[i].data, s.turn, func(has Fault) { v.excuse(q, has, PardonSplit) }); s.profile.net.Protocol != engine.ProtocolC && bad >= 0 {
				s.fail("%s: volume %d: sector %d has content that was never written there", q.name, v.number, bad)
			}
		}
		a.promoted(q)
		s.after(between(s.rng, 300*time.Millisecond), a.meet)
	})
}

// meet lets the two see each other, some of them demoted before.
func (a *admin) meet() {
	s := a.s
	s.counts[SplitBrain]++
	for _, n := range s.nodes {
		if s.rng.IntN(3) == 0 {
			a.demote(n)
		}
	}
	s.after(between(s.rng, 100*time.Millisecond), func() {
		s.tell("the parted nodes meet")
		s.link.stalled, s.link.deaf, a.metAt = s.now, [2]engine.Instant{}, s.now
		s.link.look()
		a.watch(s.now+60*time.Second, a.bothAlone, a.resolve)
	})
}

// watch calls then once ready says so, before the deadline.
func (a *admin) watch(until engine.Instant, ready func() bool, then func()) {
	if ready() {
		then()
		return
	}
	if a.s.now > until {
		a.s.fail("split brain: after a minute A is %v, B is %v", a.s.nodes[0].state(0), a.s.nodes[1].state(0))
	}
	a.s.after(10*time.Millisecond, func() { a.watch(until, ready, then) })
}

// bothAlone reports whether the nodes have met and parted for good. If the last
// bytes of one who is StandAlone got lost, the other looks for it in vain.
func (a *admin) bothAlone() bool {
	alone := 0
	for _, n := range a.s.nodes {
		if n.asleep >= a.s.now {
			return false
		}
		for i, v := range a.s.vols {
			if st := n.state(i); st.Conn.Established() && n.meets() {
				a.s.fail("%s: volume %d: %v, although both have data of their own", n.name, v.number, st)
			}
			switch {
			case a.busy[n.index]:
				return false
			case n.state(i).Conn == sm.StandAlone:
				alone++
			case n.state(i).Conn != sm.WFConnection || a.metAt == 0 || a.s.now < a.metAt+5*time.Second:
				return false
			}
		}
	}
	return alone >= len(a.s.vols)
}

// resolve checks that both kept their data, and gives one side up.
func (a *admin) resolve() {
	s := a.s
	for _, n := range s.nodes {
		for _, v := range s.vols {
			v.verify(n, "split brain")
		}
	}
	winner := s.nodes[s.rng.IntN(2)]
	loser := winner.peer()
	next := func() {
		for i, v := range s.vols {
			v.model, v.forked = v.forked[winner.index], [2]*model{}
			a.has[winner.index][i], a.has[loser.index][i] = true, false
		}
		a.lost, a.behind, a.sawSplit, a.last = [2]bool{}, [2]bool{}, [2]bool{}, winner.index
		a.busy[loser.index] = false
		for _, n := range s.nodes {
			a.connectAgain(n, engine.Connect{DiscardMyData: n == loser})
		}
		a.watch(s.now+60*time.Second, func() bool { return a.met() || a.sayAgain(loser) }, func() {
			a.parted = false
			s.counts[SplitBrainEnded]++
		})
	}
	a.busy[loser.index] = true
	s.app.stop(loser, func() {
		loser.order(engine.Demote{}, func(err error) {
			if err != nil {
				s.fail("%s: secondary: %v", loser.name, err)
			}
			next()
		})
	})
}

// connectAgain gives a connection up if there is one still, and begins a new one.
func (a *admin) connectAgain(n *node, cmd engine.Connect) {
	if n.state(0).Conn == sm.StandAlone {
		n.order(cmd, nil)
		return
	}
	n.order(engine.Disconnect{Force: true}, func(error) { n.order(cmd, nil) })
}

// sayAgain connects who is StandAlone again: the connection on which the loser was to give its data up may have broken before the resync had begun.
func (a *admin) sayAgain(loser *node) bool {
	for _, n := range a.s.nodes {
		if n.state(0).Conn == sm.StandAlone && len(n.orders) == 0 {
			n.order(engine.Connect{DiscardMyData: n == loser}, nil)
		}
	}
	return false
}

// met reports whether the resync away from the loser has begun, or is over.
func (a *admin) met() bool {
	for _, n := range a.s.nodes {
		for i := range a.s.vols {
			if st := n.state(i); !st.Conn.Established() || st.Conn.BitmapExchange() {
				return false
			}
		}
	}
	return true
}
