//go:build rig

package lab

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/urbd/urbd/scripts/vm"
)

// TestSizes serves the smallest and a very large disk, as sparse files: 1 MiB
// and 16 TiB. Writes at both ends are mirrored, and what was written alone is
// copied afterwards, without a look at the rest.
func TestSizes(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Kernel: vm.Linux7, CPUs: 1, Size: 3 << 30, Memory: 2 << 30})
	for _, n := range b.Nodes() {
		b.ok(b.Prepare(b.ctx, n))
		b.sh(n, "mkfs.xfs -q -f /dev/vda; mkdir -p /big; mount /dev/vda /big")
	}
	for i, size := range []string{"1M", "16T"} {
		b.t.Logf("a disk of %s", size)
		name := "size" + size
		b.sized(name, size, 7800+i, 20+i)
	}
}

func (b *bench) sized(name, size string, port, minor int) {
	for _, n := range b.Nodes() {
		b.sh(n, `truncate -s %[1]s /big/%[2]s
cat > /etc/urbd.d/%[2]s.res <<X
resource %[2]s {
	net { timeout 150; ping-timeout 60; connect-int 3; cram-hmac-alg sha256; shared-secret sizes; }
	on alpha { device minor %[4]d; disk /big/%[2]s; meta-disk internal; address 10.77.0.1:%[3]d; }
	on beta { device minor %[4]d; disk /big/%[2]s; meta-disk internal; address 10.77.0.2:%[3]d; }
}
X
chmod 600 /etc/urbd.d/%[2]s.res
rm -f /etc/urbd.d/r0.res`, size, name, port, minor)
		b.urbd(n, "create-md", "--force", name)
		b.urbd(n, "up", name)
	}
	b.urbd(b.Alpha, "wait-connect", name)
	b.urbd(b.Alpha, "new-current-uuid", "--clear-bitmap", name+"/0")
	b.urbd(b.Alpha, "primary", name)
	sectors, err := strconv.Atoi(b.sh(b.Alpha, "blockdev --getsz /dev/ublkb%d", minor))
	b.ok(err)
	mark := func(text string) {
		for _, at := range []int{0, sectors/8 - 1} {
			b.sh(b.Alpha, "yes '%s %d' | dd of=/dev/ublkb%d bs=4k count=1 seek=%d oflag=direct iflag=fullblock 2>/dev/null", text, at, minor, at)
		}
	}
	mark("mirrored")
	b.same(name, sectors)
	b.urbd(b.Alpha, "disconnect", name)
	mark("alone")
	b.urbd(b.Alpha, "connect", name)
	b.urbd(b.Alpha, "wait-connect", name)
	b.urbd(b.Alpha, "wait-sync", name)
	b.same(name, sectors)
	rss := b.sh(b.Alpha, "awk '/VmRSS/ {print int($2/1024)}' /proc/$(cat /run/urbd/%s.lock)/status", name)
	mib, err := strconv.Atoi(rss)
	b.ok(err)
	limit := 64 + 16 + 64 // and the peer's buffers, and the queue's
	if size == "16T" {
		limit += 16 * 32
	}
	b.t.Logf("%d MiB resident", mib)
	if mib > limit {
		b.ok(fmt.Errorf("the daemon of %s holds %d MiB, more than %d", size, mib, limit))
	}
	b.urbd(b.Alpha, "down", name)
	b.urbd(b.Beta, "down", name)
}

// same compares both ends of the disks.
func (b *bench) same(name string, sectors int) {
	b.t.Helper()
	script := fmt.Sprintf("for at in 0 %d; do dd if=/big/%s bs=4k count=1 skip=$at iflag=direct 2>/dev/null | sha256sum; done", sectors/8-1, name)
	if a, c := b.sh(b.Alpha, "%s", script), b.sh(b.Beta, "%s", script); a != c {
		b.ok(fmt.Errorf("the ends of %s differ:\n%s\n%s", name, a, c))
	}
}

