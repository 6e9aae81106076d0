//go:build rig

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// mounted are the ways in which a file system stands on a device; volume i of the resource is for the i-th.
var mounted = []struct{ name, fstab, mount string }{
	{"hand", "", "mount /dev/ublkb0 /mnt/hand"},
	{"netdev", "/dev/urbd/by-res/r0/1 /mnt/netdev ext4 _netdev,noauto 0 0", "mount /mnt/netdev"},
	{"requires", "/dev/urbd/by-res/r0/2 /mnt/requires ext4 _netdev,noauto,x-systemd.requires=urbd@r0.service 0 0", "mount /mnt/requires"},
	{"lvm", "", "vgchange -q -ay vg >/dev/null && udevadm settle && mount /dev/vg/lv /mnt/lvm"},
}

// writer appends numbered lines to a file, one by one, each of them durable before the next, and leaves the last number in /run.
const writer = `#!/bin/sh
cd "$1" || exit 1 # it is in the file system's way as long as it lives
n=$(wc -l <log 2>/dev/null || echo 0)
while :; do
	n=$((n + 1))
	echo $n >>log && sync log || exit 1
	echo $n >"/run/wrote-${1##*/}.new" && mv "/run/wrote-${1##*/}.new" "/run/wrote-${1##*/}"
	sleep 0.2
done
`

// What a shutdown may take that has file systems on urbd mounted, in emulation: no unit of it runs into a limit of systemd's,
// the shortest of which are 90 s. In the long form it is compared with one without urbd.
const (
	shutdownLimit   = 40 * time.Second
	shutdownMore    = 30 * time.Second
	shutdownLongest = 3 * time.Minute
)

// TestSystemd has systemd run both nodes: urbd is installed, survives a reboot, and its daemon can be killed, stopped and
// shut down below mounted file systems. The kills can be chosen, for figures: -run 'TestSystemd/linux-7/(install|mount|kill-with-peer)'.
func TestSystemd(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		files, err := installFiles()
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t, Options{Kernel: k, Init: vm.Systemd, Volumes: len(mounted), Files: files})
		for _, stage := range []struct {
			name string
			soak bool // not in scripts/test
			play func(*bench)
		}{
			{"reboot-without-urbd", true, (*bench).rebootWithout},
			{"install", false, (*bench).install},
			{"mount", false, (*bench).fileSystemsOnAll},
			{"kill-with-peer", false, (*bench).killedWithPeer},
			{"kill-twice", false, (*bench).killedTwice},
			{"kill-as-wire-breaks", true, (*bench).killedAsWireBreaks},
			{"kill-without-peer", false, (*bench).killedWithoutPeer},
			{"stop", false, (*bench).stoppedBelowMounts},
			{"reboot", false, (*bench).bothReboot},
			{"poweroff", false, (*bench).powerOff},
			{"poweroff-stopped", true, (*bench).powerOffStopped},
		} {
			if stage.soak && !long() {
				continue
			}
			well := t.Run(stage.name, func(t *testing.T) {
				b.t = t
				stage.play(b)
			})
			if b.t = t; !well {
				return
			}
		}
	})
}

