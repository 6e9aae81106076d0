//go:build rig

package lab

import (
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// TestMemory has four writers fill the page cache of a small Primary through a file system on its device, four times its
// memory, while others use up the Secondary's memory. A disk in user space that needed memory to free memory would
// hang there; a daemon that could be killed for memory would be.
func TestMemory(t *testing.T) {
	if !long() {
		t.Skip("takes minutes: scripts/soak runs it")
	}
	eachKernel(t, func(t *testing.T, k vm.Kernel) {
		files, err := installFiles()
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t, Options{Kernel: k, Init: vm.Systemd, Memory: 420 << 20, Size: 2 << 30, Cache: vm.Unsafe, Files: files})
		b.install()
		for _, n := range b.Nodes() {
			b.sh(n, "sysctl -q vm.dirty_ratio=80 vm.dirty_background_ratio=60 vm.overcommit_memory=1; systemctl show -p MainPID --value urbd@r0 >/run/daemon")
			b.sh(n, "head -c 8M /dev/urandom >/root/seed")
		}
		b.sh(b.Alpha, "mkfs.ext4 -q -F /dev/ublkb0; mount /dev/ublkb0 /mnt/hand")
		// What others do on the Secondary: dirty pages of another disk, and memory that grows until the kernel kills its owner.
		b.sh(b.Beta, `systemd-run -q --unit=pages sh -c 'while :; do for i in 1 2 3 4 5; do for j in 1 2 3 4 5 6 7 8; do cat /root/seed; done >/root/pages$i; done; done'
systemd-run -q --unit=hog -p OOMPolicy=continue sh -c 'while :; do tail /dev/zero; sleep 2; done'`)
		began, before := time.Now(), b.sectors(b.Alpha)
		b.sh(b.Alpha, `for w in 1 2 3 4; do (for i in $(seq 50); do cat /root/seed || exit 1; done >/mnt/hand/w$w) & pids="$pids $!"; done
while sleep 1; do awk '/^Dirty|^Writeback:/ { sum += $2 } END { print sum }' /proc/meminfo; done >/run/dirty & watch=$!
for p in $pids; do wait $p; done; sync /mnt/hand/w1; sync; kill $watch`)
		t.Logf("%d MiB were written in %v; at most %s MiB of them waited in memory", (b.sectors(b.Alpha)-before)>>11, time.Since(began).Round(time.Second),
			b.sh(b.Alpha, "sort -n /run/dirty | awk 'END { print int($1 / 1024) }'"))
		b.sh(b.Beta, "[ $(dmesg | grep -c 'Killed process .*(tail)') -gt 2 ]; systemctl stop pages hog") // there was pressure
		for _, n := range b.Nodes() {
			t.Logf("%s: %s", n.Name(), b.sh(n, `[ "$(systemctl show -p MainPID --value urbd@r0)" = "$(cat /run/daemon)" ]; ! dmesg | grep -E 'Killed process .*\(urbd\)|blocked for more than' >&2 || exit 1
echo $(grep -E 'VmHWM|VmLck' /proc/$(cat /run/daemon)/status), killed for memory: $(dmesg | grep -c 'Killed process') processes`))
		}
		b.ok(b.WaitUpToDate(b.ctx, b.Alpha))
		b.sh(b.Alpha, "for w in 1 2 3 4; do cmp -n 8388608 /root/seed /mnt/hand/w$w; done")
		b.sh(b.Alpha, "umount /mnt/hand; e2fsck -f -n /dev/ublkb0 >/dev/null")
		b.equalDisks()
	})
}
