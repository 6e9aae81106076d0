//go:build rig

package lab

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/urbd/urbd/scripts/vm"
)

// TestDiscards has urbd and the kernel's DRBD serve disks of every kind together: what a file system gives back is free again on
// both, whoever is Primary, where it can be, and the volumes read alike.
func TestDiscards(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		o := Options{Kernel: k, CPUs: 2, Driver: "beta", Size: 32 << 20, Volumes: len(spaces)}
		for vol, s := range spaces {
			o.Backing = append(o.Backing, s.backing)
			if s.zeroless {
				o.NoZeroes = append(o.NoZeroes, vol)
			}
		}
		b := newBench(t, o)
		size := map[int]int64{}
		for _, part := range []struct {
			name string
			play func(*bench)
		}{
			{"disks", (*bench).makeSpaces},
			{"alpha-is-primary", func(b *bench) { b.primaryDiscards(b.Alpha, size) }},
			{"beta-is-primary", func(b *bench) { b.primaryDiscards(b.Beta, size) }},
			{"zeroed-in-place", (*bench).zeroedInPlace},
			{"alike", func(b *bench) { b.readAlike(size) }},
			{"pool-that-skips-zeroing", (*bench).poolThatSkipsZeroing},
		} {
			if !b.stage(part.name, part.play) {
				return
			}
		}
	})
}

