//go:build rig

package lab

import (
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// TestLife leads one pair through what happens to a pair: file systems, a
// pulled cable, a resync under load, the loss of either node. The disks lose what was not flushed when the power goes.
// In scripts/test TestPowerCuts cuts the power.
func TestLife(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		b := newBench(t, Options{Kernel: k, Size: 96 << 20, Cache: vm.Volatile})
		b.ok(b.Up(b.ctx))
		b.urbd(b.Alpha, "new-current-uuid", "--clear-bitmap", Resource+"/0")
		b.urbd(b.Alpha, "primary", Resource)
		for _, scenario := range []struct {
			name    string
			play    func(*bench)
			primary *vm.Node // afterwards
			short   bool     // scripts/test has it; scripts/soak has all
		}{
			{"file-systems", (*bench).fileSystems, b.Alpha, true},
			{"partitions", (*bench).partitions, b.Alpha, true},
			{"pulled-cable", (*bench).pulledCable, b.Alpha, true},
			{"resync-under-load", (*bench).resyncUnderLoad, b.Alpha, true},
			{"secondary-dies", (*bench).secondaryDies, b.Alpha, false},
			{"primary-dies", (*bench).primaryDies, b.Beta, false},
		} {
			if !scenario.short && !long() {
				continue
			}
			well := b.stage(scenario.name, func(b *bench) {
				scenario.play(b)
				b.equalNow(scenario.primary)
			})
			if !well {
				return
			}
		}
		b.ok(b.Down(b.ctx))
	})
}

// fileSystems makes, fills and checks ext4 and xfs, and hands them to the peer. Below 300 MB xfs wants to be told that it is for a test.
func (b *bench) fileSystems() {
	for _, fs := range []struct{ make, check string }{
		{"mkfs.ext4 -q -F", "fsck.ext4 -f -n"}, {"mkfs.xfs --unsupported -q -f", "xfs_repair -n"},
	} {
		b.sh(b.Alpha, `%s /dev/ublkb0; mkdir -p /mnt; mount /dev/ublkb0 /mnt
for i in 1 2 3 4 5 6 7 8; do head -c $((i * 300000)) /dev/urandom > /mnt/$i; done
(cd /mnt && sha256sum 1 2 3 4 5 6 7 8 > sums); rm /mnt/8; fstrim /mnt || true`, fs.make)
		b.refused(b.Alpha, []string{"/dev/ublkb0", "/mnt"}, "secondary", Resource)
		b.sh(b.Alpha, "umount /mnt")
		b.urbd(b.Alpha, "secondary", Resource)
		b.sh(b.Alpha, "[ ! -e /dev/ublkb0 ]")
		b.urbd(b.Beta, "primary", Resource)
		b.sh(b.Beta, `[ -b /dev/urbd/by-res/r0/0 ]; mkdir -p /mnt; mount /dev/urbd/by-res/r0/0 /mnt; cd /mnt; grep -v ' 8$' sums | sha256sum -c
cd /; umount /mnt; %s /dev/ublkb0`, fs.check)
		b.refused(b.Alpha, []string{"Primary"}, "primary", Resource)
		b.urbd(b.Beta, "secondary", Resource)
		b.urbd(b.Alpha, "primary", Resource)
	}
}

// partitions are there when a node is Primary, on every kernel and without udev, and gone when it is not.
func (b *bench) partitions() {
	b.sh(b.Alpha, `printf 'label: gpt\nsize=20MiB\nsize=30MiB\n' | sfdisk -q /dev/ublkb0
[ -b /dev/ublkb0p2 ]; mkfs.ext4 -q -F /dev/ublkb0p2; mount /dev/ublkb0p2 /mnt; echo kept > /mnt/file; umount /mnt`)
	b.urbd(b.Alpha, "secondary", Resource)
	b.sh(b.Alpha, "[ ! -e /dev/ublkb0 ]; [ ! -e /dev/ublkb0p2 ]")
	b.backingDiskIsTaken()
	b.urbd(b.Beta, "primary", Resource)
	b.sh(b.Beta, "[ -b /dev/ublkb0p1 ]; mount /dev/ublkb0p2 /mnt; grep -q kept /mnt/file")
	b.refused(b.Beta, []string{"in use", "/mnt"}, "secondary", Resource)
	b.urbd(b.Beta, "primary", Resource) // again, below a mounted partition
	b.sh(b.Beta, "grep -q kept /mnt/file; umount /mnt; wipefs -q -a /dev/ublkb0")
	b.urbd(b.Beta, "secondary", Resource)
	b.urbd(b.Alpha, "primary", Resource)
	b.sh(b.Alpha, "[ ! -e /dev/ublkb0p1 ]")
}

// backingDiskIsTaken tries to use the disk of a Secondary, and what the kernel takes for its partitions.
func (b *bench) backingDiskIsTaken() {
	b.urbd(b.Alpha, "down", Resource)
	b.sh(b.Alpha, "blockdev --rereadpt /dev/vda; mount -t ext4 -o ro,noload /dev/vda2 /mnt")
	b.refused(b.Alpha, []string{"/dev/vda", "in use by the mount at /mnt"}, "up", Resource)
	b.sh(b.Alpha, "umount /mnt")
	b.urbd(b.Alpha, "up", Resource)
	b.sh(b.Alpha, "for dev in /dev/vda /dev/vda2; do ! mount -t ext4 -o ro,noload $dev /mnt 2>/tmp/said || exit 1; grep -qiE 'busy|already mounted' /tmp/said; done")
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// pulledCable cuts the wire under a verifying writer: the Primary goes on at
// once, and what it wrote meanwhile is copied afterwards.
func (b *bench) pulledCable() {
	p := b.fio(b.Alpha, 16)
	b.writes(b.Alpha, 1<<20)
	b.ok(b.CutWire())
	cut := time.Now()
	for _, n := range b.Nodes() {
		b.state(n, "cstate", "WFConnection")
	}
	b.t.Logf("both nodes noticed after %v at most", time.Since(cut).Round(100*time.Millisecond))
	b.writes(b.Alpha, 1<<20)
	b.ok(b.JoinWire())
	b.finished(p)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
}

// resyncUnderLoad writes while everything is copied.
func (b *bench) resyncUnderLoad() {
	b.urbd(b.Beta, "invalidate", Resource)
	p := b.fio(b.Alpha, 0)
	b.finished(p)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
}

// secondaryDies cuts the Secondary's power under load: nobody notices but the status.
func (b *bench) secondaryDies() {
	p := b.fio(b.Alpha, 20)
	b.writes(b.Alpha, 2<<20)
	b.Beta.PowerCut()
	b.state(b.Alpha, "cstate", "WFConnection")
	b.revive(b.Beta)
	b.finished(p)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
}

// primaryDies cuts the Primary's power under load; the peer takes over.
func (b *bench) primaryDies() {
	b.fio(b.Alpha, 15)
	b.writes(b.Alpha, 3<<20)
	b.Alpha.PowerCut()
	b.urbd(b.Beta, "primary", Resource)
	p := b.fio(b.Beta, 0)
	b.revive(b.Alpha)
	b.finished(p)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
}
