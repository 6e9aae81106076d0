//go:build rig

package lab

import (
	"fmt"
	"regexp"
)

// failingDisks has disks fail of which there is no other copy, each with an error of its own from a real file system: the log says
// once which disk, where, what it means in words, and what to do.
func (b *bench) failingDisks() {
	const res, dev = "fails", "/dev/ublkb7"
	n := b.Alpha
	b.sh(n, `modprobe loop; truncate -s 24M /tmp/fs; mkfs.ext4 -q -F -m 0 /tmp/fs; mkdir -p /img; mount -o loop /tmp/fs /img
cat > /etc/urbd.d/%[1]s.res <<X
resource %[1]s {
	net { cram-hmac-alg sha256; shared-secret "%[1]s it is"; }
	on alpha { device minor 7; disk /img/disk; meta-disk internal; address 10.77.0.1:7791; }
	on beta { device minor 7; disk /img/disk; meta-disk internal; address 10.77.0.2:7791; }
}
X
chmod 600 /etc/urbd.d/%[1]s.res`, res)
	write := fmt.Sprintf("dd if=/dev/urandom of=%s bs=64k seek=100 count=1 oflag=direct conv=notrunc", dev)
	for _, c := range []struct{ spoil, io, says string }{
		{"truncate -s 2M /img/disk", fmt.Sprintf("dd if=%s of=/dev/null bs=64k skip=100 count=1 iflag=direct", dev),
			`read \(data\) of 65536 bytes at 6553600: no data available; it ends there, and was longer when it was attached: .*give it back its size, .*`},
		{"dd if=/dev/zero of=/img/filler bs=1k 2>/dev/null || sync -f /img", write,
			`write \(data\) of 65536 bytes at 6553600: no space left on device; free space .*`},
		{"echo u > /proc/sysrq-trigger; until grep -q ' /img ext4 ro' /proc/mounts; do sleep 0.1; done", write,
			`write \((data|metadata)\) of \d+ bytes at \d+: read-only file system; its file system was made read-only, .*mount it writable`},
	} {
		b.sh(n, "rm -f /img/disk /img/filler /var/log/urbd/%s.log; truncate -s 12M /img/disk", res)
		b.urbd(n, "create-md", "--force", res)
		b.urbd(n, "up", res)
		b.urbd(n, "primary", "--force", res)
		b.sh(n, "%s", c.spoil)
		b.sh(n, "! %s 2>/dev/null", c.io)
		b.sh(n, "for i in $(seq 100); do [ $(urbd dstate %s) = Diskless/DUnknown ] && exit 0; sleep 0.1; done; exit 1", res)
		lines := b.sh(n, "grep 'level=ERROR.*/img/disk: ' /var/log/urbd/%s.log || cat /var/log/urbd/%[1]s.log", res)
		if !regexp.MustCompile(`^[^\n]*"/img/disk: ` + c.says + `, then attach again"[^\n]*$`).MatchString(lines) {
			b.ok(fmt.Errorf("the log does not say %s, once, but\n%s", c.says, lines))
		}
		b.urbd(n, "secondary", res)
		b.urbd(n, "down", res)
	}
	b.sh(n, "umount /img; rm /tmp/fs /etc/urbd.d/%s.res", res)
}
