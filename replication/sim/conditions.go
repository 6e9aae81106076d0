package sim

import (
	"math/rand/v2"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// conditions are what a seed decides about the network, the clocks and the peer's manners, from a stream of random numbers
// of its own: without them a seed gives the run that it gave before there were any.
type conditions struct {
	rng    *rand.Rand
	net    [2]engine.NetOptions // of each node: what need not be equal may differ
	clocks [2]clock
	stalls bool // a daemon gets no processor for a while
	rests  bool // connections half open
	oneWay bool // partitions in one direction, long enough to be noticed
	asks   bool // for what is forbidden
	lies   bool // a peer says what it does not mean: see liar
	slow   bool // c-max-rate is low: a resync takes long
}

func newConditions(seed uint64, plain bool, p *profile) conditions {
	rng := rand.New(rand.NewPCG(seed, 0xc0d1))
	c := conditions{rng: rng, net: [2]engine.NetOptions{p.net, p.net}, clocks: [2]clock{exact, exact}}
	if plain {
		return c
	}
	for i := range c.clocks {
		if rng.IntN(3) == 0 {
			c.clocks[i] = pick(rng, clock{1, 2}, clock{2, 3}, clock{9, 10}, clock{11, 10}, clock{3, 2}, clock{2, 1})
		}
		if rng.IntN(3) == 0 {
			c.differ(&c.net[i], p)
		}
	}
	c.stalls, c.rests, c.oneWay, c.asks = rng.IntN(3) == 0, rng.IntN(2) == 0, rng.IntN(3) == 0, rng.IntN(2) == 0
	c.lies = rng.IntN(2) == 0
	if rng.IntN(2) == 0 {
		p.calm *= 4 // connections live longer
	}
	if c.slow = rng.IntN(3) == 0; c.slow {
		c.slowDown(p)
	}
	return c
}

// differ changes what each node decides for itself. A ping-timeout below the time of a round trip would let no connection live.
func (c *conditions) differ(o *engine.NetOptions, p *profile) {
	o.Timeout = pick(c.rng, 500*time.Millisecond, 1500*time.Millisecond, 6*time.Second)
	o.KOCount = pick(c.rng, 1, 2, 7, -1)
	o.PingInterval = pick(c.rng, time.Second, 3*time.Second, 10*time.Second)
	o.PingTimeout = max(pick(c.rng, 100*time.Millisecond, 500*time.Millisecond, 2*time.Second), 4*(p.netDelay+p.netJitter))
	o.MaxEpochSize = pick(c.rng, 1, 2, 50, 2048)
	o.MaxBuffers = pick(c.rng, 32, 128, 2048)
	o.NoRLE = c.rng.IntN(2) == 0
}

// allow has a timeout be no shorter than what a slow disk takes for many requests: no exchange of bitmaps would ever end.
func (c *conditions) allow(p *profile) {
	for i := range c.net {
		c.net[i].Timeout = max(c.net[i].Timeout, 50*max(p.diskDelay[0], p.diskDelay[1]))
	}
}

// slowDown makes a resync take long enough for something to happen.
func (c *conditions) slowDown(p *profile) {
	for i := range p.volumes {
		d := &p.volumes[i].disk
		d.MaxRate = pick[int64](c.rng, 256<<10, 1<<20, 4<<20)
		if p.volumes[i].backing[0] > 64<<20 {
			d.MaxRate = 16 << 20 // it would take hours
		}
		d.MinRate = pick[int64](c.rng, -1, 64<<10, 250<<10)
		d.FillTarget = pick[int64](c.rng, -1, 0, 4<<10, 1<<20)
		if c.rng.IntN(3) == 0 {
			d.PlanAhead, d.ResyncRate = -1, d.MaxRate
		}
	}
}

// count counts a connection.
func (c *conditions) count(counts *Counts) {
	if c.clocks[0] != c.clocks[1] {
		counts[ClocksApart]++
	}
	if c.net[0] != c.net[1] {
		counts[OptionsApart]++
	}
}
