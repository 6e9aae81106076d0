//go:build rig

package lab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How long it may take in emulation from the death of the daemon to the first write that is completed: with the peer there,
// and without it when there was none before, either. The median counts.
const (
	backWithPeer    = 3 * time.Second
	backWithoutPeer = 5 * time.Second
	backUnsure      = 18 * time.Second // the peer was there, and goes in the same moment: it may have been promoted
)

// killedWithPeer kills the daemon under the writers: they get on, and nobody unmounts anything.
func (b *bench) killedWithPeer() {
	b.sh(b.Alpha, "dd if=/dev/zero of=/mnt/hand/probe bs=4k count=1 conv=fsync 2>/dev/null")
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.killed("with the peer", backWithPeer, func() { b.ok(b.WaitUpToDate(b.ctx, b.Alpha)) })
}

// killedTwice kills the daemon, and the one after it a moment after that has begun: the third serves the writers. The unit that has
// started the second takes a while to end here, and another death must not be lost to that.
func (b *bench) killedTwice() {
	const slowly = "/etc/systemd/system/urbd-again@.service.d/slowly.conf"
	b.sh(b.Alpha, `mkdir -p $(dirname %[1]s); printf '[Service]\nExecStopPost=/bin/sleep 1\n' >%[1]s; systemctl daemon-reload`, slowly)
	for round := range times(2) {
		b.sh(b.Alpha, `rm -f /run/urbd/r0.starts; pid=$(systemctl show -p MainPID --value urbd@r0); kill -9 $pid
n=0; next=; until { read -r next </sys/fs/cgroup/system.slice/urbd@r0.service/cgroup.procs; } 2>/dev/null && [ "$next" ] && [ $next != $pid ]; do n=$((n + 1)); [ $n -lt 1500 ]; sleep 0.02; done
sleep 0.%d; kill -9 $next`, round%5*2)
		took := b.writersGetOn(b.Alpha, time.Minute).Round(100 * time.Millisecond)
		b.t.Logf("killed twice: the writers got on after %v", took)
		b.mountsStand(b.Alpha)
	}
	b.sh(b.Alpha, "rm %s; systemctl daemon-reload", slowly)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// killedAsWireBreaks kills the daemon before it has noticed that the peer is out of reach, so that the next one cannot know whether the
// peer was promoted meanwhile. The cable is pulled out at the peer only: this node's carrier would say so.
func (b *bench) killedAsWireBreaks() {
	b.killed("as the wire breaks", backUnsure, func() {
		b.ok(b.JoinWire())
		b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
		b.ok(b.Beta.SetLink(0, false))
	})
	b.ok(b.JoinWire())
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// killedWithoutPeer kills the daemon when there was no peer before, either.
func (b *bench) killedWithoutPeer() {
	b.sh(b.Beta, "systemctl stop urbd@r0")
	b.state(b.Alpha, "cstate", "WFConnection")
	b.killed("without it", backWithoutPeer, func() {})
	b.sh(b.Beta, "systemctl start urbd@r0")
	b.sh(b.Alpha, `! journalctl -b -o cat | grep -E 'Unmounting /mnt|Unmounted /mnt' || exit 1; journalctl -q -b -u urbd@r0 -p warning | grep -q .`)
}

// rounds is how often the daemon is killed in each situation: 30 times in scripts/soak.
func rounds() int {
	if long() {
		return times(3)
	}
	return 2
}

// killed kills the daemon again and again, and says when the first write was completed after that.
func (b *bench) killed(how string, bar time.Duration, before func()) {
	b.t.Helper()
	var all []time.Duration
	var slowest string // what the journals say of it
	for range rounds() {
		before()
		// Without its record the daemon takes its predecessor for one that had lived for long.
		r, err := b.Alpha.Sh(b.ctx, `set -e; rm -f /run/urbd/r0.starts; pid=$(systemctl show -p MainPID --value urbd@r0); began=$(date +%s%N); kill -9 $pid
dd if=/dev/zero of=/mnt/hand/probe bs=4k count=1 oflag=direct conv=notrunc 2>/dev/null
echo $((($(date +%s%N) - began) / 1000000)); [ $(systemctl show -p MainPID --value urbd@r0) != $pid ]; systemctl is-active -q urbd@r0`)
		b.ok(err)
		ms, err := strconv.Atoi(r.Text())
		b.ok(err)
		took := time.Duration(ms) * time.Millisecond
		b.t.Logf("killed %s: the first write was completed after %v", how, took)
		if all = append(all, took); took == slices.Max(all) {
			slowest = b.lately(took + time.Second)
		}
		b.writersGetOn(b.Alpha, time.Minute)
		b.mountsStand(b.Alpha)
	}
	slices.Sort(all)
	median, worst := all[len(all)/2], all[len(all)-1]
	b.t.Logf("killed %d times %s: the first write was completed after %v (median), %v (worst); the worst one:\n%s", len(all), how, median, worst, slowest)
	if !long() {
		bar *= 2 // two say little, and the machine may be busy
	}
	if median > bar {
		b.ok(fmt.Errorf("killed %s, the first write was completed after %v, at most %v is right: %v", how, median, bar, all))
	}
}

// lately is what the daemons and systemd have said on both nodes in the time that has just passed.
func (b *bench) lately(passed time.Duration) string {
	b.t.Helper()
	var out strings.Builder
	for _, n := range b.Nodes() {
		fmt.Fprintf(&out, "%s:\n%s\n", n.Name(), b.sh(n, "date +%%T.%%6N; journalctl -q -b -o short-precise --no-hostname -u 'urbd*' --since=-%ds | cat", int(passed/time.Second)+1))
	}
	return out.String()
}
