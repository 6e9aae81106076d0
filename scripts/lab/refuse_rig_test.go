//go:build rig

package lab

import (
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// TestBadInput gives a running pair what it must not choke on: each gets a
// clear sentence, and the pair serves on. At last DRBD's own tool reads its metadata.
func TestBadInput(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Kernel: vm.Linux6_12})
	b.ok(b.Up(b.ctx))
	b.ok(b.Sync(b.ctx, b.Alpha))
	b.garbage()
	b.badFiles()
	b.commands()
	b.finished(b.fio(b.Alpha, 0))
	b.equalNow(b.Alpha)
	b.metadataTool()
}

// garbage arrives on the port, while connected and while a connection is sought.
func (b *bench) garbage() {
	b.t.Log("garbage on the port")
	throw := `for i in 1 2 3 4 5; do head -c 100000 /dev/urandom | nc -w 2 10.77.0.1 7789 >/dev/null 2>&1 || true; done
printf '\203\164\002\147\377\362\377\377' | nc -w 2 10.77.0.1 7789 >/dev/null 2>&1 || true`
	b.sh(b.Beta, "%s", throw)
	b.state(b.Alpha, "cstate", "Connected")
	b.urbd(b.Beta, "disconnect", Resource)
	b.state(b.Alpha, "cstate", "WFConnection")
	b.sh(b.Beta, "%s", throw)
	b.urbd(b.Beta, "connect", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// badFiles are configurations and metadata that are not what they should be.
func (b *bench) badFiles() {
	b.t.Log("bad configuration and metadata")
	b.ok(b.Alpha.PutFile(b.ctx, "/tmp/bad.res", 0o644, []byte("resource r1 {\n\tnett { protocol C; }\n}\n")))
	b.refused(b.Alpha, []string{"/tmp/bad.res:2:", "nett"}, "-c", "/tmp/bad.res", "dump", "all")
	b.refused(b.Alpha, []string{"no-such-file"}, "-c", "/tmp/no-such-file", "dump", "all")
	b.ok(b.Alpha.PutFile(b.ctx, "/tmp/r1.res", 0o644, []byte(`resource r1 {
	on alpha { device /dev/ublkb5 minor 5; disk /tmp/r1.img; meta-disk internal; address 10.77.0.1:7790; }
	on beta { device /dev/ublkb5 minor 5; disk /tmp/r1.img; meta-disk internal; address 10.77.0.2:7790; }
}
`)))
	b.refused(b.Alpha, []string{"/tmp/r1.img"}, "-c", "/tmp/r1.res", "up", "r1")
	b.sh(b.Alpha, "truncate -s 32M /tmp/r1.img")
	b.refused(b.Alpha, []string{"create-md"}, "-c", "/tmp/r1.res", "up", "r1")
	b.urbd(b.Alpha, "-c", "/tmp/r1.res", "create-md", "--force", "r1")
	b.sh(b.Alpha, "truncate -s 31M /tmp/r1.img")
	b.refused(b.Alpha, []string{"r1"}, "-c", "/tmp/r1.res", "up", "r1")
	b.sh(b.Alpha, "rm /tmp/r1.img")
}

// commands that make no sense now.
func (b *bench) commands() {
	b.t.Log("commands out of place")
	b.refused(b.Alpha, []string{"no-such-res"}, "status", "no-such-res")
	b.refused(b.Alpha, []string{"up already", "urbd adjust r0"}, "up", Resource)
	b.refused(b.Beta, []string{"Primary"}, "primary", Resource)
	b.refused(b.Alpha, []string{"up"}, "create-md", "--force", Resource)
	b.refused(b.Alpha, []string{"command"}, "frobnicate", Resource)
	b.state(b.Alpha, "cstate", "Connected")
}

// metadataTool has DRBD's own tool read what urbd has written.
func (b *bench) metadataTool() {
	b.t.Log("DRBD's own tool")
	b.urbd(b.Beta, "disconnect", Resource)
	b.sh(b.Alpha, "dd if=/dev/urandom of=/dev/ublkb0 bs=4k seek=10 count=700 oflag=direct conv=notrunc 2>/dev/null")
	for _, n := range b.Nodes() {
		b.urbd(n, "down", Resource)
		// The tool prints the flags as 0 in dumps, and other comments.
		b.sh(n, `mkdir -p /var/lock /var/lib/drbd
urbd dump-md r0 | grep -v '^#' | grep -v flags > /tmp/own
drbdmeta --force 0 v08 /dev/vda internal dump-md | grep -v '^#' | grep -v flags > /tmp/theirs
diff -u /tmp/theirs /tmp/own; grep -q 'bm {' /tmp/own
[ "$(drbdmeta --force 0 v08 /dev/vda internal get-gi)" = "$(urbd get-gi r0)" ]`)
	}
}

// TestPeersThatDoNotFit has two nodes meet that must not replicate: both say
// why, stay apart, and nothing is overwritten.
func TestPeersThatDoNotFit(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Kernel: vm.Linux7, CPUs: 1, BetaSize: 96 << 20})
	for _, c := range []struct{ net, word string }{{"protocol A", "protocol"}, {"verify-alg crc32c", "verify-alg"}} {
		t.Log(c.net)
		b.Options.BetaNet = []string{c.net}
		for _, n := range b.Nodes() {
			b.ok(b.Prepare(b.ctx, n))
			b.urbd(n, "create-md", "--force", Resource)
			b.urbd(n, "up", Resource)
		}
		for _, n := range b.Nodes() {
			b.ok(b.WaitState(b.ctx, n, "cstate", "StandAlone", time.Minute))
			b.sh(n, "grep -q '%s' /var/log/urbd/*.log", c.word)
		}
		for _, n := range b.Nodes() {
			b.urbd(n, "down", Resource)
			b.sh(n, "rm /var/log/urbd/*.log")
		}
	}
	b.Options.BetaNet = nil
	b.smallerDisk()
}

// smallerDisk replaces the peer's disk by one that is too small for what is in use.
func (b *bench) smallerDisk() {
	b.t.Log("a smaller disk")
	b.ok(b.Up(b.ctx))
	b.ok(b.Sync(b.ctx, b.Alpha))
	b.urbd(b.Alpha, "secondary", Resource)
	b.urbd(b.Beta, "down", Resource)
	b.sh(b.Beta, "truncate -s 48M /tmp/small.img; sed -i 's,disk /dev/vda;,disk /tmp/small.img;,' /etc/urbd.d/r0.res")
	b.urbd(b.Beta, "create-md", "--force", Resource)
	b.urbd(b.Beta, "up", Resource)
	b.ok(b.WaitState(b.ctx, b.Alpha, "cstate", "StandAlone", time.Minute))
	b.sh(b.Alpha, "grep -q 'large enough' /var/log/urbd/*.log")
}
