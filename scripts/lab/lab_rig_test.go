//go:build rig

package lab

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// bench is a lab for one test: every step that fails ends the test and says
// what both nodes looked like.
type bench struct {
	*Lab
	t               *testing.T
	ctx             context.Context
	plain, stubborn time.Duration // of a shutdown without urbd, and below a process that does not end; 0: not measured
}

// newBench boots a pair and closes it with the test.
func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(times(15))*time.Minute)
	t.Cleanup(cancel)
	o.Log = t.Logf
	o.CPUs = processors(o)
	l, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &bench{Lab: l, t: t, ctx: ctx}
}

// processors is how many a guest has: two in scripts/soak, and below systemd, where limits of time are judged. In scripts/test those of the
// older kernel have one, with which emulation takes a third less time, unless a test says otherwise.
func processors(o Options) int {
	switch {
	case long(), o.Init == vm.Systemd:
		return 2
	case o.CPUs == 0 && o.Kernel == vm.Linux6_12:
		return 1
	}
	return o.CPUs
}

// eachKernel runs a test on every kernel of the rig, one after the other. Its load wants the machine for itself.
func eachKernel(t *testing.T, f func(t *testing.T, k vm.Kernel)) {
	for _, k := range vm.Kernels {
		t.Run("linux-"+string(k), func(t *testing.T) { f(t, k) })
	}
}

// stage is a part of a scenario, timed by itself. It reports whether the pair is fit for the next one.
func (b *bench) stage(name string, do func(*bench)) bool {
	return b.t.Run(name, func(t *testing.T) { do(&bench{Lab: b.Lab, t: t, ctx: b.ctx}) })
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err == nil {
		return
	}
	for _, n := range b.Nodes() {
		b.t.Logf("%s:\n%s", n.Name(), b.Diagnose(n))
	}
	b.t.Fatal(err)
}

// urbd runs a command that must succeed and returns what it printed.
func (b *bench) urbd(n *vm.Node, args ...string) string {
	b.t.Helper()
	r, err := b.Urbd(b.ctx, n, args...)
	b.ok(err)
	return r.Text()
}

// refused runs a command that must fail, and wants every word in what it says.
func (b *bench) refused(n *vm.Node, words []string, args ...string) {
	b.t.Helper()
	r, err := b.Urbd(b.ctx, n, args...)
	if err == nil {
		b.t.Fatalf("%s: urbd %s succeeded: %s", n.Name(), strings.Join(args, " "), r.Text())
	}
	said := string(r.Stderr) + string(r.Stdout)
	for _, w := range words {
		if !strings.Contains(said, w) {
			b.t.Fatalf("%s: urbd %s says %q, without %q", n.Name(), strings.Join(args, " "), said, w)
		}
	}
	if strings.Contains(said, "panic") || strings.Contains(said, "goroutine ") {
		b.t.Fatalf("%s: urbd %s panicked: %s", n.Name(), strings.Join(args, " "), said)
	}
}

// sh runs a script that must succeed.
func (b *bench) sh(n *vm.Node, format string, args ...any) string {
	b.t.Helper()
	r, err := n.Sh(b.ctx, "set -e\n"+fmt.Sprintf(format, args...))
	b.ok(err)
	return r.Text()
}

// fio starts a random writer on the raw device that reads everything back and
// checks it; stretch slows it down to so many seconds, so that something can happen meanwhile.
func (b *bench) fio(n *vm.Node, stretch int) *vm.Process {
	b.t.Helper()
	argv := []string{"fio", "--name=v", "--filename=" + b.Device(n, 0), "--rw=randwrite", "--bs=4k", "--size=6M", "--ioengine=libaio",
		"--iodepth=8", "--direct=1", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--output-format=terse"}
	if stretch > 0 {
		argv = append(argv, fmt.Sprintf("--rate_iops=%d", 1536/stretch))
	}
	p, err := n.Start(b.ctx, vm.Cmd{Argv: argv, Stdout: logWriter{b.t}, Stderr: logWriter{b.t}})
	b.ok(err)
	return p
}

// finished waits for a process that must end well.
func (b *bench) finished(p *vm.Process) {
	b.t.Helper()
	code, err := p.Wait()
	if err == nil && code != 0 {
		err = fmt.Errorf("it ended with %d", code)
	}
	b.ok(err)
}

// state waits until a one-word verb prints what is wanted.
func (b *bench) state(n *vm.Node, verb, want string) {
	b.t.Helper()
	b.ok(b.WaitState(b.ctx, n, verb, want, 3*time.Minute))
}

// sectors is how many sectors a node's device has had written.
func (b *bench) sectors(n *vm.Node) int {
	b.t.Helper()
	v, err := strconv.Atoi(b.sh(n, "awk '{print $7}' /sys/block/$(basename %s)/stat", b.Device(n, 0)))
	b.ok(err)
	return v
}

// writes waits until a node's device has had so many more bytes written.
func (b *bench) writes(n *vm.Node, bytes int) {
	b.t.Helper()
	end, until := b.sectors(n)+bytes/512, time.Now().Add(2*time.Minute)
	for b.sectors(n) < end {
		if time.Now().After(until) {
			b.ok(fmt.Errorf("%s: the writer does not get on", n.Name()))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// revive boots a node again after a power cut and brings its resource up.
func (b *bench) revive(n *vm.Node) {
	b.t.Helper()
	b.ok(n.BootAgain(b.ctx))
	b.ok(b.Prepare(b.ctx, n))
	b.urbd(n, "up", Resource)
}

// equalNow compares the disks of a pair that goes on afterwards: nobody writes, and a FLUSH takes what was written to both disks.
func (b *bench) equalNow(primary *vm.Node) {
	b.t.Helper()
	b.sh(primary, "dd if=/dev/null of=%s conv=fsync,notrunc 2>/dev/null", b.Device(primary, 0))
	b.compared()
}

// equalDisks takes both nodes down and compares their disks, which are not volatile.
func (b *bench) equalDisks() {
	b.t.Helper()
	b.ok(b.Down(b.ctx))
	b.compared()
}

// compared wants the same on both disks, on which nobody writes.
func (b *bench) compared() {
	b.t.Helper()
	n, err := b.Compare()
	b.ok(err)
	b.t.Logf("%d bytes are equal on both disks", n)
}

// each does something on several nodes at the same time.
func (b *bench) each(nodes []*vm.Node, do func(*vm.Node) error) {
	b.t.Helper()
	b.ok(each(nodes, do))
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	if s := strings.TrimSpace(string(p)); s != "" && len(s) < 2000 {
		w.t.Log(s)
	}
	return len(p), nil
}
