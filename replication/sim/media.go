package sim

import (
	"math/rand/v2"
	"time"

	"github.com/urbd/urbd/replication/disktest"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
)

// media are what a seed decides about the disks, from a stream of random numbers of its own: without them a seed gives
// the run that it gave before there were any.
type media struct {
	rng      *rand.Rand
	together bool // both disks of a volume fail
	rings    bool // activity logs are damaged, or cannot be read, when a daemon comes
	replaced bool // disks are replaced by new ones
	resized  bool // a daemon comes with another size in its configuration
	sparing  bool // most trouble, and most of what the application does, waits until the nodes are in sync
	length   int  // of the run, in units of Options.Events
}

func newMedia(seed uint64, plain bool, p *profile) media {
	m := media{rng: rand.New(rand.NewPCG(seed, 0xd15c)), length: 1}
	if plain {
		return m
	}
	rng := m.rng
	m.together, m.rings, m.replaced, m.resized = rng.IntN(3) == 0, rng.IntN(3) == 0, rng.IntN(3) == 0, rng.IntN(3) == 0
	m.together = m.together && !p.splitBrain // who loses his data is decided by discard-my-data, which a node without a disk has none of
	m.sparing = m.together || m.replaced || rng.IntN(2) == 0
	if p.depth == 40 && p.largest == 1<<20 {
		m.sparing, p.depth = false, 100 // many large requests at once: leave them be, memory runs short
		if !p.errors {
			p.diskDelay[1] = pick(rng, 3*time.Millisecond, 30*time.Millisecond) // no disk-timeout
		}
	}
	if rng.IntN(12) == 0 {
		m.spread(p)
	}
	for i := range p.volumes {
		m.format(&p.volumes[i])
	}
	return m
}

// spread makes one volume large, and has its activity log turn over again and again: small requests, all over it, fast.
func (m *media) spread(p *profile) {
	rng := m.rng
	size := 1<<30 + rng.Int64N(2<<30)/512*512
	v := &p.volumes[0]
	v.backing = [2]int64{size, size}
	v.disk = engine.DiskOptions{ALExtents: v.disk.ALExtents, Timeout: v.disk.Timeout} // no slow resync
	p.volumes = p.volumes[:1]
	p.fresh, p.largest, p.hot = true, pick[int64](rng, 4<<10, 32<<10), 1<<40
	p.depth, p.think, p.chunk, p.window = pick(rng, 16, 40), 200*time.Microsecond, 1<<20, 1<<20
	p.diskDelay = [2]time.Duration{pick(rng, 20*time.Microsecond, 200*time.Microsecond), pick(rng, 20*time.Microsecond, 200*time.Microsecond)}
	p.calm = pick(rng, 30*time.Millisecond, 100*time.Millisecond)
	m.together, m.rings, m.replaced = false, false, false // each a full resync
	m.sparing, m.length = false, 2
}

// format decides the logical blocks of the disks, and which sizes are configured.
func (m *media) format(v *volumeProfile) {
	rng := m.rng
	v.block = [2]int64{512, 512}
	if rng.IntN(3) == 0 {
		v.block = pick(rng, [2]int64{4096, 512}, [2]int64{512, 4096}, [2]int64{4096, 4096})
	}
	for i := range v.backing {
		v.backing[i] = v.backing[i] / v.block[i] * v.block[i]
	}
	v.metaSize = v.metaSize / 4096 * 4096
	room := min(v.room(0), v.room(1))
	if block := max(v.block[0], v.block[1]); room%block != 0 {
		v.size[rng.IntN(2)] = room / block * block // what such a pair is told to do
	}
	if rng.IntN(4) == 0 {
		for i := range v.size {
			if rng.IntN(3) > 0 {
				v.size[i] = (room - rng.Int64N(room/4)) / 4096 * 4096
			}
		}
		if small := max(v.block[0], v.block[1]); v.limit()%small != 0 {
			v.size[0] = v.limit() / small * small
		}
	}
}

// kind is where the metadata is.
func (v *volumeProfile) kind() metadata.Kind {
	switch {
	case !v.meta.External:
		return metadata.Internal
	case v.meta.Index >= 0:
		return metadata.ExternalIndexed
	}
	return metadata.ExternalFlexible
}

