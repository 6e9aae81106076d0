//go:build rig

package lab

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/urbd/urbd/scripts/lab/records"
	"github.com/urbd/urbd/scripts/vm"
)

// disksFail has the disk of either node fail under a recorder: the application sees nothing, the disk is let go, and comes back with
// what it has missed.
func (b *bench) disksFail(_ *rand.Rand, rec *recording) {
	for range times(1) {
		for _, n := range b.Nodes() {
			b.diskFails(n, rec)
		}
	}
}

// diskFails has a node's disk refuse writes for a while.
func (b *bench) diskFails(n *vm.Node, rec *recording) {
	b.t.Logf("the disk of %s fails", n.Name())
	rec.start(b.Alpha)
	b.ok(b.Remap(b.ctx, n, 0, "flakey %s 0 0 3600 1 error_writes"))
	b.state(n, "dstate", "Diskless/UpToDate")
	b.sh(n, "grep -Eq '%s: (write|flush).*: I/O error; .*dmesg.*, then attach again' /var/log/urbd/r0.log", Mapped(0))
	rec.goesOn(100)
	b.ok(b.Remap(b.ctx, n, 0, "linear %s 0"))
	b.urbd(n, "attach", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	rec.goesOn(100)
	rec.stop()
}

// disksLie has both disks drop what they confirm, one a little after the other, until the power of both nodes is cut. What was synced before is there.
func (b *bench) disksLie(r *rand.Rand, rec *recording) {
	apart := time.Duration(r.IntN(2000)) * time.Millisecond
	b.t.Logf("both disks drop what they confirm, %v apart", apart)
	rec.start(b.Alpha)
	rec.goesOn(200)
	before := rec.now.progress()
	for i, n := range b.Nodes() {
		if i > 0 {
			time.Sleep(apart)
		}
		b.ok(b.Remap(b.ctx, n, 0, "flakey %s 0 0 3600 1 drop_writes"))
	}
	rec.goesOn(100)
	for _, n := range b.Nodes() {
		_, _, err := n.PowerCut()
		b.ok(err)
	}
	rec.endedAfter(before)
	b.each(b.Nodes(), func(n *vm.Node) error { return n.BootAgain(b.ctx) })
	for _, n := range b.Nodes() {
		b.ok(b.Prepare(b.ctx, n))
		b.urbd(n, "up", Resource)
	}
	b.state(b.Alpha, "cstate", "Connected")
	b.urbd(b.Alpha, "primary", Resource)
	rec.check(b.Alpha, true)
}

// endedAfter is ended, and nothing counts that was confirmed later than a certain progress.
func (r *recording) endedAfter(until []records.Progress) {
	r.b.t.Helper()
	after := slices.Clone(r.after)
	r.ended()
	for _, runs := range []*[]records.Run{&r.answered, &r.synced} {
		for i, run := range *runs {
			if last := until[run.Worker].Synced; run.First == after[run.Worker]+1 && run.Last > last {
				(*runs)[i].Last = max(last, run.First-1)
			}
		}
	}
}
