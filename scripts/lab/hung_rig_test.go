//go:build rig

package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// hungTimeout is the disk-timeout of the second half of TestHungDisk.
const hungTimeout = 4 * time.Second

// TestHungDisk has a disk that answers nothing below either node, under a recorder: a suspended device of the mapper. First without
// disk-timeout, so that somebody has to give it up, then with it. The recorder sees no error, and what was confirmed is there. The other
// volume of the resource, whose disk answers, goes on meanwhile.
func TestHungDisk(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		b := newBench(t, Options{Kernel: k, CPUs: 2, Size: 18 << 20, Volumes: 2, Mapper: true, Commands: []string{recorderPackage}})
		b.ok(b.Up(b.ctx))
		b.ok(b.Sync(b.ctx, b.Alpha))
		rec := b.newRecording(0, random(t).Uint64(), 16)
		for round := range times(1) {
			if round > 0 {
				b.setTimeout(0)
			}
			rec.start(b.Alpha)
			b.givenUp(b.Beta, rec)
			b.givenUp(b.Alpha, rec)
			b.hungDown(rec)
			rec.stop()
			b.setTimeout(hungTimeout)
			rec.start(b.Alpha)
			for _, n := range []*vm.Node{b.Beta, b.Alpha} {
				b.t.Logf("disk-timeout on %s", n.Name())
				rec.goesOn(20)
				b.hang(n)
				b.otherVolume(flushed)
				rec.goesOn(100)
				b.comesBack(n)
			}
			rec.stop()
			rec.check(b.Alpha, false)
			b.equalNow(b.Alpha)
		}
		b.urbd(b.Alpha, "secondary", Resource)
		b.equalDisks()
	})
}

func (b *bench) hang(n *vm.Node) {
	b.t.Helper()
	b.sh(n, "dmsetup suspend --noflush --nolockfs --noudevsync %s", Mapped(0))
}

func (b *bench) resume(n *vm.Node) {
	b.t.Helper()
	b.sh(n, "dmsetup resume --noudevsync %s", Mapped(0))
}

// otherVolume has volume 1 written, read, and if that can be, flushed, on the Primary.
func (b *bench) otherVolume(conv string) {
	b.t.Helper()
	begun := time.Now()
	b.sh(b.Alpha, `dd if=/dev/urandom of=/run/other bs=64k count=4 2>/dev/null
for i in 1 2; do
	timeout 60 dd if=/run/other of=%[1]s bs=64k seek=$((i * 4)) oflag=direct conv=%[2]s 2>/dev/null
	timeout 60 dd if=%[1]s of=/run/read bs=64k skip=$((i * 4)) count=4 iflag=direct 2>/dev/null; cmp /run/other /run/read
done`, b.Device(b.Alpha, 1), conv)
	b.t.Logf("the other volume, twice (%s): %v", conv, time.Since(begun).Round(time.Millisecond))
}

// What is asked of the other volume. With protocol C its FLUSH waits for the peer's disks, because epochs are the connection's.
const (
	written = "notrunc"
	flushed = "fsync,notrunc"
)

// disk0 waits until the disk of volume 0 is in a state, seen from a node.
func (b *bench) disk0(n *vm.Node, want string) {
	b.t.Helper()
	b.sh(n, "for i in $(seq 300); do is=$(urbd dstate r0/0); [ $is = %[1]s ] && exit 0; sleep 0.2; done; echo it is $is, not %[1]s; urbd status --verbose; exit 1", want)
}

// comesBack ends the hanging of a disk that was given up, and has it attached again.
func (b *bench) comesBack(n *vm.Node) {
	b.t.Helper()
	b.disk0(n, "Failed/UpToDate")
	b.refused(n, []string{"given up"}, "attach", Resource+"/0")
	b.resume(n)
	b.disk0(n, "Diskless/UpToDate")
	b.urbd(n, "attach", Resource+"/0")
	b.ok(b.WaitUpToDate(b.ctx, n))
}

// orderTime is what an order may take that may not wait for a disk: emulated processors give it.
const orderTime = 25 * time.Second

// quick gives an order that may not take long.
func (b *bench) quick(n *vm.Node, args ...string) {
	b.t.Helper()
	begun := time.Now()
	b.urbd(n, args...)
	b.inTime(n, strings.Join(args, " "), begun)
}

func (b *bench) inTime(n *vm.Node, what string, begun time.Time) {
	b.t.Helper()
	d := time.Since(begun)
	if b.t.Logf("%s on %s took %v", what, n.Name(), d.Round(time.Millisecond)); d > orderTime {
		b.ok(fmt.Errorf("%s took %v", what, d))
	}
}

// A pending order is one that waits for a disk.
type pending struct {
	b       *bench
	what    string
	process *vm.Process
	said    strings.Builder
}

