//go:build rig

package lab

import (
	"testing"

	"github.com/urbd/urbd/scripts/vm"
)

// TestDaemon ends the daemon of a Primary under a verifying writer, by force and in order: the writer sees a pause
// and no error, and the disks are equal in the end.
func TestDaemon(t *testing.T) {
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		b := newBench(t, Options{Kernel: k})
		b.ok(b.Up(b.ctx))
		b.ok(b.Sync(b.ctx, b.Alpha))
		b.sh(b.Alpha, "mkfs.ext4 -q -F /dev/ublkb0; mkdir -p /mnt; mount /dev/ublkb0 /mnt; echo kept > /mnt/file; sync")
		for _, signal := range []string{"KILL", "TERM"} {
			b.t.Logf("SIG%s", signal)
			writer, err := b.Alpha.Start(b.ctx, vm.Cmd{
				Argv:   []string{"dd", "if=/dev/urandom", "of=/mnt/" + signal, "bs=64k", "count=200", "conv=fsync"},
				Stdout: logWriter{b.t}, Stderr: logWriter{b.t},
			})
			b.ok(err)
			b.writes(b.Alpha, 1<<20)
			b.daemonDies(signal)
			b.urbd(b.Alpha, "up", Resource)
			b.finished(writer)
			b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
		}
		b.sh(b.Alpha, "grep -q kept /mnt/file; umount /mnt; fsck.ext4 -f -n /dev/ublkb0")
		b.urbd(b.Alpha, "secondary", Resource)
		if k == vm.Linux7 || long() {
			b.failedOverUnderUsers()
		}
		b.leftBehind()
		if long() {
			b.logsAreBounded()
		}
		b.killedWithItsUsers("unshare -m")
		b.killedWithItsUsers("unshare -m -p -f --mount-proc")
		b.equalDisks()
	})
}

// daemonDies ends the daemon of the Primary while its device is mounted.
func (b *bench) daemonDies(signal string) {
	b.sh(b.Alpha, `pid=$(cat /run/urbd/r0.lock); kill -%s $pid; while [ -e /proc/$pid ]; do sleep 0.1; done; [ -b /dev/ublkb0 ]`, signal)
	b.refused(b.Alpha, []string{"urbd up r0"}, "role", Resource)
	b.refused(b.Alpha, []string{"/dev/ublkb0", "unmount"}, "down", Resource)
	for _, verb := range []string{"create-md", "wipe-md"} {
		b.refused(b.Alpha, []string{"/dev/ublkb0", "urbd up r0"}, verb, "--force", Resource)
	}
}

