//go:build rig

package lab

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/urbd/urbd/scripts/vm"
)

// A space is a kind of disk that space can be given back to.
type space struct {
	name      string
	backing   string // "": the volume's disk as it is
	make      string // script that makes it on a node that has just booted
	allocated func(*bench, *vm.Node, int) int64
	zeroless  bool // it does not write zeroes by itself
	offered   bool // discards, by urbd's device
	freed     bool // on urbd's node; the driver frees everywhere
	stale     bool // what was discarded reads as before, which the driver takes for zeroes
}

// thinVolume is the volume that has scenarios of its own.
const thinVolume = 0

// spaces are the kinds of disk, a volume each.
var spaces = []space{
	thinVolume: {name: "thin volume", backing: "/dev/mapper/thin", make: thin("")},
	{name: "disk that zeroes by unmapping", allocated: (*bench).holdsOnHost, offered: true, freed: true},
	{name: "disk that discards and writes no zeroes", allocated: (*bench).holdsOnHost, zeroless: true},
	{
		name: "SCSI disk with LBPRZ 0", backing: "/dev/sda", allocated: (*bench).holdsMapped, offered: true, stale: true,
		make: `modprobe sd_mod; modprobe scsi_debug dev_size_mb=12 delay=0 lbpu=1 lbpws=1 lbprz=0 unmap_granularity=8 unmap_max_blocks=65536
until [ -b /dev/sda ]; do sleep 0.1; done`,
	},
	{
		name: "file with holes", backing: "/tmp/disk", allocated: (*bench).holdsInFile, offered: true, freed: true,
		make: `truncate -s 12M /tmp/holes; ln -s holes /tmp/disk # the driver takes block devices only
[ ! -e /proc/drbd ] || { modprobe loop; losetup /dev/loop7 /tmp/holes; ln -sf /dev/loop7 /tmp/disk; }`,
	},
}

// holdsOnHost is how many bytes this machine has allocated for a disk of a guest.
func (b *bench) holdsOnHost(n *vm.Node, vol int) int64 {
	b.t.Helper()
	f, err := os.Open(b.DiskPath(n, vol))
	b.ok(err)
	defer f.Close()
	b.ok(f.Sync()) // so that nothing waits to be allocated
	info, err := f.Stat()
	b.ok(err)
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// holdsMapped is how many bytes of the SCSI disk are mapped to something.
func (b *bench) holdsMapped(n *vm.Node, _ int) int64 {
	b.t.Helper()
	return b.number(n, `tr , '\n' < /sys/bus/pseudo/drivers/scsi_debug/map | awk -F- 'NF { sum += (NF > 1 ? $2 : $1) - $1 + 1 } END { print sum * 4096 }'`)
}

func (b *bench) holdsInFile(n *vm.Node, _ int) int64 {
	b.t.Helper()
	return b.number(n, "sync; echo $(($(stat -c %b /tmp/holes) * 512))")
}

// number runs a script that prints one.
func (b *bench) number(n *vm.Node, script string) int64 {
	b.t.Helper()
	v, err := strconv.ParseInt(b.sh(n, "%s", script), 10, 64)
	b.ok(err)
	return v
}

// What is filled and given back of each space, in bytes: the ends of the second lie inside of blocks.
const (
	filled   = 8 << 20
	givenOff = 1<<20 + 36<<10
	givenLen = 6<<20 - 24<<10
	ragged   = 256 << 10 // what may stay allocated at the ends of what is given back, or be allocated for metadata
)

// givesBack fills a volume and discards most of that, on a Primary. What is left is what was written, the rest reads zeroes, and is
// free where it can be.
func (b *bench) givesBack(vol int, primary *vm.Node) {
	b.t.Helper()
	s, dev, urbd := spaces[vol], b.Device(primary, vol), !b.runsDriver(primary)
	b.sh(primary, "dd if=/tmp/random of=%s bs=1M oflag=direct conv=notrunc,fsync 2>/dev/null", dev)
	before := b.spaceOf(vol)
	if urbd && !s.offered {
		b.offersNone(vol)
		b.spaceIs(vol, primary, before, [2]bool{})
		return
	}
	b.sh(primary, "blkdiscard -f -o %d -l %d %s; dd if=/dev/null of=%[3]s conv=fsync,notrunc 2>/dev/null", givenOff, givenLen, dev)
	b.spaceIs(vol, primary, before, [2]bool{s.freed, true})
	if urbd || !s.stale {
		b.sh(primary, `blockdev --flushbufs %[1]s; cmp -n %[2]d %[1]s /tmp/random; cmp -i %[3]d -n %[4]d %[1]s /tmp/random
cmp -i %[2]d:0 -n %[5]d %[1]s /dev/zero`, dev, givenOff, givenOff+givenLen, filled-givenOff-givenLen, givenLen)
	}
}

// spaceOf is what both nodes have allocated for a volume, in bytes, alpha first.
func (b *bench) spaceOf(vol int) (out [2]int64) {
	b.t.Helper()
	for i, n := range b.Nodes() {
		if out[i] = spaces[vol].allocated(b, n, vol); out[i] < filled {
			b.ok(fmt.Errorf("%s of %s: %d bytes were written, and %d are allocated", spaces[vol].name, n.Name(), filled, out[i]))
		}
	}
	return out
}

// spaceIs wants most of what was given back to be free, or nothing.
func (b *bench) spaceIs(vol int, primary *vm.Node, before [2]int64, freed [2]bool) {
	b.t.Helper()
	s, after := spaces[vol], [2]int64{}
	for i, n := range b.Nodes() {
		after[i] = s.allocated(b, n, vol)
	}
	b.t.Logf("%s, %s is Primary: alpha (urbd) %d KiB, then %d; beta (kernel's DRBD) %d, then %d", s.name, primary.Name(), before[0]>>10, after[0]>>10, before[1]>>10, after[1]>>10)
	for i, n := range b.Nodes() {
		low, high := int64(-ragged), int64(ragged)
		if freed[i] {
			low, high = givenLen-ragged, givenLen+ragged
		}
		if gone := before[i] - after[i]; gone < low || gone > high {
			b.ok(fmt.Errorf("%s: %d of %d bytes that were given back are free on %s, not %d to %d", s.name, gone, int64(givenLen), n.Name(), low, high))
		}
	}
}
