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

// TestHungDisk has a disk that answers nothing below either node, under a writer that checks what it reads: a suspended device of the
// mapper. First without disk-timeout, so that somebody has to give it up, then with it. scripts/soak has it on every kernel.
func TestHungDisk(t *testing.T) {
	kernels := vm.Kernels
	if !long() {
		kernels = kernels[:1]
	}
	for _, k := range kernels {
		t.Run("linux-"+string(k), func(t *testing.T) {
			b := newBench(t, Options{Kernel: k, Mapper: true})
			b.ok(b.Up(b.ctx))
			b.ok(b.Sync(b.ctx, b.Alpha))
			writer := b.fio(b.Alpha, 35)
			b.writes(b.Alpha, 1<<20)
			b.hungSecondary()
			b.hungPrimary(func() { b.quick(b.Alpha, "detach", "--force", Resource+"/0") })
			b.hungDown()
			b.finished(writer)
			b.withTimeout()
			writer = b.fio(b.Alpha, 15)
			b.writes(b.Alpha, 1<<20)
			for _, n := range []*vm.Node{b.Beta, b.Alpha} {
				b.t.Logf("disk-timeout on %s", n.Name())
				b.hang(n)
				b.writes(b.Alpha, 256<<10)
				b.comesBack(n)
			}
			b.finished(writer)
			b.equalNow(b.Alpha)
			b.urbd(b.Alpha, "secondary", Resource)
			b.equalDisks()
		})
	}
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

// hungSecondary: the status says that the disk hangs, and a forced order does not wait for it.
func (b *bench) hungSecondary() {
	b.t.Log("the Secondary's disk hangs")
	b.hang(b.Beta)
	b.stalled(b.Beta)
	b.quick(b.Beta, "detach", "--force", Resource+"/0")
	b.writes(b.Alpha, 256<<10)
	b.comesBack(b.Beta)
}

// hungPrimary: the application goes on with the peer.
func (b *bench) hungPrimary(giveUp func()) {
	b.t.Log("the Primary's disk hangs")
	b.hang(b.Alpha)
	b.stalled(b.Alpha)
	giveUp()
	b.writes(b.Alpha, 256<<10)
	b.comesBack(b.Alpha)
}

// hungDown: a daemon ends although its disk hangs, and the next one begins when the disk is back.
func (b *bench) hungDown() {
	b.t.Log("down --force of a Secondary whose disk hangs")
	b.hang(b.Beta)
	b.stalled(b.Beta)
	b.quick(b.Beta, "down", "--force", Resource)
	b.writes(b.Alpha, 256<<10)
	b.resume(b.Beta)
	b.urbd(b.Beta, "up", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
}

// withTimeout starts both daemons again with disk-timeout.
func (b *bench) withTimeout() {
	b.urbd(b.Alpha, "secondary", Resource)
	for _, n := range b.Nodes() {
		b.urbd(n, "down", Resource)
		b.sh(n, "sed -i '/disk {/a disk-timeout %d;' /etc/urbd.d/r0.res; urbd dump r0 | grep -q 'disk-timeout *%[1]d;'", hungTimeout/(100*time.Millisecond))
		b.urbd(n, "up", Resource)
	}
	b.urbd(b.Alpha, "wait-connect", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.urbd(b.Alpha, "primary", Resource)
}