func (b *bench) pending(n *vm.Node, args ...string) *pending {
	b.t.Helper()
	p := &pending{b: b, what: strings.Join(args, " ")}
	var err error
	p.process, err = n.Start(b.ctx, vm.Cmd{Argv: append([]string{"urbd"}, args...), Stdout: &p.said, Stderr: &p.said})
	b.ok(err)
	return p
}

// ends waits for its end, and returns its exit code.
func (p *pending) ends() (code int) {
	p.b.t.Helper()
	select {
	case <-p.process.Done():
	case <-time.After(orderTime):
		p.b.ok(fmt.Errorf("%s does not end", p.what))
	}
	code, err := p.process.Wait()
	p.b.ok(err)
	p.b.t.Logf("%s ends with %d: %s", p.what, code, strings.TrimSpace(p.said.String()))
	return code
}

// fails wants it to have failed, and to have said why.
func (p *pending) fails(why string) {
	p.b.t.Helper()
	if code, said := p.ends(), p.said.String(); code == 0 || !strings.Contains(said, why) || strings.Contains(said, "EOF") {
		p.b.ok(fmt.Errorf("%s ends with %d: %s", p.what, code, said))
	}
}

// stalled waits until the status of a node says that its disk does not answer.
func (b *bench) stalled(n *vm.Node) {
	b.t.Helper()
	b.sh(n, "for i in $(seq 100); do urbd status r0 | tr -s ' \\n' ' ' | grep -q 'does not answer' && exit 0; sleep 0.2; done; urbd status r0; exit 1")
}

// givenUp has a node's disk hang: the status says so, a forced order does not wait for it, or for one that does, and the application
// goes on, with the peer's disk where it is the Primary's.
func (b *bench) givenUp(n *vm.Node, rec *recording) {
	b.t.Logf("the disk of %s hangs", n.Name())
	b.hang(n)
	b.stalled(n)
	if n == b.Beta {
		b.otherVolume(written)
	} else {
		b.otherVolume(flushed)
	}
	orderly := b.pending(n, "detach", Resource+"/0")
	b.quick(n, "detach", "--force", Resource+"/0")
	rec.goesOn(100)
	b.comesBack(n)
	orderly.ends() // well, or refused because the disk is on its way already
}

// hungDown: a daemon ends by force although its disk hangs, and an orderly end with it, and the next one begins when the disk is back.
func (b *bench) hungDown(rec *recording) {
	b.t.Log("down --force of a Secondary whose disk hangs, below orderly orders")
	b.hang(b.Beta)
	b.stalled(b.Beta)
	detach, down := b.pending(b.Beta, "detach", Resource+"/0"), b.pending(b.Beta, "down", Resource)
	b.sh(b.Beta, "for i in $(seq 50); do urbd attach --timeout 1 r0/0 2>&1 | grep -q 'down is still at work' && exit 0; done; echo down does not wait; exit 1")
	b.quick(b.Beta, "down", "--force", Resource)
	rec.goesOn(100)
	b.resume(b.Beta)
	for _, p := range []*pending{detach, down} {
		p.fails("")
	}
	b.hungStart()
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
}

// hungStart starts a daemon on a disk that hangs: it says so, ends when it is told to, and goes on when the disk is back.
func (b *bench) hungStart() {
	const gone = "for i in $(seq 100); do flock -n /run/urbd/r0.lock true && exit 0; sleep 0.1; done; echo the daemon is still there; exit 1"
	for _, end := range []string{"kill -TERM $(cat /run/urbd/r0.lock)", "urbd down --force r0", ""} {
		b.sh(b.Beta, gone)
		b.hang(b.Beta)
		up := b.pending(b.Beta, "up", Resource)
		b.stalled(b.Beta)
		if end == "" {
			b.resume(b.Beta)
			if code := up.ends(); code != 0 {
				b.ok(fmt.Errorf("up ends with %d: %s", code, up.said.String()))
			}
			return
		}
		begun := time.Now()
		b.sh(b.Beta, "%s", end)
		b.inTime(b.Beta, end, begun)
		up.fails("told to end")
		b.inTime(b.Beta, "up", begun)
		b.resume(b.Beta)
	}
}

// setTimeout starts both daemons again with a disk-timeout; 0 is none.
func (b *bench) setTimeout(d time.Duration) {
	b.urbd(b.Alpha, "secondary", Resource)
	for _, n := range b.Nodes() {
		b.urbd(n, "down", Resource)
		b.sh(n, "sed -i '/disk-timeout/d; /disk {/a disk-timeout %d;' /etc/urbd.d/r0.res; urbd dump r0 | grep -q 'disk-timeout *%[1]d;'", d/(100*time.Millisecond))
		b.urbd(n, "up", Resource)
	}
	b.urbd(b.Alpha, "wait-connect", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.urbd(b.Alpha, "primary", Resource)
}
