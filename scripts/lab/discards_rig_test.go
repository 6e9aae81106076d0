//go:build rig

package lab

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/urbd/urbd/scripts/vm"
)

// TestDiscards has urbd and the kernel's DRBD serve thin volumes together: what a file system gives back is free again on
// both, whoever is Primary, and the volumes read alike.
func TestDiscards(t *testing.T) {
	b := newBench(t, Options{Kernel: vm.Linux7, Driver: "beta", Size: 96 << 20})
	for _, n := range b.Nodes() {
		b.ok(b.Prepare(b.ctx, n))
		b.thin(n, "")
		b.sh(n, "sed -i 's,disk /dev/vda;,disk /dev/mapper/thin;,' /etc/urbd.d/r0.res /etc/drbd.conf 2>/dev/null || true")
		b.urbd(n, "create-md", "--force", Resource)
		b.urbd(n, "up", Resource)
	}
	b.state(b.Alpha, "cstate", "Connected")
	b.urbd(b.Alpha, "new-current-uuid", "--clear-bitmap", Resource+"/0")
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	size := ""
	for _, n := range b.Nodes() {
		b.urbd(n, "primary", Resource)
		size = b.sh(n, "blockdev --getsize64 %s", b.Device(n, 0))
		b.discardsOf(n)
		b.urbd(n, "secondary", Resource)
	}
	b.zeroedInPlace()
	for _, n := range b.Nodes() {
		b.urbd(n, "down", Resource)
	}
	sum := fmt.Sprintf("head -c %s /dev/mapper/thin | sha256sum", strings.TrimSpace(size))
	if a, c := b.sh(b.Alpha, "%s", sum), b.sh(b.Beta, "%s", sum); a != c {
		t.Fatalf("the volumes differ: %s and %s", a, c)
	}
	b.poolThatSkipsZeroing()
}

// thin makes /dev/mapper/thin of /dev/vda, in chunks of 64 KiB.
func (b *bench) thin(n *vm.Node, features string) {
	b.sh(n, `export DM_DISABLE_UDEV=1 # make the names in /dev/mapper
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
	dev := b.Device(primary, 0)
	count := func(what string, low, high int) {
		b.sh(primary, "sync; dd if=/dev/null of=%s conv=fsync,notrunc 2>/dev/null", dev)
		a, c := b.chunks(b.Alpha), b.chunks(b.Beta)
		b.t.Logf("%s is Primary, %s: %d chunks on alpha (urbd), %d on beta (kernel's DRBD)", primary.Name(), what, a, c)
		for _, n := range []int{a, c} {
			if n < low || n > high {
				b.ok(fmt.Errorf("%d chunks are allocated, not %d to %d", n, low, high))
			}
		}
		if d := a - c; d < -32 || d > 32 {
			b.ok(fmt.Errorf("%d chunks on one node and %d on the other", a, c))
		}
	}
	b.sh(primary, "dd if=/dev/urandom of=%s bs=1M count=64 oflag=direct conv=notrunc 2>/dev/null", dev)
	count("filled", 1024, 1536)
	b.sh(primary, "mkfs.ext4 -q -F %[1]s; mkdir -p /mnt; mount %[1]s /mnt", dev)
	count("after mkfs.ext4", 1, 300)
	b.sh(primary, "dd if=/dev/urandom of=/mnt/kept bs=1M count=4 2>/dev/null; dd if=/dev/urandom of=/mnt/gone bs=1M count=40 2>/dev/null; sync")
	count("with 44 MiB of files", 700, 1100)
	b.sh(primary, "rm /mnt/gone; sync; fstrim /mnt")
	count("after fstrim", 60, 400)
	b.sh(primary, "umount /mnt; fsck.ext4 -f -n %s >/dev/null 2>&1", dev)
}

// zeroedInPlace has a thin volume that may not be discarded take the discards of the peer, and offer none itself.
func (b *bench) zeroedInPlace() {
	b.sh(b.Alpha, "sed -i 's/disk {/disk {\\n\\t\\tdiscard-zeroes-if-aligned no;/' /etc/urbd.d/r0.res")
	b.urbd(b.Alpha, "adjust", Resource)
	b.state(b.Alpha, "cstate", "Connected")
	b.urbd(b.Beta, "primary", Resource)
	b.sh(b.Beta, "dd if=/dev/urandom of=/dev/drbd0 bs=1M count=32 oflag=direct conv=notrunc 2>/dev/null; blkdiscard -f /dev/drbd0")
	a, c := b.chunks(b.Alpha), b.chunks(b.Beta)
	b.t.Logf("discard-zeroes-if-aligned no on alpha: %d chunks on alpha (urbd), %d on beta (kernel's DRBD)", a, c)
	if a < 1400 || c > 300 {
		b.ok(fmt.Errorf("%d chunks on alpha, which may not discard, and %d on beta", a, c))
	}
	b.urbd(b.Beta, "secondary", Resource)
	b.offersNone()
}

// offersNone wants the device to offer no discards, and to zero a range all the same.
func (b *bench) offersNone() {
	b.urbd(b.Alpha, "primary", Resource)
	b.sh(b.Alpha, `[ "$(cat /sys/block/ublkb0/queue/discard_max_bytes)" = 0 ]
dd if=/dev/urandom of=/dev/ublkb0 bs=1M count=2 oflag=direct conv=notrunc 2>/dev/null
blkdiscard -f -z -o 4096 -l 1000K /dev/ublkb0; dd if=/dev/ublkb0 bs=4k skip=1 count=250 iflag=direct 2>/dev/null | cmp -n 1024000 - /dev/zero`)
	b.urbd(b.Alpha, "secondary", Resource)
}

// poolThatSkipsZeroing is told so at the start, and nothing of it is discarded.
func (b *bench) poolThatSkipsZeroing() {
	b.sh(b.Alpha, "dmsetup remove thin; dmsetup remove pool; losetup -D; sed -i '/discard-zeroes-if-aligned/d' /etc/urbd.d/r0.res")
	b.thin(b.Alpha, "1 skip_block_zeroing")
	b.urbd(b.Alpha, "create-md", "--force", Resource)
	b.urbd(b.Alpha, "up", Resource)
	b.sh(b.Alpha, "grep -q 'level=WARN.*skip_block_zeroing.*/dev/mapper/thin' /var/log/urbd/r0.log")
	b.urbd(b.Alpha, "primary", "--force", Resource)
	b.urbd(b.Alpha, "secondary", Resource)
	b.offersNone()
	b.urbd(b.Alpha, "down", Resource)
}