// TestBlockSizes has a disk with blocks of 4096 bytes on one node and of 512 on the other. The device gets the
// larger ones on either, also where the own disk has small ones, and keeps them; data in small ones keeps those.
func TestBlockSizes(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Kernel: vm.Linux6_12, Block: 4096})
	b.ok(b.Up(b.ctx))
	b.ok(b.Sync(b.ctx, b.Alpha))
	for _, n := range []*vm.Node{b.Alpha, b.Beta} {
		b.urbd(n, "primary", Resource)
		b.blocksAre(n, 4096)
		b.finished(b.fio(n, 0))
		b.equalNow(n)
		b.urbd(n, "secondary", Resource)
	}
	b.ok(b.Down(b.ctx))
	b.largeAreRemembered()
	b.smallJoinsLarge()
	b.largeJoinsSmall()
}

// blocksAre wants the device of a Primary to have logical blocks of so many bytes.
func (b *bench) blocksAre(n *vm.Node, size int) {
	b.t.Helper()
	b.sh(n, "[ $(blockdev --getss %s) = %d ]", b.Device(n, 0), size)
}

// mounted makes a file system on a Primary's device, with a file.
func (b *bench) mounted(n *vm.Node, mkfs string) {
	b.t.Helper()
	b.sh(n, "%s %s; mkdir -p /mnt; mount %[2]s /mnt; echo kept > /mnt/file; sync -f /mnt", mkfs, b.Device(n, 0))
}

// unmounted wants that file there, in the device as it is and in a fresh mount, and leaves a Secondary.
func (b *bench) unmounted(n *vm.Node) {
	b.t.Helper()
	b.sh(n, "grep -q kept /mnt/file; umount /mnt; mount %s /mnt; grep -q kept /mnt/file; umount /mnt", b.Device(n, 0))
	b.urbd(n, "secondary", Resource)
}

// largeAreRemembered: alone on small blocks, then mounted while the larger ones come back.
func (b *bench) largeAreRemembered() {
	b.t.Log("larger blocks are remembered")
	b.urbd(b.Beta, "up", Resource)
	b.urbd(b.Beta, "primary", Resource)
	b.blocksAre(b.Beta, 4096)
	b.mounted(b.Beta, "mkfs.ext4 -q -F")
	b.urbd(b.Alpha, "up", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.blocksAre(b.Beta, 4096)
	b.unmounted(b.Beta)
}

// smallJoinsLarge has a new disk with smaller blocks come to data that is mounted: it takes it, in the larger ones.
func (b *bench) smallJoinsLarge() {
	b.t.Log("smaller blocks join data")
	b.urbd(b.Beta, "down", Resource)
	b.urbd(b.Alpha, "primary", Resource)
	b.mounted(b.Alpha, "mkfs.ext4 -q -F")
	b.urbd(b.Beta, "create-md", "--force", Resource)
	b.urbd(b.Beta, "up", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
	b.unmounted(b.Alpha)
	b.urbd(b.Beta, "primary", Resource)
	b.blocksAre(b.Beta, 4096)
	b.sh(b.Beta, "mount %s /mnt", b.Device(b.Beta, 0))
	b.unmounted(b.Beta)
	b.ok(b.Down(b.ctx))
}

// largeJoinsSmall has a disk with larger blocks come to data, mounted and not, and data come to it. It is refused on both nodes, by name, and the
// data can be mounted as before.
func (b *bench) largeJoinsSmall() {
	b.t.Log("larger blocks join data")
	for _, n := range b.Nodes() {
		b.urbd(n, "create-md", "--force", Resource)
	}
	refused := func() {
		b.t.Helper()
		for _, n := range b.Nodes() {
			b.state(n, "cstate", "StandAlone")
			b.sh(n, "urbd status r0 | tr -s ' \n' ' ' | grep -q 'logical blocks of 4096 bytes.*units of 512'")
		}
	}
	b.urbd(b.Beta, "up", Resource)
	b.urbd(b.Beta, "primary", "--force", Resource)
	b.mounted(b.Beta, "mkfs.ext4 -q -F -b 1024")
	b.urbd(b.Alpha, "up", Resource)
	refused()
	b.unmounted(b.Beta)
	for _, n := range b.Nodes() {
		b.urbd(n, "connect", Resource)
	}
	refused()
	b.ok(b.Down(b.ctx))
	for _, n := range b.Nodes() { // and the other one first
		b.urbd(n, "up", Resource)
	}
	refused()
	b.urbd(b.Beta, "primary", Resource)
	b.blocksAre(b.Beta, 512)
	b.sh(b.Beta, "mount %s /mnt", b.Device(b.Beta, 0))
	b.unmounted(b.Beta)
}
