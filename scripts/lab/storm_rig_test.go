//go:build rig

package lab

import (
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
			name  string
			short []vm.Kernel // where scripts/test has it; scripts/soak has all
			rage  func(*bench, *rand.Rand, *recording)
		}{
			{"link-flaps", vm.Kernels, (*bench).linkFlaps},
			{"daemon-kills", vm.Kernels, (*bench).daemonKills},
			{"promotions", []vm.Kernel{vm.Linux6_12}, (*bench).promotions},
			{"split-brain", []vm.Kernel{vm.Linux6_12}, (*bench).splits}, // on 7: TestOverviewIsWalked
			{"disks-fail", []vm.Kernel{vm.Linux6_12}, (*bench).disksFail},
			{"disks-lie", []vm.Kernel{vm.Linux7}, (*bench).disksLie},
		} {
			if !long() && !slices.Contains(storm.short, k) {
				continue
			}
			well := t.Run(storm.name, func(t *testing.T) {
				b := &bench{Lab: b.Lab, t: t, ctx: b.ctx}
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
	n := times(15)
	b.t.Logf("%d link flaps", n)
	for i := range n {
		dark := time.Duration(r.IntN(1500)) * time.Millisecond
		if i%5 == 4 { // and sometimes wait until all have noticed
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

// daemonKills kills the daemon of the Primary, sometimes the Secondary's or both, and starts it again.
func (b *bench) daemonKills(r *rand.Rand, rec *recording) {
	rec.start(b.Alpha)
	n := times(15)
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
			_, err := n.Sh(b.ctx, "set -e; pid=$(cat /run/urbd/r0.lock); kill -9 $pid; while [ -e /proc/$pid ]; do sleep 0.05; done; urbd up r0")
			return err
		})
		rec.goesOn(20)
		pauses = append(pauses, time.Since(began))
	}
	slices.Sort(pauses)
	b.t.Logf("from the kill to 20 writes later: median %v, worst %v", pauses[n/2].Round(time.Millisecond), pauses[n-1].Round(time.Millisecond))
	rec.stop()
}

// promotions has both nodes promoted at the same time, again and again: one of them becomes Primary, never both, and finds what the last one wrote.
func (b *bench) promotions(r *rand.Rand, _ *recording) {
	n := times(3)
	b.t.Logf("%d times who becomes Primary", n)
	b.urbd(b.Alpha, "secondary", Resource)
	last, wins := "", map[string]int{}
	for i := range n {
		lead := time.Duration(r.IntN(150)) * time.Millisecond
		primary := b.race(i%2 == 0, lead)
		wins[primary.Name()]++
		if last != "" {
			b.sh(primary, "dd if=%s bs=4k count=1 skip=%d iflag=direct 2>/dev/null | grep -q '%s'", b.Device(primary, 0), markBlock, last)
		}
		last = fmt.Sprintf("round %d of %d", i, r.Uint32())
		b.sh(primary, "yes '%s' | dd of=%s bs=4k count=1 seek=%d oflag=direct iflag=fullblock conv=notrunc 2>/dev/null", last, b.Device(primary, 0), markBlock)
		b.urbd(primary, "secondary", Resource)
	}
	b.t.Logf("wins: %v", wins)
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