// makeSpaces makes the disks of both nodes and has them meet, without a first copy.
func (b *bench) makeSpaces() {
	b.each(b.Nodes(), b.spacesUp)
	b.state(b.Alpha, "cstate", "Connected")
	for vol := range spaces {
		b.urbd(b.Alpha, "new-current-uuid", "--clear-bitmap", fmt.Sprintf("%s/%d", Resource, vol))
	}
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// primaryDiscards makes a node Primary and has it discard on every volume; size is that of each one afterwards, in bytes.
func (b *bench) primaryDiscards(n *vm.Node, size map[int]int64) {
	b.urbd(n, "primary", Resource)
	b.discardsOf(n)
	for vol, s := range spaces {
		size[vol] = b.number(n, "blockdev --getsize64 "+b.Device(n, vol))
		if s.allocated != nil {
			b.givesBack(vol, n)
		}
	}
	b.urbd(n, "secondary", Resource)
}

// readAlike takes both nodes down and wants every volume to read the same on both, but where the driver has taken stale data for zeroes.
func (b *bench) readAlike(size map[int]int64) {
	b.ok(b.Down(b.ctx))
	b.t.Log("both are down")
	for vol, s := range spaces {
		alike := b.alike(vol, size[vol])
		b.t.Logf("%s: that both nodes read the same is %v", s.name, alike)
		if alike == s.stale {
			b.t.Fail()
		}
	}
}

// alike reports whether both nodes' disks of a volume that is down hold the same, in so many bytes.
func (b *bench) alike(vol int, size int64) bool {
	b.t.Helper()
	if spaces[vol].backing == "" {
		return equal(b.diskPath("alpha", vol), b.diskPath("beta", vol), size) == nil
	}
	var sums [2]string
	b.each(b.Nodes(), func(n *vm.Node) error {
		r, err := n.Sh(b.ctx, fmt.Sprintf("dd if=%s bs=1M iflag=count_bytes count=%d 2>/dev/null | cksum | grep ' %[2]d$'", b.backing(vol), size))
		sums[slices.Index(b.Nodes(), n)] = r.Text()
		return err
	})
	return sums[0] == sums[1]
}

// spacesUp makes the disks of a node and brings its resource up.
func (b *bench) spacesUp(n *vm.Node) error {
	if err := b.Prepare(b.ctx, n); err != nil {
		return err
	}
	for _, s := range spaces {
		if _, err := n.Sh(b.ctx, "set -e\n"+s.make); err != nil {
			return err
		}
	}
	if _, err := n.Sh(b.ctx, fmt.Sprintf("dd if=/dev/urandom of=/tmp/random bs=1M count=%d 2>/dev/null", filled>>20)); err != nil {
		return err
	}
	for _, args := range [][]string{{"create-md", "--force", Resource}, {"up", Resource}} {
		if _, err := b.Urbd(b.ctx, n, args...); err != nil {
			return err
		}
	}
	return nil
}

// thin is a script that makes /dev/mapper/thin of /dev/vda, in chunks of 64 KiB.
func thin(features string) string {
	return fmt.Sprintf(`export DM_DISABLE_UDEV=1 # make the names in /dev/mapper
modprobe dm-thin-pool; modprobe loop; truncate -s 0 /tmp/meta; truncate -s 4M /tmp/meta; meta=$(losetup -f --show /tmp/meta)
size=$(blockdev --getsz /dev/vda)
dmsetup create pool --table "0 $size thin-pool $meta /dev/vda 128 0 %s"
dmsetup message pool 0 "create_thin 0"
dmsetup create thin --table "0 $size thin /dev/mapper/pool 0"`, features)
}

// chunks is how many chunks of its thin volume a node has allocated.
func (b *bench) chunks(n *vm.Node) int {
	b.t.Helper()
	v, err := strconv.Atoi(b.sh(n, "dmsetup status thin | awk '{print $4/128}'"))
	b.ok(err)
	return v
}

// discardsOf fills the device of a Primary, and has mkfs and fstrim give back what they can.
func (b *bench) discardsOf(primary *vm.Node) {
	dev := b.Device(primary, thinVolume)
	count := func(what string, low, high int) {
		b.sh(primary, "sync; dd if=/dev/null of=%s conv=fsync,notrunc 2>/dev/null", dev)
		a, c := b.chunks(b.Alpha), b.chunks(b.Beta)
		b.t.Logf("%s is Primary, %s: %d chunks on alpha (urbd), %d on beta (kernel's DRBD)", primary.Name(), what, a, c)
		for _, n := range []int{a, c} {
			if n < low || n > high {
				b.ok(fmt.Errorf("%d chunks are allocated, not %d to %d", n, low, high))
			}
		}
		// Both zero what is no whole chunk; which ends those are depends on how requests were merged on the way.
		if d := a - c; d < -64 || d > 64 {
			b.ok(fmt.Errorf("%d chunks on one node and %d on the other", a, c))
		}
	}
	b.sh(primary, "dd if=/dev/urandom of=%s bs=1M count=24 oflag=direct conv=notrunc 2>/dev/null", dev)
	count("filled", 384, 512)
	b.sh(primary, "mkfs.ext4 -q -F %[1]s; mkdir -p /mnt; mount %[1]s /mnt", dev)
	count("after mkfs.ext4", 1, 150)
	b.sh(primary, "dd if=/dev/urandom of=/mnt/kept bs=1M count=4 2>/dev/null; dd if=/dev/urandom of=/mnt/gone bs=1M count=12 2>/dev/null; sync")
	count("with 16 MiB of files", 256, 512)
	b.sh(primary, "rm /mnt/gone; sync; fstrim /mnt")
	count("after fstrim", 60, 200)
	b.sh(primary, "umount /mnt; fsck.ext4 -f -n %s >/dev/null 2>&1", dev)
}

// zeroedInPlace has a thin volume that may not be discarded take the discards of the peer, and offer none itself.
func (b *bench) zeroedInPlace() {
	b.sh(b.Alpha, "sed -i 's/disk {/disk {\\n\\t\\tdiscard-zeroes-if-aligned no;/' /etc/urbd.d/r0.res")
	b.urbd(b.Alpha, "adjust", Resource)
	b.state(b.Alpha, "cstate", "Connected")
	b.urbd(b.Beta, "primary", Resource)
	b.sh(b.Beta, "dd if=/tmp/random of=/dev/drbd0 bs=1M oflag=direct conv=notrunc 2>/dev/null; blkdiscard -f /dev/drbd0")
	a, c := b.chunks(b.Alpha), b.chunks(b.Beta)
	b.t.Logf("discard-zeroes-if-aligned no on alpha: %d chunks on alpha (urbd), %d on beta (kernel's DRBD)", a, c)
	if a < 480 || c > 150 {
		b.ok(fmt.Errorf("%d chunks on alpha, which may not discard, and %d on beta", a, c))
	}
	b.urbd(b.Beta, "secondary", Resource)
	b.urbd(b.Alpha, "primary", Resource)
	b.offersNone(thinVolume)
	b.urbd(b.Alpha, "secondary", Resource)
}

// offersNone wants urbd's device to offer no discards, and to zero a range all the same.
func (b *bench) offersNone(vol int) {
	b.sh(b.Alpha, `[ "$(cat /sys/block/$(basename %[1]s)/queue/discard_max_bytes)" = 0 ]
dd if=/dev/urandom of=%[1]s bs=1M count=2 oflag=direct conv=notrunc 2>/dev/null
blkdiscard -f -z -o 4096 -l 1000K %[1]s; dd if=%[1]s bs=4k skip=1 count=250 iflag=direct 2>/dev/null | cmp -n 1024000 - /dev/zero`, b.Device(b.Alpha, vol))
}

// poolThatSkipsZeroing is told so at the start, and nothing of it is discarded.
func (b *bench) poolThatSkipsZeroing() {
	b.sh(b.Alpha, "dmsetup remove thin; dmsetup remove pool; losetup -D; sed -i '/discard-zeroes-if-aligned/d' /etc/urbd.d/r0.res")
	b.sh(b.Alpha, "%s", thin("1 skip_block_zeroing"))
	b.urbd(b.Alpha, "create-md", "--force", Resource)
	b.urbd(b.Alpha, "up", Resource)
	b.sh(b.Alpha, "grep -q 'level=WARN.*skip_block_zeroing.*/dev/mapper/thin' /var/log/urbd/r0.log")
	b.urbd(b.Alpha, "primary", "--force", Resource)
	b.offersNone(thinVolume)
	b.urbd(b.Alpha, "secondary", Resource)
	b.urbd(b.Alpha, "down", Resource)
}