// place lays the metadata of a disk out.
func (v *volumeProfile) place(backing int64) (metadata.Layout, error) {
	meta := backing
	if v.meta.External {
		meta = v.metaSize
	}
	return metadata.Place(v.kind(), v.meta.Index, backing, meta)
}

// room is how much data a node's disk has room for.
func (v *volumeProfile) room(n int) int64 {
	l, err := v.place(v.backing[n])
	if err != nil {
		panic(violation{err.Error()})
	}
	return l.DataLimit
}

// limit is the size of the device: what both disks have room for, and what is configured.
func (v *volumeProfile) limit() int64 {
	size := min(v.room(0), v.room(1))
	for _, user := range v.size {
		if user > 0 {
			size = min(size, user)
		}
	}
	return size
}

// single does one of the things that trouble has come seldom: most of them need two good disks.
func (a *admin) single() {
	s := a.s
	rng := s.media.rng
	n, i := s.nodes[rng.IntN(2)], rng.IntN(len(s.vols))
	var can []deed
	add := func(weight int, do func()) { can = append(can, deed{weight, do}) }
	if s.profile.splitBrain && a.maySplit() {
		add(30, a.split)
	}
	if n.alive() && len(n.orders)+len(n.peer().orders) == 0 && !a.busy[n.index] { // a storm may have come first
		a.resyncs(n, s.vols[i], add)
		add(1, func() { a.disconnect(n) })
	}
	if s.profile.errors && !n.peer().spoilt() {
		add(1, func() { n.disks[i].spoil() })
		add(2, func() { a.hang(n, i) })
	}
	if len(can) == 0 {
		a.trouble()
		return
	}
	a.oneOf(rng, can)
}

// failBoth has both disks of a volume fail: at the same time, or one after the other.
func (a *admin) failBoth(i int) {
	s := a.s
	if s.nodes[0].spoilt() || s.nodes[1].spoilt() {
		return
	}
	rng := s.media.rng
	first := s.nodes[rng.IntN(2)].disks[i]
	second := first.n.peer().disks[i]
	first.fails(rng)
	if rng.IntN(2) == 0 {
		second.fails(rng)
		return
	}
	var then func()
	then = func() {
		switch {
		case !a.on || a.parted || !first.n.alive() || !second.n.alive() || !first.broken && !first.data.Spoilt():
		case first.n.state(i).Disk.Gone():
			second.fails(rng)
		default:
			s.after(between(rng, 10*time.Millisecond), then)
		}
	}
	s.after(between(rng, 10*time.Millisecond), then)
}

// fails has the data of a disk fail, from the next I/O of a kind on.
func (d *disks) fails(rng *rand.Rand) {
	ops := []engine.DiskOp{engine.DiskWrite, engine.DiskWrite, engine.DiskFlush}
	if rng.IntN(2) == 0 { // all of it
		ops = append(ops, engine.DiskRead, engine.DiskZero)
	} else {
		ops = ops[rng.IntN(len(ops)):][:1]
	}
	count := pick(rng, 1, 3, 0)
	for _, op := range ops {
		d.data.Fail(&disktest.Rule{Op: op, Len: d.layout.DataLimit, Count: count, Errno: engine.EIO, Torn: rng.IntN(2) == 0})
	}
	d.n.tell("volume %d: data %v will fail", d.vol.number, ops)
}

// press has trouble come while the nodes are in sync, by the number of events: an application that does a lot would use all of
// them up meanwhile.
func (a *admin) press() {
	s := a.s
	if !a.on || !s.media.sparing || a.parted || s.turn < a.pressed || !a.allInSync() {
		return
	}
	first := a.pressed == 0
	a.pressed = s.turn + 50 + s.media.rng.Uint64N(300)
	s.after(0, func() {
		switch {
		case !a.on || a.parted:
		case s.media.together && (first || s.media.rng.IntN(2) == 0):
			a.failBoth(s.media.rng.IntN(len(s.vols)))
		case s.media.rng.IntN(2) == 0:
			a.single()
		default:
			a.trouble()
		}
	})
}

// noteFailures counts that both disks of a volume have failed.
func (v *volume) noteFailures() {
	both := true
	for _, n := range v.s.nodes {
		both = both && n.alive() && n.state(v.index).Disk.Gone() && n.disks[v.index].broken
	}
	if both && !v.failed {
		v.s.counts[BothDisksFailed]++
	}
	v.failed = both
}
