//go:build rig

package lab

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
	"github.com/urbd/urbd/statemachine"
)

// TestOverviewIsWalked leads two daemons along every edge of the overview of connection states, and names those that their logs
// do not have. What the logs have must be edges of the whole table.
func TestOverviewIsWalked(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Kernel: vm.Linux7, CPUs: 1, Size: 24 << 20, Mapper: true, Disk: []string{"c-plan-ahead 0", "resync-rate 4M"}})
	b.ok(b.Up(b.ctx))
	b.ok(b.Sync(b.ctx, b.Alpha))
	b.blink(0)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.cutInResync()
	b.cutInHandshake()
	b.disconnectInUnconnected()
	b.splitAndHeal(b.Alpha, b.Beta)
	b.overviewIsWalked()
	b.equalDisks()
}

// cutInResync loses the connection while blocks are copied.
func (b *bench) cutInResync() {
	b.t.Log("the wire is cut in a resync")
	b.urbd(b.Beta, "invalidate", Resource)
	b.state(b.Alpha, "cstate", "SyncSource")
	b.blink(0)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// blink cuts the wire until both nodes have noticed, and then for so long.
func (b *bench) blink(dark time.Duration) {
	b.t.Helper()
	b.ok(b.CutWire())
	for _, n := range b.Nodes() {
		b.state(n, "cstate", "WFConnection")
	}
	time.Sleep(dark)
	b.ok(b.JoinWire())
}

// cutInHandshake loses the connection while the nodes exchange their parameters. On a slow wire, whose round trip is well below connect-int, the
// limit of a dial, that takes the node a round trip which first has both sockets; the other one may find everything there already.
func (b *bench) cutInHandshake() {
	b.t.Log("the wire is cut in the handshake")
	b.urbd(b.Alpha, "disconnect", Resource)
	for _, n := range b.Nodes() {
		b.ok(n.Netem(b.ctx, 0, "delay", "1s"))
	}
	b.urbd(b.Alpha, "connect", Resource)
	for end := time.Now().Add(time.Minute); !b.inHandshake(); {
		if time.Now().After(end) {
			b.ok(errors.New("no node was seen in WFReportParams"))
		}
	}
	b.blink(0)
	for _, n := range b.Nodes() {
		b.ok(n.Netem(b.ctx, 0))
	}
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// inHandshake reports whether a node is in WFReportParams.
func (b *bench) inHandshake() bool {
	return slices.ContainsFunc(b.Nodes(), func(n *vm.Node) bool { return b.urbd(n, "cstate", Resource) == "WFReportParams" })
}

// disconnectInUnconnected gives up the search for the peer before it has begun: it waits for the superblock of a promotion, and
// the disk hangs.
func (b *bench) disconnectInUnconnected() {
	b.t.Log("disconnect in Unconnected")
	b.urbd(b.Beta, "disconnect", Resource)
	b.urbd(b.Alpha, "secondary", Resource)
	b.urbd(b.Alpha, "disconnect", Resource)
	b.sh(b.Alpha, "dmsetup suspend --noflush --nolockfs --noudevsync %s", Mapped(0))
	var orders []*vm.Process
	for _, order := range []string{"primary", "connect", "disconnect"} {
		p, err := b.Alpha.Start(b.ctx, vm.Cmd{Argv: []string{"urbd", order, Resource}, Stdout: logWriter{b.t}, Stderr: logWriter{b.t}})
		b.ok(err)
		orders = append(orders, p)
		time.Sleep(time.Second) // there is nothing to be seen until the disk answers
	}
	b.sh(b.Alpha, "urbd status || true; dmsetup resume --noudevsync %s", Mapped(0))
	for _, p := range orders {
		b.finished(p)
	}
	b.state(b.Alpha, "cstate", "StandAlone")
	for _, n := range b.Nodes() {
		b.urbd(n, "connect", Resource)
	}
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// markBlock is where a scenario leaves a mark: behind the records.
const markBlock = 20 << 20 / 4096

// splitAndHeal has both nodes write while they are apart: they stay apart and say so, each with its own data. The loser's is
// given up then.
func (b *bench) splitAndHeal(winner, loser *vm.Node) {
	b.t.Logf("split brain: %s wins", winner.Name())
	mark := func(n *vm.Node) string { return fmt.Sprintf("mark of %s %d", n.Name(), time.Now().UnixNano()) }
	wrote := map[*vm.Node]string{}
	holds := func(n *vm.Node, text string) {
		b.t.Helper()
		b.sh(n, "dd if=%s bs=4k count=1 skip=%d iflag=direct 2>/dev/null | grep -q '%s'", b.Device(n, 0), markBlock, text)
	}
	for _, n := range b.Nodes() {
		b.sh(n, "urbd disconnect --force r0 || [ $(urbd cstate r0) = StandAlone ]") // in order, a Secondary would be Outdated
	}
	for _, n := range b.Nodes() {
		b.urbd(n, "primary", Resource)
		wrote[n] = mark(n)
		b.sh(n, "yes '%s' | dd of=%s bs=4k count=1 seek=%d oflag=direct iflag=fullblock conv=notrunc 2>/dev/null", wrote[n], b.Device(n, 0), markBlock)
	}
	for _, n := range b.Nodes() {
		b.urbd(n, "connect", Resource)
	}
	for _, n := range b.Nodes() {
		b.ok(b.WaitState(b.ctx, n, "cstate", "StandAlone", time.Minute))
		b.sh(n, "grep -qi 'split brain' /var/log/urbd/*.log")
		holds(n, wrote[n])
	}
	b.urbd(loser, "secondary", Resource)
	b.urbd(loser, "connect", "--discard-my-data", Resource)
	b.urbd(winner, "connect", Resource)
	b.ok(b.WaitUpToDate(b.ctx, winner))
	b.ok(b.WaitUpToDate(b.ctx, loser))
	holds(winner, wrote[winner])
	b.equalNow(winner)
}

// overviewIsWalked compares the logs of both nodes with the overview.
func (b *bench) overviewIsWalked() {
	b.t.Helper()
	walked := map[statemachine.OverviewEdge]int{}
	for _, n := range b.Nodes() {
		histories, err := Histories(b.sh(n, "cat /var/log/urbd/*"))
		b.ok(err)
		for _, h := range histories {
			for _, e := range statemachine.Walked(h) {
				walked[e]++
			}
			b.edgesOfTheTable(n, h)
		}
	}
	for _, e := range statemachine.Overview() {
		b.t.Logf("%4d times  %s -> %s  %s", walked[e], e.From, e.To, e.Label)
		if walked[e] == 0 {
			b.t.Errorf("not walked: %s -> %s (%s)", e.From, e.To, e.Label)
		}
	}
}

// edgesOfTheTable wants every step of a history in the table.
func (b *bench) edgesOfTheTable(n *vm.Node, history []statemachine.Conn) {
	b.t.Helper()
	for i := 1; i < len(history); i++ {
		from, to := history[i-1], history[i]
		isStep := func(t statemachine.Transition) bool { return t.From == from && t.To == to }
		if !slices.ContainsFunc(statemachine.Transitions(), isStep) {
			b.t.Errorf("%s went from %v to %v, which is not in the table", n.Name(), from, to)
		}
	}
}