// installFiles are what scripts/install needs, as files for a guest.
func installFiles() (map[string]string, error) {
	root, err := vm.ModuleRoot()
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range []string{"scripts/install", "scripts/systemd", "scripts/udev", "scripts/config", "cmd/urbd/completion.bash"} {
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, _ := filepath.Rel(root, path)
				files["/srv/urbd/"+rel] = path
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// rebootWithout measures shutdowns without urbd, for those with it.
func (b *bench) rebootWithout() {
	for _, took := range []*time.Duration{&b.plain, &b.stubborn} {
		if took == &b.stubborn {
			b.writesOn(b.Alpha, "/root")
		}
		began := time.Now()
		b.ok(b.shutsDown(b.Alpha, "reboot", shutdownLongest))
		*took = time.Since(began)
		b.ok(b.Alpha.BootAgain(b.ctx))
	}
}

// writesOn starts a process that writes in a directory and ignores SIGTERM: a shutdown waits for its end, up to a limit of
// systemd's, before it unmounts what is still mounted.
func (b *bench) writesOn(n *vm.Node, dir string) {
	b.t.Helper()
	b.sh(n, "cd %s; nohup env --ignore-signal=TERM sh -c 'while :; do date >stubborn; sleep 0.2; done' >/dev/null 2>&1 &", dir)
	b.sh(n, "n=0; until [ -s %s/stubborn ]; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.1; done", dir)
}

// shutdownBound is what a shutdown with urbd may take that takes so long without it.
func shutdownBound(plain time.Duration) time.Duration {
	if plain > 0 {
		return plain + shutdownMore
	}
	return shutdownLimit
}

// install installs urbd on both nodes as an administrator does, and makes the pair.
func (b *bench) install() {
	b.t.Log("install")
	for _, n := range b.Nodes() {
		b.sh(n, "/srv/urbd/scripts/install --binary /usr/local/bin/urbd && rm /usr/local/bin/urbd && mkdir -p /mnt/hand /mnt/netdev /mnt/requires /mnt/lvm")
		b.ok(n.PutFile(b.ctx, "/etc/urbd.d/r0.res", 0o600, []byte(b.config(n, "/dev/ublkb"))))
		b.ok(n.PutFile(b.ctx, "/usr/local/bin/writer", 0o755, []byte(writer)))
		// What lies on the devices is LVM's business there only, and not on the disks below.
		b.ok(n.PutFile(b.ctx, "/etc/lvm/lvmlocal.conf", 0o644, []byte("devices { global_filter = [ \"r|^/dev/vd|\" ] }\n")))
		var fstab strings.Builder
		for _, m := range mounted {
			fmt.Fprintln(&fstab, m.fstab)
		}
		b.ok(n.PutFile(b.ctx, "/etc/fstab", 0o644, []byte(fstab.String())))
		b.urbd(n, "create-md", "--force", Resource)
		if n == b.Beta && long() { // an administrator may add what the unit has not for a reason
			b.sh(n, `mkdir -p /etc/systemd/system/urbd@.service.d; printf '[Service]\nPrivateTmp=yes\n' >/etc/systemd/system/urbd@.service.d/private.conf`)
		}
		b.sh(n, "systemctl daemon-reload; systemctl enable --now urbd@r0")
	}
	b.state(b.Alpha, "cstate", "Connected")
	b.urbd(b.Alpha, "new-current-uuid", "--clear-bitmap", Resource)
	b.urbd(b.Alpha, "primary", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Beta))
	// The daemons live in the mount namespace of process 1: one of their own would keep their device mounted. The unit gives them none, which
	// they would have to leave.
	for _, n := range b.Nodes() {
		b.sh(n, `pid=$(systemctl show -p MainPID --value urbd@r0); [ "$(readlink /proc/$pid/ns/mnt)" = "$(readlink /proc/1/ns/mnt)" ]`)
	}
	b.sh(b.Alpha, `! journalctl -q -b -o cat -u urbd@r0 | grep 'another mount namespace' || exit 1; [ "$(stat -c %%a /dev/urbd /dev/urbd/by-res /dev/urbd/by-res/r0 | sort -u)" = 755 ]`)
}

func (b *bench) fileSystemsOnAll() {
	b.sh(b.Alpha, `for v in 0 1 2; do mkfs.ext4 -q -F /dev/ublkb$v; done
pvcreate -q -y /dev/ublkb3 >/dev/null; vgcreate -q vg /dev/ublkb3 >/dev/null; lvcreate -q -y -l 100%%FREE -n lv vg >/dev/null; mkfs.ext4 -q -F /dev/vg/lv`)
	b.mountAll(b.Alpha)
}

// mountAll mounts the file system of each way and starts a writer on it, as a service that ends before the unmounting. In the
// long form the one that is mounted by hand has a writer that no unit's end reaches: it is unmounted after systemd's last
// round of killing.
func (b *bench) mountAll(n *vm.Node) {
	b.t.Helper()
	for i, m := range mounted {
		b.sh(n, "%s", m.mount)
		if i == 0 && long() {
			_, err := n.Start(b.ctx, vm.Cmd{Argv: []string{"writer", "/mnt/" + m.name}})
			b.ok(err)
			continue
		}
		b.sh(n, "systemd-run -q --unit=writer-%[1]s -p RequiresMountsFor=/mnt/%[1]s /usr/local/bin/writer /mnt/%[1]s", m.name)
	}
	b.writersGetOn(n, time.Minute)
}

// written are the numbers of the last lines that the writers know to be durable.
func (b *bench) written(n *vm.Node) []int {
	b.t.Helper()
	out := make([]int, len(mounted))
	var files []string
	for _, m := range mounted {
		files = append(files, "/run/wrote-"+m.name)
	}
	for i, line := range strings.Fields(b.sh(n, "for f in %s; do cat $f 2>/dev/null || echo 0; done", strings.Join(files, " "))) {
		var err error
		out[i], err = strconv.Atoi(line)
		b.ok(err)
	}
	return out
}

// writersGetOn waits until every writer has written twice more, and returns how long it took.
func (b *bench) writersGetOn(n *vm.Node, within time.Duration) time.Duration {
	b.t.Helper()
	began, before := time.Now(), b.written(n)
	for {
		late, now := false, b.written(n)
		for i := range now {
			late = late || now[i] < before[i]+2
		}
		if !late {
			return time.Since(began)
		}
		if time.Since(began) > within {
			b.ok(fmt.Errorf("%s: writers stand still: %v, and %v before\n%s", n.Name(), now, before, b.sh(n, "findmnt | cat; systemctl list-units --all 'writer*' 'mnt*' | cat")))
		}
	}
}

// mountsStand checks that nobody has unmounted anything.
func (b *bench) mountsStand(n *vm.Node) {
	b.t.Helper()
	var all strings.Builder
	for _, m := range mounted {
		fmt.Fprintf(&all, "mountpoint -q /mnt/%[1]s; systemctl is-active -q mnt-%[1]s.mount\n", m.name)
	}
	b.sh(n, "%s", all.String())
}

// stoppedBelowMounts stops the unit under the writers: they wait for its next start, which nobody but the administrator
// makes. The mount that requires the unit goes with it, as he asked for.
func (b *bench) stoppedBelowMounts() {
	for range times(1) {
		b.sh(b.Alpha, `systemctl stop urbd@r0; [ "$(systemctl show -p Result --value urbd@r0)" = success ]; ! systemctl is-active -q urbd@r0 || exit 1
! mountpoint -q /mnt/requires || exit 1; for m in hand netdev lvm; do mountpoint -q /mnt/$m; done`)
		b.sh(b.Alpha, "systemctl start urbd@r0; mount /mnt/requires; systemd-run -q --unit=writer-requires -p RequiresMountsFor=/mnt/requires /usr/local/bin/writer /mnt/requires")
		b.t.Logf("started: the writers got on after %v", b.writersGetOn(b.Alpha, time.Minute).Round(100*time.Millisecond))
		b.mountsStand(b.Alpha)
		b.sh(b.Alpha, "! dmesg | grep -A40 -E 'Oops|BUG: |WARNING: '")
	}
}

// bothReboot reboots both nodes at once, with everything mounted.
func (b *bench) bothReboot() {
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	durable := b.written(b.Alpha)
	var both sync.WaitGroup
	errs := make([]error, 2)
	for i, n := range b.Nodes() {
		both.Go(func() {
			errs[i] = b.shutsDown(n, "reboot", shutdownBound(b.plain))
			if errs[i] == nil {
				errs[i] = n.BootAgain(b.ctx)
			}
		})
	}
	both.Wait()
	for _, err := range errs {
		b.ok(err)
	}
	for _, n := range b.Nodes() {
		b.sh(n, "n=0; until systemctl is-active -q urbd@r0; do n=$((n + 1)); [ $n -lt 300 ]; sleep 0.2; done")
		b.sh(n, "! journalctl -b -1 -o cat | grep -iE 'timed out|A stop job'")
	}
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.urbd(b.Alpha, "primary", Resource)
	b.checkAll(b.Alpha, durable)
}

// shutsDown ends a node by systemctl, in its time.
func (b *bench) shutsDown(n *vm.Node, how string, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(b.ctx, shutdownLongest)
	defer cancel()
	began := time.Now()
	err := n.Ends(ctx, "systemctl "+how)
	took := time.Since(began).Round(100 * time.Millisecond)
	b.t.Logf("%s: %s took %v", n.Name(), how, took)
	if err == nil && took > bound {
		err = fmt.Errorf("%s: %s took %v, at most %v are right\n%s", n.Name(), how, took, bound, n.Console())
	}
	return err
}

// checkAll looks at every file system: it is clean, its file has each line, up to the last that was durable at least, and
// no line lies below the mount points.
func (b *bench) checkAll(n *vm.Node, durable []int) {
	b.t.Helper()
	for i, m := range mounted {
		device := fmt.Sprintf("/dev/ublkb%d", i)
		if m.name == "lvm" {
			b.sh(n, "vgchange -q -ay vg >/dev/null && udevadm settle")
			device = "/dev/vg/lv"
		}
		b.sh(n, `ls -A /mnt/%[2]s; [ -z "$(ls -A /mnt/%[2]s)" ]; e2fsck -p %[1]s || [ $? = 1 ]; e2fsck -f -n %[1]s >/dev/null; mount %[1]s /mnt/%[2]s
awk '$1 != NR { print "line " NR " is " $0; bad = 1 } END { print NR " lines"; exit bad || NR < %[3]d }' /mnt/%[2]s/log; umount /mnt/%[2]s`, device, m.name, durable[i])
	}
}

// powerOff powers the Primary off with everything mounted; the peer takes over what was durable.
func (b *bench) powerOff() {
	b.mountAll(b.Alpha)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	durable, plain := b.written(b.Alpha), b.plain
	if long() {
		b.writesOn(b.Alpha, "/mnt/hand")
		plain = b.stubborn
	}
	b.ok(b.shutsDown(b.Alpha, "poweroff", shutdownBound(plain)))
	b.urbd(b.Beta, "primary", Resource)
	b.checkAll(b.Beta, durable)
}

// powerOffStopped powers off a Primary without its peer, whose daemon was stopped below the mounts: their requests wait,
// and the shutdown gets them a daemon.
func (b *bench) powerOffStopped() {
	b.mountAll(b.Beta)
	durable := b.written(b.Beta)
	b.sh(b.Beta, "systemctl stop urbd@r0")
	b.ok(b.shutsDown(b.Beta, "poweroff", shutdownBound(b.plain)))
	b.ok(b.Beta.BootAgain(b.ctx))
	b.state(b.Beta, "cstate", "WFConnection")
	b.urbd(b.Beta, "primary", Resource)
	b.checkAll(b.Beta, durable)
}
