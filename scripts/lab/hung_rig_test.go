//go:build rig

package lab

import (
	"fmt"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// hungTimeout is the disk-timeout of the second half of TestHungDisk.
const hungTimeout = 4 * time.Second

// TestHungDisk has a disk that answers nothing below either node, under a recorder: a suspended device of the mapper. First without
// disk-timeout, so that somebody has to give it up, then with it. The recorder sees no error, and what was confirmed is there.
func TestHungDisk(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		b := newBench(t, Options{Kernel: k, CPUs: 2, Size: 32 << 20, Mapper: true, Commands: []string{recorderPackage}})
		b.ok(b.Up(b.ctx))
		b.ok(b.Sync(b.ctx, b.Alpha))
		rec := b.newRecording(0, random(t).Uint64(), 16)
		for range times(1) {
			rec.start(b.Alpha)
			b.givenUp(b.Beta, rec)
			b.givenUp(b.Alpha, rec)
			b.hungDown(rec)
			rec.stop()
			b.setTimeout(hungTimeout)
			rec.start(b.Alpha)
			for _, n := range []*vm.Node{b.Beta, b.Alpha} {
				b.t.Logf("disk-timeout on %s", n.Name())
				rec.goesOn(20)
				b.hang(n)
				rec.goesOn(100)
				b.comesBack(n)
			}
			rec.stop()
			rec.check(b.Alpha, false)
			b.equalNow(b.Alpha)
			b.setTimeout(0)
		}
		b.urbd(b.Alpha, "secondary", Resource)
		b.equalDisks()
	})
}

func (b *bench) hang(n *vm.Node) {
	b.t.Helper()
	b.sh(n, "dmsetup suspend --noflush --nolockfs --noudevsync %s", Mapped(0))
}

func (b *bench) resume(n *vm.Node) {
	b.t.Helper()
	b.sh(n, "dmsetup resume --noudevsync %s", Mapped(0))
}

// comesBack ends the hanging of a disk that was given up, and has it attached again.
func (b *bench) comesBack(n *vm.Node) {
	b.t.Helper()
	b.state(n, "dstate", "Failed/UpToDate")
	b.refused(n, []string{"given up"}, "attach", Resource+"/0")
	b.resume(n)
	b.state(n, "dstate", "Diskless/UpToDate")
	b.urbd(n, "attach", Resource+"/0")
	b.ok(b.WaitUpToDate(b.ctx, n))
}

// quick gives an order that may not take long.
func (b *bench) quick(n *vm.Node, args ...string) {
	b.t.Helper()
	begun := time.Now()
	b.urbd(n, args...)
	d := time.Since(begun)
	if b.t.Logf("%v on %s took %v", args, n.Name(), d.Round(time.Millisecond)); d > 25*time.Second { // emulated processors
		b.ok(fmt.Errorf("%v took %v", args, d))
	}
}

// stalled waits until the status of a node says that its disk does not answer.
func (b *bench) stalled(n *vm.Node) {
	b.t.Helper()
	b.sh(n, "for i in $(seq 100); do urbd status r0 | tr -s ' \\n' ' ' | grep -q 'does not answer' && exit 0; sleep 0.2; done; urbd status r0; exit 1")
}

// givenUp has a node's disk hang: the status says so, a forced order does not wait for it, and the application goes on, with the peer's
// disk where it is the Primary's.
func (b *bench) givenUp(n *vm.Node, rec *recording) {
	b.t.Logf("the disk of %s hangs", n.Name())
	b.hang(n)
	b.stalled(n)
	b.quick(n, "detach", "--force", Resource+"/0")
	rec.goesOn(100)
	b.comesBack(n)
}

// hungDown: a daemon ends although its disk hangs, and the next one begins when the disk is back.
func (b *bench) hungDown(rec *recording) {
	b.t.Log("down --force of a Secondary whose disk hangs")
	b.hang(b.Beta)
	b.stalled(b.Beta)
	b.quick(b.Beta, "down", "--force", Resource)
	rec.goesOn(100)
	b.resume(b.Beta)
	b.urbd(b.Beta, "up", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
}

// setTimeout starts both daemons again with a disk-timeout; 0 is none.
func (b *bench) setTimeout(d time.Duration) {
	b.urbd(b.Alpha, "secondary", Resource)
	for _, n := range b.Nodes() {
		b.urbd(n, "down", Resource)
		b.sh(n, "sed -i '/disk-timeout/d; /disk {/a disk-timeout %d;' /etc/urbd.d/r0.res; urbd dump r0 | grep -q 'disk-timeout *%[1]d;'", d/(100*time.Millisecond))
		b.urbd(n, "up", Resource)
	}
	b.urbd(b.Alpha, "wait-connect", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.urbd(b.Alpha, "primary", Resource)
}
