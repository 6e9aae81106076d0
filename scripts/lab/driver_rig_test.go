//go:build rig

package lab

import (
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// TestDriverAsPeer has one node run the kernel's own DRBD: an initial sync and
// mirrored writes in both directions, then the disks are compared. That is the
// proof that the wire and the metadata are real. Once they know each other by address, once by the longest secret, which then differs for a while.
func TestDriverAsPeer(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		b := newBench(t, Options{Kernel: k, Driver: "beta", Size: 32 << 20})
		for _, c := range []struct {
			name           string
			source, target *vm.Node
			secret         string
		}{{"urbd-first", b.Alpha, b.Beta, NoSecret}, {"drbd-first", b.Beta, b.Alpha, "known to both" + strings.Repeat("x", 63-len("known to both"))}} {
			b.Options.Secret = c.secret
			well := b.stage(c.name, func(b *bench) {
				source, target := c.source, c.target
				b.each(b.Nodes(), func(n *vm.Node) error {
					_, err := n.Sh(b.ctx, "dd if=/dev/urandom of=/dev/vda bs=1M count=24 conv=fsync 2>/dev/null")
					return err
				})
				b.ok(b.Up(b.ctx))
				b.ok(b.Sync(b.ctx, source))
				b.ok(b.WaitUpToDate(b.ctx, target))
				b.finished(b.fio(source, 0))
				b.urbd(source, "secondary", Resource)
				b.urbd(target, "primary", Resource)
				b.finished(b.fio(target, 0))
				b.sh(target, "dd if=/dev/urandom of=%s bs=3k seek=5000 count=240 oflag=dsync conv=notrunc 2>/dev/null", b.Device(target, 0))
				b.reconnect(target)
				b.urbd(target, "secondary", Resource)
				if c.secret != NoSecret {
					b.wrongSecret()
				}
				b.ok(b.Down(b.ctx))
				b.compared()
			})
			if !well {
				return
			}
		}
	})
}

// reconnect parts the nodes, has the Primary write, and brings them together. It is urbd that leaves: with a Primary that goes on the
// Secondary is Outdated from then on, whichever of the two urbd is, and both know it.
func (b *bench) reconnect(primary *vm.Node) {
	secondary := b.Beta
	if primary == b.Beta {
		secondary = b.Alpha
	}
	b.urbd(b.Alpha, "disconnect", Resource)
	b.state(primary, "dstate", "UpToDate/Outdated")
	b.state(secondary, "dstate", "Outdated/DUnknown")
	if _, err := b.Urbd(b.ctx, secondary, "primary", Resource); err == nil {
		b.t.Fatalf("%s is promoted, although its disk is Outdated", secondary.Name())
	}
	b.sh(primary, "dd if=/dev/urandom of=%s bs=4k seek=100 count=300 oflag=direct conv=notrunc 2>/dev/null", b.Device(primary, 0))
	b.urbd(b.Alpha, "connect", Resource)
	b.ok(b.WaitUpToDate(b.ctx, primary))
}

// wrongSecret gives the driver another secret: both say so, urbd goes on trying, and when the driver's is right again they meet without a
// word to urbd.
func (b *bench) wrongSecret() {
	b.sh(b.Beta, "drbdadm down %s && sed -i 's/shared-secret \"known/shared-secret \"KNOWN/' /etc/drbd.conf && drbdadm up %s", Resource, Resource)
	b.ok(b.WaitState(b.ctx, b.Beta, "cstate", "StandAlone", time.Minute)) // the driver's way
	b.sh(b.Alpha, `for i in $(seq 300); do urbd status --json %s | grep -q 'the shared-secret differs' && exit 0; sleep 0.1; done; urbd status --json %s; exit 1`, Resource, Resource)
	b.ok(b.WaitState(b.ctx, b.Alpha, "cstate", "WFConnection", time.Minute))
	b.sh(b.Beta, "sed -i 's/shared-secret \"KNOWN/shared-secret \"known/' /etc/drbd.conf && drbdadm adjust %s", Resource)
	b.ok(b.WaitState(b.ctx, b.Alpha, "cstate", "Connected", time.Minute))
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.sh(b.Alpha, "! urbd status --json %s | grep -q 'differs'", Resource)
}
