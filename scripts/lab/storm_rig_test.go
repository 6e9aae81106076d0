//go:build rig

package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// TestStorms has the same thing happen to a pair again and again, while a recorder writes: the wire fails, the daemon is killed, the roles
// change, the nodes part and both write, the disks fail. The application sees no error; what was confirmed is there, the disks are equal.
func TestStorms(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		b := newBench(t, Options{Kernel: k, Size: 32 << 20, Mapper: true, Commands: []string{recorderPackage}})
		b.ok(b.Up(b.ctx))
		b.ok(b.Sync(b.ctx, b.Alpha))
		r := random(t)
		rec := b.newRecording(0, r.Uint64(), 16)
		for _, storm := range []struct {
			name string
			rage func(*bench, *rand.Rand, *recording)
		}{
			{"link-flaps", (*bench).linkFlaps},
			{"daemon-kills", (*bench).daemonKills},
			{"promotions", (*bench).promotions},
			{"split-brain", (*bench).splits},
			{"disks-fail", (*bench).disksFail},
			{"disks-lie", (*bench).disksLie},
		} {
			well := b.stage(storm.name, func(b *bench) {
				rec.b = b
				storm.rage(b, r, rec)
				b.calm(rec)
			})
			if !well {
				return
			}
		}
		b.equalDisks()
	})
}

// calm is after a storm: alpha is Primary, both know each other, what was confirmed is there.
func (b *bench) calm(rec *recording) {
	b.t.Helper()
	for _, n := range b.Nodes() {
		b.state(n, "cstate", "Connected")
		b.ok(b.WaitUpToDate(b.ctx, n))
	}
	rec.check(b.Alpha, false)
	b.equalNow(b.Alpha)
}

// linkFlaps cuts the wire for anything between a moment and longer than the nodes take to give each other up.
func (b *bench) linkFlaps(r *rand.Rand, rec *recording) {
	rec.start(b.Alpha)
	n := times(30)
	b.t.Logf("%d link flaps", n)
	for i := range n {
		dark := time.Duration(r.IntN(1500)) * time.Millisecond
		if i%10 == 9 { // and sometimes wait until all have noticed
			b.blink(dark)
		} else {
			b.ok(b.CutWire())
			time.Sleep(dark)
			b.ok(b.JoinWire())
		}
		rec.goesOn(20)
	}
	b.state(b.Alpha, "cstate", "Connected")
	rec.goesOn(20)
	rec.stop()
}

// restartLongest is how long a killed daemon may take to be gone and to be back: the wait of start and the limits of the net section, with
// room for emulation.
const restartLongest = 2 * time.Minute

// daemonKills kills the daemon of the Primary, sometimes the Secondary's or both, and starts it again.
func (b *bench) daemonKills(r *rand.Rand, rec *recording) {
	rec.start(b.Alpha)
	n := times(30)
	b.t.Logf("%d times kill -9", n)
	var pauses []time.Duration
	for i := range n {
		victims := []*vm.Node{b.Alpha}
		switch {
		case i%5 == 3:
			victims = []*vm.Node{b.Beta}
		case i%5 == 4:
			victims = b.Nodes()
		}
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		began := time.Now()
		b.each(victims, func(n *vm.Node) error {
			ctx, cancel := context.WithTimeout(b.ctx, restartLongest)
			defer cancel()
			_, err := n.Sh(ctx, "set -e; pid=$(cat /run/urbd/r0.lock); kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.05; done; urbd up r0")
			return err
		})
		rec.goesOn(20)
		pauses = append(pauses, time.Since(began))
	}
	slices.Sort(pauses)
	b.t.Logf("from the kill to 20 writes later: median %v, worst %v", pauses[n/2].Round(time.Millisecond), pauses[n-1].Round(time.Millisecond))
	rec.stop()
}

// promotions has both nodes promoted at the same time, again and again, one of which becomes Primary, never both; and then one after the other,
// without a pause. Each finds what the last one wrote.
func (b *bench) promotions(r *rand.Rand, _ *recording) {
	races, turns := times(3), times(10)
	b.t.Logf("%d times who becomes Primary, and %d times the other one", races, turns)
	b.urbd(b.Alpha, "secondary", Resource)
	last, wins := "", map[string]int{}
	term := func(primary *vm.Node) {
		b.t.Helper()
		if last != "" {
			b.sh(primary, "dd if=%s bs=4k count=1 skip=%d iflag=direct 2>/dev/null | grep -q '%s'", b.Device(primary, 0), markBlock, last)
		}
		last = fmt.Sprintf("term %d of %s", r.Uint32(), primary.Name())
		b.sh(primary, "yes '%s' | dd of=%s bs=4k count=1 seek=%d oflag=direct iflag=fullblock conv=notrunc 2>/dev/null", last, b.Device(primary, 0), markBlock)
		b.urbd(primary, "secondary", Resource)
	}
	for i := range races {
		primary := b.race(i%2 == 0, time.Duration(r.IntN(150))*time.Millisecond)
		wins[primary.Name()]++
		term(primary)
	}
	b.t.Logf("wins: %v", wins)
	for i := range turns {
		primary := b.Nodes()[i%2]
		b.urbd(primary, "primary", Resource)
		term(primary)
	}
	b.urbd(b.Alpha, "primary", Resource)
}

// race promotes both nodes, one a little before the other, and returns who has won.
func (b *bench) race(alphaFirst bool, lead time.Duration) *vm.Node {
	b.t.Helper()
	var won []*vm.Node
	var mu sync.Mutex
	b.each(b.Nodes(), func(n *vm.Node) error {
		if (n == b.Alpha) != alphaFirst {
			time.Sleep(lead)
		}
		if _, err := b.Urbd(b.ctx, n, "primary", Resource); err == nil {
			mu.Lock()
			defer mu.Unlock()
			won = append(won, n)
		}
		return nil
	})
	switch len(won) {
	case 1:
		return won[0]
	case 2:
		b.ok(fmt.Errorf("both nodes were promoted"))
	}
	// Both may have been refused for the other's sake: then one of them is asked again.
	b.urbd(b.Alpha, "primary", Resource)
	return b.Alpha
}

// splits has both nodes write while they are apart, and each win once.
func (b *bench) splits(_ *rand.Rand, rec *recording) {
	for range times(1) {
		b.splitAndHeal(b.Beta, b.Alpha)
		b.urbd(b.Beta, "secondary", Resource)
		b.splitAndHeal(b.Alpha, b.Beta)
	}
	rec.start(b.Alpha)
	rec.goesOn(100)
	rec.stop()
}
