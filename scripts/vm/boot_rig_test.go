//go:build rig

package vm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// limit bounds one test: everything in it has a bound of its own, this one keeps the sum sane.
func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eachKernel runs a test on every kernel of the rig.
func eachKernel(t *testing.T, test func(t *testing.T, k vm.Kernel)) {
	for _, k := range vm.Kernels {
		t.Run(string(k), func(t *testing.T) { test(t, k) })
	}
}

// eachKernelAtOnce runs a test with one guest on all of them side by side, and beside other such tests: a guest that boots uses one processor.
func eachKernelAtOnce(t *testing.T, test func(t *testing.T, k vm.Kernel)) {
	t.Parallel()
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		t.Parallel()
		test(t, k)
	})
}

func boot(t *testing.T, c vm.Config) *vm.Node {
	t.Helper()
	c.Log = t.Logf
	n, err := vm.Boot(limit(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console of %s:\n%s", n.Name(), n.Console())
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// must runs a script that has to succeed and returns its trimmed output.
func must(t *testing.T, n *vm.Node, script string) string {
	t.Helper()
	r, err := n.Sh(limit(t), script)
	if err != nil {
		t.Fatal(err)
	}
	return r.Text()
}

func TestGuestHasDriversAndTools(t *testing.T) {
	eachKernelAtOnce(t, func(t *testing.T, k vm.Kernel) {
		n := boot(t, vm.Config{Name: "gamma", Kernel: k, Disks: []vm.Disk{{Path: filepath.Join(t.TempDir(), "disk"), Size: 320 << 20}}})
		if got := must(t, n, "uname -n; uname -r"); got != "gamma\n"+n.Release() {
			t.Errorf("uname: %q", got)
		}
		must(t, n, "modprobe ublk_drv && test -c /dev/ublk-control")
		must(t, n, "modprobe -a drbd brd null_blk loop dm-flakey dm-delay dm-log-writes sch_netem raid1 nbd")
		must(t, n, "grep -q 'version: 8.4.11' /proc/drbd")
		must(t, n, "mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt && echo x >/mnt/x && umount /mnt && fsck.ext4 -fn /dev/vda")
		must(t, n, "mkfs.xfs -q -f /dev/vda && mount /dev/vda /mnt && echo x >/mnt/x && umount /mnt && xfs_repair -n /dev/vda")
		must(t, n, "fio --name=j --filename=/dev/vda --direct=1 --ioengine=libaio --rw=randwrite --verify=crc32c --size=1M --do_verify=1")
		for _, tool := range []string{"drbdadm --version", "dmsetup version", "mdadm --version", "tcpdump --version", "strace -V", "udevadm --version", "bash --version", "ss -V", "lsblk", "blkid -V"} {
			must(t, n, tool+" 2>&1")
		}
	})
}

func TestRunReportsWhatHappened(t *testing.T) {
	t.Parallel()
	n := boot(t, vm.Config{Kernel: vm.Linux7})
	ctx := limit(t)

	r, err := n.Sh(ctx, "echo out; echo err >&2; exit 3")
	var exit *vm.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || r.Text() != "out" || string(r.Stderr) != "err\n" {
		t.Errorf("exit 3: %+v, %v", r, err)
	}
	if _, err := n.Run(ctx, "no-such-program"); err == nil || errors.As(err, &exit) {
		t.Errorf("a program that is not there: %v", err)
	}
	if r, _ := n.Sh(ctx, "kill -9 $$"); r.Code != 128+9 {
		t.Errorf("killed: code %d", r.Code)
	}
	// A daemon that keeps its output open does not hold up its starter.
	began := time.Now()
	if _, err := n.Sh(ctx, "sleep 600 & echo started"); err != nil || time.Since(began) > time.Minute {
		t.Errorf("left a child behind: %v after %v", err, time.Since(began))
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := n.Run(short, "sleep", "600"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past its deadline: %v", err)
	}
	if got := must(t, n, "pgrep -c sleep"); got != "1" {
		t.Errorf("%s sleeps run; only the daemon should", got)
	}

	big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB: many windows
	if r, err := n.RunInput(ctx, strings.NewReader(big), "cat"); err != nil || string(r.Stdout) != big {
		t.Errorf("cat of %d bytes: %d bytes, %v", len(big), len(r.Stdout), err)
	}
	if err := n.PutFile(ctx, "/srv/deep/big", 0o640, []byte(big)); err != nil {
		t.Error(err)
	}
	if got := must(t, n, "stat -c '%s %a' /srv/deep/big"); got != "4194304 640" {
		t.Errorf("put: %s", got)
	}
	if back, err := n.GetFile(ctx, "/srv/deep/big"); err != nil || string(back) != big {
		t.Errorf("get: %d bytes, %v", len(back), err)
	}
	if _, err := n.GetFile(ctx, "/nothing"); err == nil {
		t.Error("got a file that is not there")
	}
	// An input that nobody reads does not stop other commands.
	idle, err := n.Start(ctx, vm.Cmd{Argv: []string{"sleep", "600"}, Stdin: strings.NewReader(big)})
	if err != nil {
		t.Fatal(err)
	}
	must(t, n, "true")
	if err := idle.Signal(15); err != nil {
		t.Error(err)
	}
	if code, err := idle.Wait(); code != 128+15 || err != nil {
		t.Errorf("terminated: %d, %v", code, err)
	}
}

func TestPowerCutKeepsWhatWasFlushed(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	n := boot(t, vm.Config{Kernel: vm.Linux6_12, Disks: []vm.Disk{{Path: disk, Size: 64 << 20}}})
	ctx := limit(t)
	must(t, n, "mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt && echo precious >/mnt/kept && sync /mnt/kept")
	busy, err := n.Start(ctx, vm.Cmd{Argv: []string{"sh", "-c", "while :; do echo x >>/mnt/noise; done"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if _, err := busy.Wait(); !errors.Is(err, vm.ErrDown) {
		t.Errorf("a command in a guest that lost its power: %v", err)
	}
	if _, err := n.Run(ctx, "true"); !errors.Is(err, vm.ErrDown) {
		t.Errorf("a command for a guest without power: %v", err)
	}
	if info, err := os.Stat(disk); err != nil || info.Size() != 64<<20 {
		t.Errorf("disk after the cut: %v, %v", info, err)
	}
	if err := n.BootAgain(ctx); err != nil {
		t.Fatal(err)
	}
	if got := must(t, n, "mount /dev/vda /mnt && cat /mnt/kept"); got != "precious" {
		t.Errorf("after the cut: %q", got)
	}
	if err := n.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// On a volatile disk a journal and every fsync still hold, and what was only
// written goes.
func TestPowerCutOfAVolatileDisk(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk")
	n := boot(t, vm.Config{Kernel: vm.Linux7, Disks: []vm.Disk{{Path: disk, Size: 64 << 20, Cache: vm.Volatile}}})
	ctx := limit(t)
	must(t, n, "mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt")
	var lost int
	for round := 0; lost == 0 && round < 8; round++ {
		file := fmt.Sprintf("/mnt/kept%d", round)
		must(t, n, fmt.Sprintf("seq 100000 >%s && sync %s && dd if=/dev/urandom of=/mnt/raw bs=64k count=64 oflag=direct 2>/dev/null", file, file))
		l, _, err := n.PowerCut()
		if err != nil {
			t.Fatal(err)
		}
		lost += l
		if err := n.BootAgain(ctx); err != nil {
			t.Fatal(err)
		}
		must(t, n, "mount /dev/vda /mnt && seq 100000 | cmp - "+file)
	}
	if lost == 0 {
		t.Error("eight power cuts lost nothing that was written")
	}
	must(t, n, "umount /mnt && fsck.ext4 -fn /dev/vda && echo last | dd of=/dev/vda bs=4096 conv=sync,notrunc 2>/dev/null")
	if err := n.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(disk)
	if err != nil || !strings.HasPrefix(string(text), "last\n") {
		t.Errorf("after a shutdown the file lacks the last write: %.8q, %v", text, err)
	}
}

func TestPairWire(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		ctx := limit(t)
		p, err := vm.BootPair(ctx, vm.Config{Kernel: k, Log: t.Logf}, vm.Config{Kernel: k, Log: t.Logf})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		ping := func(from *vm.Node, to string) bool {
			_, err := from.Run(ctx, "ping", "-c", "1", "-W", "2", to)
			return err == nil
		}
		awaitPing := func(when string) {
			t.Helper()
			for end := time.Now().Add(time.Minute); time.Now().Before(end); {
				if ping(p.Alpha, "beta") && ping(p.Beta, "alpha") {
					return
				}
			}
			t.Fatalf("%s: alpha and beta do not reach each other", when)
		}
		carrier := func(n *vm.Node) string { return must(t, n, "cat /sys/class/net/eth0/carrier") }

		awaitPing("after boot")
		if err := p.CutWire(); err != nil {
			t.Fatal(err)
		}
		if a, b := carrier(p.Alpha), carrier(p.Beta); a != "0" || b != "0" {
			t.Errorf("carrier after the cut: %s %s", a, b)
		}
		if ping(p.Alpha, "10.77.0.2") {
			t.Error("a cut wire carries packets")
		}
		if err := p.JoinWire(); err != nil {
			t.Fatal(err)
		}
		awaitPing("wire joined")

		if err := p.Alpha.Netem(ctx, 0, "loss", "100%"); err != nil {
			t.Fatal(err)
		}
		if ping(p.Alpha, "beta") {
			t.Error("a wire that loses everything carries packets")
		}
		if carrier(p.Alpha) != "1" {
			t.Error("loss took the carrier")
		}
		if err := p.Alpha.Netem(ctx, 0); err != nil {
			t.Fatal(err)
		}
		awaitPing("loss ended")

		for _, n := range p.Nodes() {
			if _, _, err := n.PowerCut(); err != nil {
				t.Fatal(err)
			}
			if err := n.BootAgain(ctx); err != nil {
				t.Fatal(err)
			}
			awaitPing(n.Name() + " is back")
		}
	})
}