// leftBehind kills a Secondary, whose device nobody has started: down cleans up, and the minor is free again.
func (b *bench) leftBehind() {
	b.sh(b.Alpha, `pid=$(cat /run/urbd/r0.lock); kill -KILL $pid; while [ -e /proc/$pid ]; do sleep 0.1; done`)
	b.urbd(b.Alpha, "down", Resource)
	b.sh(b.Alpha, "[ ! -e /dev/ublkc0 ]")
	b.urbd(b.Alpha, "up", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// logsAreBounded has a daemon that systemd did not start find full files of its predecessors: the log is rotated, and few old ones are kept;
// of what the Go runtime says in a crash the older part goes.
func (b *bench) logsAreBounded() {
	b.sh(b.Alpha, `cd /var/log/urbd
for i in 1 2 3 4 5; do urbd down r0; truncate -s 8M r0.log; urbd up r0; done
n=0; until [ $(ls r0-*.log | wc -l) = 3 ]; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.1; done
[ $(stat -c %%s r0.log) -lt 1000000 ]; grep -q 'block device reserved' r0.log
pid=$(cat /run/urbd/r0.lock); kill -ABRT $pid; while [ -e /proc/$pid ]; do sleep 0.1; done; grep -q '^goroutine ' r0.stderr
truncate -s 2M r0.stderr; urbd up r0; [ $(stat -c %%s r0.stderr) -lt 1000000 ]`)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
}

// killedWithItsUsers starts the daemon where its device is mounted, in a namespace or container, and kills it with the others
// there. It ends, although the end of that namespace unmounts a file system which it served, and the next one lets that happen.
func (b *bench) killedWithItsUsers(namespace string) {
	b.t.Log(namespace)
	b.urbd(b.Alpha, "down", Resource)
	b.sh(b.Alpha, `cat > /tmp/users.sh <<'X'
mount --make-rprivate /
urbd up r0 && urbd wait-connect --timeout 60 r0 && urbd primary r0 && mkfs.ext4 -q -F /dev/ublkb0 && mount /dev/ublkb0 /mnt &&
	dd if=/dev/zero of=/mnt/big bs=1M count=4 2>/dev/null && touch /tmp/mounted
kill -9 $(cat /run/urbd/r0.lock)
X
rm -f /tmp/mounted; mkdir -p /mnt; setsid %s bash /tmp/users.sh >/tmp/users.log 2>&1 & users=$!
for i in $(seq 600); do [ -e /tmp/mounted ] && flock -n /run/urbd/r0.lock true && break; sleep 0.1; done
[ -e /tmp/mounted ] || { cat /tmp/users.log; exit 1; }
[ -b /dev/ublkb0 ]
timeout 60 urbd up r0
wait $users || true
! grep -q /dev/ublkb0 /proc/mounts`, namespace)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
	b.sh(b.Alpha, "fsck.ext4 -f -n /dev/ublkb0; mount /dev/ublkb0 /mnt; [ $(stat -c %%s /mnt/big) = 4194304 ]; umount /mnt")
	b.urbd(b.Alpha, "secondary", Resource)
}

// TestWhatIsMissing starts a resource on a machine that lacks something, and then on disks that fail: each gets a sentence with
// the next step.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Kernel: vm.Linux6_12, CPUs: 2})
	for _, n := range b.Nodes() {
		b.ok(b.Prepare(b.ctx, n))
		b.urbd(n, "create-md", "--force", Resource)
	}
	b.sh(b.Alpha, "rmmod ublk_drv")
	b.refused(b.Alpha, []string{"modprobe ublk_drv"}, "up", Resource)
	b.sh(b.Alpha, "modprobe ublk_drv")

	b.sh(b.Alpha, "sysctl -q -w kernel.io_uring_disabled=2")
	b.refused(b.Alpha, []string{"kernel.io_uring_disabled is 2", "sysctl -w"}, "up", Resource)
	b.sh(b.Alpha, "sysctl -q -w kernel.io_uring_disabled=1") // root may
	within := func(words, limit string) {
		b.sh(b.Alpha, `said=$(%s 2>&1) && exit 1; echo "$said"; echo "$said" | grep -q '%s'`, limit, words)
	}
	within("may have 60 files open here", "prlimit --nofile=60:60 setpriv --bounding-set -sys_resource urbd up r0")
	within("/small may use 40 MiB of memory (memory.max)",
		"mkdir -p /sys/fs/cgroup/small; echo +memory > /sys/fs/cgroup/cgroup.subtree_control; echo 40M > /sys/fs/cgroup/small/memory.max; (echo 0 > /sys/fs/cgroup/small/cgroup.procs; urbd up r0)")

	b.sh(b.Alpha, "nc -l -p 7789 >/dev/null 2>&1 </dev/null & echo $! > /tmp/nc; until grep -q ':1E6D ' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done")
	b.refused(b.Alpha, []string{"7789", "in use"}, "up", Resource)
	b.sh(b.Alpha, "kill $(cat /tmp/nc)")

	b.sh(b.Alpha, "sed 's/10.77.0.1:/10.77.0.9:/' /etc/urbd.d/r0.res > /tmp/moved.res")
	b.refused(b.Alpha, []string{"10.77.0.9", "10.77.0.1"}, "-c", "/tmp/moved.res", "up", Resource)
	b.sh(b.Alpha, "sed 's,/dev/vda,/dev/vdz,' /etc/urbd.d/r0.res > /tmp/gone.res")
	b.refused(b.Alpha, []string{"/dev/vdz", "does not exist"}, "-c", "/tmp/gone.res", "up", Resource)
	b.sh(b.Alpha, "mkfs.ext4 -q -F /dev/vda 32M; mkdir -p /mnt; mount -t ext4 /dev/vda /mnt")
	b.refused(b.Alpha, []string{"/dev/vda", "/mnt"}, "up", Resource)
	b.sh(b.Alpha, "umount /mnt")

	b.urbd(b.Alpha, "up", Resource)
	b.sh(b.Alpha, `sed 's/resource r0/resource r1/; s/:7789/:7790/; s,/dev/vda,/tmp/r1.img,' /etc/urbd.d/r0.res > /tmp/r1.res; truncate -s 8M /tmp/r1.img`)
	b.urbd(b.Alpha, "-c", "/tmp/r1.res", "create-md", "r1")
	b.refused(b.Alpha, []string{"minor 0 is taken", "another minor"}, "-c", "/tmp/r1.res", "up", "r1")
	b.urbd(b.Beta, "up", Resource)
	b.state(b.Alpha, "cstate", "Connected")
	b.failingDisks()
}
