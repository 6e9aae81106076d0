package sim

import (
	"math/rand/v2"
	"time"

	"github.com/urbd/urbd/replication/disktest"
	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// storms are several troubles of one volume within a moment, in any order: disks that hang and fail, a connection that dies unnoticed,
// deaths, and orders by force meanwhile. By chance alone three of them hardly ever meet. Seeds decide about them from a stream of random numbers
// of their own.
type storms struct {
	rng  *rand.Rand
	on   bool
	next uint64 // turn before which there is none
}

func newStorms(seed uint64, on bool, p *profile) storms {
	w := storms{rng: rand.New(rand.NewPCG(seed, 0x5707)), on: on}
	if !on {
		return w
	}
	p.errors, p.splitBrain = true, false
	for i := range p.volumes {
		p.volumes[i].disk.Timeout = pick(w.rng, 0, 0, 300*time.Millisecond, 2*time.Second)
	}
	for i := range p.diskDelay {
		p.diskDelay[i] = min(p.diskDelay[i], 3*time.Millisecond) // within disk-timeout
	}
	p.calm = max(p.calm, 100*time.Millisecond) // the storms are trouble enough
	return w
}

// brew has the next storm come, mostly while the nodes are in sync.
func (s *Sim) brew() {
	w := &s.storms
	if !w.on || !s.admin.on || s.turn < w.next || !s.admin.allInSync() && (s.turn%16 > 0 || w.rng.IntN(8) > 0) {
		return
	}
	w.next = s.turn + 30 + w.rng.Uint64N(200)
	s.after(0, s.storm)
}

// storm plans the troubles of one storm.
func (s *Sim) storm() {
	rng := s.storms.rng
	n, i := s.nodes[rng.IntN(2)], rng.IntN(len(s.vols))
	if n.peer().primary() && rng.IntN(4) > 0 {
		n = n.peer()
	}
	spread := pick(rng, 50*time.Microsecond, 500*time.Microsecond, 5*time.Millisecond, 50*time.Millisecond, 500*time.Millisecond)
	at := time.Duration(0)
	s.counts[Storm]++
	all := s.gusts(n, i)
	for range 2 + rng.IntN(3) {
		k := rng.IntN(len(all))
		do := all[k]
		all[k] = all[len(all)-1]
		all = all[:len(all)-1]
		s.after(at, func() {
			if s.admin.on {
				do()
			}
		})
		at += time.Duration(rng.Int64N(int64(spread)))
	}
}

// gusts lists what a storm is made of; those that are there more often are likelier.
func (s *Sim) gusts(n *node, i int) (all []func()) {
	rng, a, p, vol := s.storms.rng, &s.admin, n.peer(), s.vols[i].number
	order := func(n *node, cmd engine.Command) func() {
		return func() {
			if n.alive() {
				n.order(cmd, nil)
			}
		}
	}
	for _, m := range []*node{n, n, p} {
		d := m.disks[i]
		all = append(all,
			func() { d.hang() },
			func() { d.hang() },
			func() { d.fails(rng) },
			d.metaFails,
			order(m, engine.Detach{Vol: vol, Force: true}),
			order(m, engine.Disconnect{Force: true}),
			func() { s.link.partition(m, between(rng, pick(rng, 200*time.Millisecond, 2*time.Second))) },
			func() { m.die(false) },
		)
	}
	for _, m := range []*node{n, p} {
		all = append(all,
			func() { m.die(true) },
			order(m, engine.Detach{Vol: vol}),
			order(m, engine.Disconnect{}),
			func() {
				if a.mayPromote(m) {
					a.promote(m)
				}
			},
			func() {
				if m.primary() && !a.busy[m.index] && a.promoting == nil {
					a.demote(m)
				}
			},
			func() {
				if m.alive() && !a.busy[m.index] && a.promoting != m && !m.users.wait {
					a.down(m)
				}
			},
			func() {
				if s.vols[i].inSync() {
					m.order(engine.Invalidate{Vol: vol}, nil)
				}
			},
			func() {
				if m.alive() && m.state(i).Disk == sm.Diskless && !m.disks[i].open {
					m.disks[i].repair()
					m.attach(i, nil)
				}
			},
		)
	}
	return append(all, s.link.cut, s.link.cut, s.link.cut, s.link.deafCut, s.link.deafCut, s.link.deafCut,
		func() { s.link.stall(between(rng, pick(rng, 100*time.Millisecond, 5*time.Second))) })
}

// metaFails has the metadata of a disk fail, from the next write on.
func (d *disks) metaFails() {
	rng := d.n.s.storms.rng
	r := &disktest.Rule{Op: engine.DiskWrite, Skip: rng.IntN(3), Count: pick(rng, 1, 3, 0), Errno: engine.EIO, Torn: rng.IntN(2) == 0}
	if d.meta == d.data {
		r.Off, r.Len = d.layout.DataLimit, d.data.Size()-d.layout.DataLimit
	}
	d.meta.Fail(r)
	d.n.tell("volume %d: metadata will fail", d.vol.number)
}

// deafCut cuts the connection, and only silence tells.
func (l *link) deafCut() {
	e := l.s.nodes[0].end
	if e == nil || e.cut {
		return
	}
	l.s.counts[LateNotice]++
	l.s.tell("connection %d is cut, unnoticed", e.number)
	for _, side := range []*end{e, e.other} {
		side.cut = true
		for _, st := range side.out {
			side.loseWire(st)
		}
	}
}
