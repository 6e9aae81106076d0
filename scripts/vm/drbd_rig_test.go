//go:build rig

package vm_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/urbd/urbd/scripts/vm"
)

// The kernel's DRBD works in guests: as two minors of one guest, and in two guests.

// exported is the size in bytes of the device on a disk of 16 MiB: what is left
// beside internal metadata.
const exported = 32688 * 512

func loopEnds() (a, b vm.DRBDEnd) {
	a = vm.DRBDEnd{Resource: "a", Minor: 0, Disk: "/dev/vda", Local: "127.0.0.1:7001", Peer: "127.0.0.2:7002"}
	b = vm.DRBDEnd{Resource: "b", Minor: 1, Disk: "/dev/vdb", Local: a.Peer, Peer: a.Local}
	return a, b
}

func TestKernelDRBDInOneGuest(t *testing.T) {
	eachKernelAtOnce(t, func(t *testing.T, k vm.Kernel) {
		dir := t.TempDir()
		n := boot(t, vm.Config{Kernel: k, Disks: []vm.Disk{
			{Path: filepath.Join(dir, "a"), Size: 16 << 20}, {Path: filepath.Join(dir, "b"), Size: 16 << 20},
		}})
		a, b := loopEnds()
		exerciseDRBD(t, n, a, n, b)
		must(t, n, fmt.Sprintf("cmp -n %d /dev/vda /dev/vdb", exported))
	})
}

func TestKernelDRBDInTwoGuests(t *testing.T) {
	dir := t.TempDir()
	c := vm.Config{Kernel: vm.Linux7, Log: t.Logf}
	alpha, beta := c, c
	alpha.Disks = []vm.Disk{{Path: filepath.Join(dir, "a"), Size: 16 << 20}}
	beta.Disks = []vm.Disk{{Path: filepath.Join(dir, "b"), Size: 16 << 20}}
	p, err := vm.BootPair(limit(t), alpha, beta)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	a := vm.DRBDEnd{Resource: "r", Disk: "/dev/vda", Local: "10.77.0.1:7001", Peer: "10.77.0.2:7001"}
	b := a
	b.Local, b.Peer = a.Peer, a.Local
	exerciseDRBD(t, p.Alpha, a, p.Beta, b)
	digest := fmt.Sprintf("head -c %d /dev/vda | sha256sum", exported)
	if x, y := must(t, p.Alpha, digest), must(t, p.Beta, digest); x != y {
		t.Errorf("disks differ: %s %s", x, y)
	}
}

// exerciseDRBD syncs two fresh ends, writes on the first and takes both down.
func exerciseDRBD(t *testing.T, na *vm.Node, a vm.DRBDEnd, nb *vm.Node, b vm.DRBDEnd) {
	t.Helper()
	ctx := limit(t)
	step := func(err error) {
		t.Helper()
		if err != nil {
			status, _ := na.DRBDStatus(ctx)
			t.Fatalf("%v\n%s", err, status)
		}
	}
	step(na.DRBDLoad(ctx))
	step(nb.DRBDLoad(ctx))
	step(na.DRBDCreate(ctx, a))
	step(nb.DRBDCreate(ctx, b))
	step(na.DRBDUp(ctx, a))
	step(nb.DRBDUp(ctx, b))
	step(na.DRBDWait(ctx, a, "wait-connect", 60))
	step(na.DRBDPrimary(ctx, a, true))
	step(na.DRBDWait(ctx, a, "wait-sync", 60))
	must(t, na, "dd if=/dev/urandom of=/dev/drbd0 bs=1M count=4 oflag=direct conv=fsync")
	step(na.DRBDSecondary(ctx, a))
	step(na.DRBDDown(ctx, a))
	step(nb.DRBDDown(ctx, b))
}
