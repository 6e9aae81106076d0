package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// namespaced runs a script, with the program in $URBD, as process 1 of a container. It returns the mount namespace of
// that, and what was written.
func (b *bench) namespaced(script string) (first, log string) {
	b.t.Helper()
	if os.Getuid() != 0 {
		b.t.Skip("namespaces need root")
	}
	urbd := b.program() + " --run-dir " + b.run + " -c " + b.conf + " --host alpha"
	cmd := exec.Command("/bin/sh", "-ec", "mount --make-rprivate /; mount -t proc proc /proc; readlink /proc/1/ns/mnt;"+script)
	cmd.Env = append(os.Environ(), "URBD="+urbd)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		b.t.Fatal(err)
	}
	first, log, _ = strings.Cut(string(out), "\n")
	return first, log
}

const hasMoved = `level=INFO msg="the daemon has moved to another mount namespace" resource=r0 namespace=mnt:[`

// A daemon that is started in a mount namespace moves to that of process 1, where its paths mean the same. In a container
// that is no better than any, and it gets one without the others' file systems.
func TestTheDaemonLeavesAMountNamespace(t *testing.T) {
	b := newBench(t)
	for what, script := range map[string]string{
		"a namespace of its own":         "unshare -m --propagation private sh -c '$URBD run r0 || true'",
		"the namespace of process 1":     "$URBD run r0 || true",
		"a namespace without the binary": "unshare -m --propagation private sh -c 'mkdir -p /dev/shm/new; mount -t tmpfs none /dev/shm; cp -L ${URBD%% *} /dev/shm/urbd; URBD=\"/dev/shm/urbd ${URBD#* }\"; $URBD run r0 || true'",
	} {
		first, log := b.namespaced(script)
		if !strings.Contains(log, hasMoved) || strings.Contains(log, first) {
			t.Errorf("from %s it has not left %s: %s", what, first, log)
		}
	}
}

// Where a path means something else, it says so and does not serve.
func TestTheDaemonRefusesAMountNamespaceWithOtherPaths(t *testing.T) {
	b := newBench(t)
	_, log := b.namespaced("unshare -m --propagation private sh -c 'mount -t tmpfs none " + b.run + "; $URBD run r0 || true'")
	if want := b.run + " is not the same there; start it there: nsenter -t 1 -m urbd up r0"; !strings.Contains(log, want) {
		t.Errorf("%q is not in: %s", want, log)
	}
	if strings.Contains(log, hasMoved) {
		t.Errorf("it has moved: %s", log)
	}
}

// What a service manager has forbidden it is said: in a container it serves all the same, elsewhere it does not.
func TestTheDaemonMayNotLeave(t *testing.T) {
	b := newBench(t)
	const without = "setpriv --bounding-set -sys_admin "
	_, log := b.namespaced(without + "$URBD run r0 || true")
	if want := `level=WARN msg="in a container, and it gets no mount namespace of its own`; !strings.Contains(log, want) || strings.Contains(log, hasMoved) {
		t.Errorf("%q is not in: %s", want, log)
	}
	_, log = b.namespaced("unshare -m --propagation private " + without + "$URBD run r0 || true")
	if want := "setns: operation not permitted; start it there: nsenter"; !strings.Contains(log, want) || strings.Contains(log, hasMoved) {
		t.Errorf("%q is not in: %s", want, log)
	}
}

// A mount that a path leads through by a symbolic link is as needed as the one where it ends.
func TestMountsBehindLinksAreNeeded(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"etc", "first", "second/disks"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"etc/disk": "../first/disk", "first/disk": filepath.Join(dir, "second/disks"), "etc/loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	needs := []string{filepath.Join(dir, "etc/disk/r0"), filepath.Join(dir, "etc/loop/r0")}
	for sub, needed := range map[string]bool{"etc": true, "first": true, "second": true, "second/disks": true, "firs": false, "second/other": false} {
		if got := leadsTo(filepath.Join(dir, sub), needs); got != needed {
			t.Errorf("a mount at %s is needed: %v, want %v", sub, got, needed)
		}
	}
}

// What a daemon works with has to be there after a move: also what it keeps, writes and includes.
func TestADaemonRefusesToMoveAwayFromWhatItNeeds(t *testing.T) {
	b := newBench(t)
	more, logs := filepath.Join(b.dir, "more"), filepath.Join(b.dir, "logs")
	for _, dir := range []string{more, logs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(b.conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(more, "global.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.conf, append([]byte("include \"more/*.conf\";\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, script := range map[string]string{
		filepath.Join(more, "global.conf"): "mount -t tmpfs none " + more + "; : >" + more + "/global.conf; $URBD run r0 || true",
		logs:                               "mount -t tmpfs none " + logs + "; $URBD run --log-file " + logs + "/r0.log r0 || true; cat " + logs + "/r0.log",
	} {
		_, log := b.namespaced("unshare -m --propagation private sh -c '" + script + "'")
		if want := what + " is not the same there"; !strings.Contains(log, want) {
			t.Errorf("%q is not in: %s", want, log)
		}
	}
}

// The capabilities that the unit leaves the daemon are enough to leave a namespace that a drop-in has given it.
func TestTheUnitsDaemonMayLeave(t *testing.T) {
	b := newBench(t)
	unit, err := os.ReadFile("../../scripts/systemd/urbd@.service")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	names, _, _ := strings.Cut(rest, "\n")
	set := "-all"
	for _, name := range strings.Fields(names) {
		set += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	first, log := b.namespaced("unshare -m --propagation private setpriv --bounding-set " + set + " $URBD run r0 || true")
	if !strings.Contains(log, hasMoved) || strings.Contains(log, first) {
		t.Errorf("with %s it has not left %s: %s", names, first, log)
	}
}

func TestNeedlessMounts(t *testing.T) {
	const mountinfo = `20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
21 20 0:5 / /dev rw - devtmpfs udev rw
22 20 0:21 / /proc rw - proc proc rw
23 20 259:0 / /mnt/with\040blank rw - ext4 /dev/ublkb0 rw
24 20 0:44 /sub /home rw - btrfs /dev/ublkb1 rw
25 20 8:2 / /srv rw - xfs /dev/sda2 rw
26 25 8:3 / /srv/deep rw - xfs /dev/sda3 rw
27 25 8:4 / /srv/other rw - xfs /dev/sda4 rw
28 20 0:50 / /nfs rw - nfs server:/x rw
29 20 8:5 / /srvx rw - xfs /dev/sda5 rw
`
	got := needless(mountinfo, []string{"/srv/deep/disk", "/etc/urbd.d/r0.res"})
	want := []string{"/srvx", "/srv/other", "/home", "/mnt/with blank"}
	if !slices.Equal(got, want) {
		t.Errorf("needless are %q, want %q", got, want)
	}
}
