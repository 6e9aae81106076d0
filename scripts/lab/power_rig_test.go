//go:build rig

package lab

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// TestPowerCuts cuts the power of the Primary, the Secondary or both while everything writes at once: a recorder and fio to one volume,
// SQLite and PostgreSQL to a file system on the other. The disks lose what was not flushed. Afterwards there is: of a cut of one node,
// all that was confirmed; of both, all that was synced; and both disks are equal.
func TestPowerCuts(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		b := newBench(t, Options{Kernel: k, Size: 144 << 20, Volumes: 2, Cache: vm.Volatile, Commands: []string{recorderPackage}, Databases: true,
			Disk: []string{"al-extents 67"}})
		r := random(t)
		c := &cuts{bench: b, r: r, primary: b.Alpha, secondary: b.Beta, rec: b.newRecording(0, r.Uint64(), 16), databases: databases()}
		c.prepare()
		for range times(1) {
			pattern := r.Perm(len(fioPatterns))
			for i, v := range r.Perm(len(victims)) {
				c.round(victims[v], fioPatterns[pattern[i]])
			}
		}
		b.ok(b.Down(b.ctx))
	})
}

// cuts is a pair whose power is cut.
type cuts struct {
	*bench
	r                  *rand.Rand
	primary, secondary *vm.Node
	rec                *recording
	databases          []*database
}

var victims = []string{"primary", "secondary", "both"}

// fioPatterns is what fio does beside the recorder, each with one of the victims; it verifies what it has written, pass after pass.
var fioPatterns = []string{"--rw=randwrite --bs=4k --iodepth=8", "--rw=write --bs=64k --iodepth=4", "--rw=randwrite --bs=8k --iodepth=1 --fsync=1"}

// prepare brings the pair up without a first copy, and makes the file system and the databases.
func (c *cuts) prepare() {
	c.t.Helper()
	c.ok(c.Up(c.ctx))
	for v := range c.Options.Volumes {
		c.urbd(c.Alpha, "new-current-uuid", "--clear-bitmap", fmt.Sprintf("%s/%d", Resource, v))
	}
	c.ok(c.WaitUpToDate(c.ctx, c.Beta))
	c.urbd(c.Alpha, "primary", Resource)
	c.sh(c.Alpha, "mkfs.ext4 -q -F %s; mkdir -p /mnt; mount %[1]s /mnt; chmod 755 /mnt", c.Device(c.Alpha, 1))
	for _, d := range c.databases {
		c.sh(c.Alpha, "%s", d.setup)
	}
}

// round has everything write, cuts, and looks.
func (c *cuts) round(victim, pattern string) {
	c.t.Helper()
	c.open()
	first := c.r.IntN(1<<28) + 1
	c.rec.sync = 1 + c.r.IntN(16)
	c.rec.start(c.primary)
	fio, err := c.primary.Start(c.ctx, vm.Cmd{Argv: []string{"sh", "-c", fmt.Sprintf("while fio --name=v --filename=%s --offset=32M --size=4M %s --thread --ioengine=libaio --direct=1 --verify=crc32c --do_verify=1 --verify_fatal=1 --output-format=terse >/dev/null; do :; done; echo fio has found something",
		c.Device(c.primary, 0), pattern)}, Stdout: logWriter{c.t}, Stderr: logWriter{c.t}})
	c.ok(err)
	for _, d := range c.databases {
		d.start(c.bench, c.primary, first)
	}
	for _, d := range c.databases {
		d.goesOn(c.bench, 5)
	}
	c.rec.goesOn(100)
	wait := time.Duration(c.r.IntN(3000)) * time.Millisecond
	c.t.Logf("power cut: %s, fio %s, a FLUSH every %d records, after %v", victim, pattern, c.rec.sync, wait)
	time.Sleep(wait)
	began := time.Now()
	switch victim {
	case "secondary":
		c.cut(c.secondary)
		c.rec.goesOn(100)
		for _, d := range c.databases {
			d.goesOn(c.bench, 5)
		}
		c.revive(c.secondary)
		c.endLoad(fio)
	case "primary":
		c.cut(c.primary)
		c.endLoad(nil)
		c.primary, c.secondary = c.secondary, c.primary
		c.urbd(c.primary, "primary", Resource)
		c.check(false)
		c.revive(c.secondary)
	case "both":
		c.cut(c.primary)
		c.cut(c.secondary)
		c.endLoad(nil)
		c.each(c.Nodes(), func(n *vm.Node) error { return n.BootAgain(c.ctx) })
		c.each(c.Nodes(), func(n *vm.Node) error { return c.Prepare(c.ctx, n) })
		c.each(c.Nodes(), func(n *vm.Node) error { _, err := c.Urbd(c.ctx, n, "up", Resource); return err })
		c.state(c.primary, "cstate", "Connected")
		if c.r.IntN(2) == 1 {
			c.primary, c.secondary = c.secondary, c.primary
		}
		c.urbd(c.primary, "primary", Resource)
		c.check(true)
	}
	for _, n := range c.Nodes() {
		c.ok(c.WaitUpToDate(c.ctx, n))
	}
	if victim == "secondary" {
		c.check(false)
	}
	c.equalNow(c.primary)
	c.t.Logf("checked after %v", time.Since(began).Round(time.Second))
}

func (c *cuts) cut(n *vm.Node) {
	c.t.Helper()
	lost, kept, err := n.PowerCut()
	c.ok(err)
	c.t.Logf("%s: %d sectors were lost, %d survived without a FLUSH", n.Name(), lost, kept)
}

// endLoad ends what writes, or takes note that it is gone with its guest. fio must not have found anything.
func (c *cuts) endLoad(fio *vm.Process) {
	c.t.Helper()
	if fio != nil {
		select {
		case <-fio.Done():
			c.ok(fmt.Errorf("fio has ended"))
		default:
		}
		c.ok(fio.Signal(9))
		<-fio.Done()
		c.rec.stop()
		for _, d := range c.databases {
			c.ok(d.now.process.Signal(9))
			d.ended(c.bench)
		}
		return
	}
	c.rec.ended()
	for _, d := range c.databases {
		d.ended(c.bench)
	}
}

// check looks at what the Primary has: the records, the file system, the databases with their own checks.
func (c *cuts) check(onlySynced bool) {
	c.t.Helper()
	c.rec.check(c.primary, onlySynced)
	c.open()
	for _, d := range c.databases {
		d.verify(c.bench, c.primary)
	}
	c.sh(c.primary, "umount /mnt; fsck.ext4 -f -n %s", c.Device(c.primary, 1))
}

// open mounts the file system and gets the databases going, as far as they are not.
func (c *cuts) open() {
	c.t.Helper()
	c.sh(c.primary, "mkdir -p /mnt; mountpoint -q /mnt || mount %s /mnt", c.Device(c.primary, 1))
	for _, d := range c.databases {
		if d.begin != "" {
			c.sh(c.primary, "%s", d.begin)
		}
	}
}
