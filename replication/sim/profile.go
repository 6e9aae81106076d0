package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// profile is what a seed decides before the first event: shape of the
// resource, speed of its parts, and which trouble may happen.
type profile struct {
	net      engine.NetOptions
	volumes  []volumeProfile
	volatile [2]bool // disks with a volatile cache

	netDelay, netJitter time.Duration
	chunk               int   // largest piece of a stream, bytes
	window              int64 // of the socket buffers, bytes
	diskDelay           [2]time.Duration
	batch               float64 // chance that a node does not react at once

	depth   int           // requests of the application at once
	think   time.Duration // between them
	largest int64         // request, bytes
	hot     int64         // bytes of the device that most requests go to

	fresh      bool // disks are declared equal; else forced promotion and a full resync
	errors     bool // disks fail
	splitBrain bool // on purpose, once in a while
	calm       time.Duration
}

type volumeProfile struct {
	number   int
	meta     engine.MetaPlacement
	backing  [2]int64 // bytes
	metaSize int64    // bytes, external
	disk     engine.DiskOptions
	block    [2]int64 // logical, bytes; 0: 512
	size     [2]int64 // configured, bytes; 0: none
}

func newProfile(rng *rand.Rand) profile {
	p := profile{
		volatile:  [2]bool{rng.IntN(5) > 0, rng.IntN(5) > 0},
		netDelay:  pick(rng, 50*time.Microsecond, 300*time.Microsecond, 2*time.Millisecond, 10*time.Millisecond),
		chunk:     pick(rng, 4096, 64<<10, 1<<20),
		window:    pick[int64](rng, 64<<10, 256<<10, 1<<20),
		diskDelay: [2]time.Duration{diskSpeed(rng), diskSpeed(rng)},
		batch:     pick(rng, 0, 0.2, 0.6),
		depth:     pick(rng, 1, 4, 16, 40),
		think:     pick(rng, 100*time.Microsecond, time.Millisecond, 10*time.Millisecond),
		largest:   pick[int64](rng, 4<<10, 32<<10, 128<<10, 1<<20),
		fresh:     rng.IntN(3) > 0,
		errors:    rng.IntN(3) == 0,
		calm:      pick(rng, 5*time.Millisecond, 30*time.Millisecond, 100*time.Millisecond, 400*time.Millisecond),
	}
	p.netJitter = time.Duration(rng.Int64N(int64(p.netDelay) * 4))
	p.splitBrain = !p.errors && rng.IntN(3) == 0
	if rng.IntN(8) == 0 { // a slow peer has more on its way than it has memory for
		p.diskDelay, p.depth, p.largest, p.window, p.think = [2]time.Duration{20 * time.Microsecond, 3 * time.Millisecond}, 40, 1<<20, 1<<20, 100*time.Microsecond
	}
	p.net = engine.NetOptions{
		Protocol:     pick(rng, engine.ProtocolA, engine.ProtocolB, engine.ProtocolC, engine.ProtocolC, engine.ProtocolC),
		Timeout:      time.Second,
		KOCount:      3,
		PingInterval: 2 * time.Second,
		PingTimeout:  300 * time.Millisecond,
		MaxEpochSize: pick(rng, 1, 3, 20, 2048),
		NoRLE:        rng.IntN(4) == 0,
	}
	p.shape(rng)
	return p
}

func diskSpeed(rng *rand.Rand) time.Duration {
	return pick(rng, 20*time.Microsecond, 200*time.Microsecond, 3*time.Millisecond)
}

// shape decides the volumes: small ones, where writes meet; or sparse large
// ones, where the activity log turns over.
func (p *profile) shape(rng *rand.Rand) {
	n := pick(rng, 1, 1, 1, 2, 3)
	large := rng.IntN(5) == 0
	if large {
		n, p.fresh, p.largest = 1, true, min(p.largest, 32<<10)
	}
	for i := range n {
		size := int64(1<<20) + rng.Int64N(7<<20)/512*512
		if large {
			size = 300<<20 + rng.Int64N(400<<20)/512*512
		}
		v := volumeProfile{number: i * pick(rng, 1, 3), backing: [2]int64{size, size}}
		if i > 0 {
			v.number = p.volumes[i-1].number + 1 + rng.IntN(3)
		}
		if rng.IntN(4) == 0 {
			v.backing[rng.IntN(2)] += rng.Int64N(1<<20) / 512 * 512
		}
		switch rng.IntN(4) {
		case 0:
			v.meta, v.metaSize = engine.MetaPlacement{External: true, Index: -1}, 1<<20+rng.Int64N(1<<20)/512*512
		case 1:
			v.meta.External, v.meta.Index = true, rng.IntN(2)
			v.metaSize = 256 << 20
		}
		v.disk = engine.DiskOptions{ALExtents: 67}
		if p.errors {
			v.disk.Timeout = pick(rng, 0, 300*time.Millisecond, 2*time.Second)
		}
		p.volumes = append(p.volumes, v)
	}
	p.hot = pick[int64](rng, 64<<10, 512<<10, 1<<40)
	if large {
		p.hot, p.chunk, p.window = 1<<40, 1<<20, 1<<20
	}
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// between is a duration from d/2 to 3d/2, once in a while ten times that.
func between(rng *rand.Rand, d time.Duration) time.Duration {
	t := d/2 + time.Duration(rng.Int64N(int64(d)+1))
	if rng.IntN(50) == 0 {
		t *= 10
	}
	return t
}

func (p profile) String() string {
	s := fmt.Sprintf("protocol %c, epochs of %d, delay %v+%v, chunks of %d, disks %v, batch %.1f, depth %d, requests to %d, fresh %v, errors %v, split brain %v, caches %v",
		'A'+p.net.Protocol-1, p.net.MaxEpochSize, p.netDelay, p.netJitter, p.chunk, p.diskDelay, p.batch, p.depth, p.largest, p.fresh, p.errors, p.splitBrain, p.volatile)
	for _, v := range p.volumes {
		s += fmt.Sprintf("; volume %d of %v, meta %+v, blocks %v, sizes %v", v.number, v.backing, v.meta, v.block, v.size)
	}
	return s
}
