//go:build rig

package lab

// failedOverUnderUsers kills the daemon of a Primary under a mounted file system and a writer whose requests the kernel issues again, and the
// peer is promoted and written alone before the next daemon comes. The users get errors, never what the peer wrote, and nothing of theirs gets
// there; status and log say how to end it, and after that the node is as any other.
func (b *bench) failedOverUnderUsers() {
	b.t.Log("failed over under a mounted file system")
	b.urbd(b.Alpha, "primary", Resource)
	b.sh(b.Alpha, `mkfs.ext4 -q -F /dev/ublkb0; mkdir -p /mnt; mount /dev/ublkb0 /mnt; echo old > /mnt/file; sync
rm -f /tmp/late* /tmp/cached*
cat > /tmp/late.sh <<'X'
dd if=/dev/urandom of=/mnt/late bs=64k count=100000 oflag=direct
echo $? > /tmp/late.rc
X
setsid bash /tmp/late.sh </dev/null >/tmp/late.log 2>&1 &`)
	b.writes(b.Alpha, 1<<20)
	b.sh(b.Alpha, `pid=$(cat /run/urbd/r0.lock); kill -KILL $pid; while [ -e /proc/$pid ]; do sleep 0.1; done; [ ! -e /tmp/late.rc ]`)
	b.sh(b.Alpha, `setsid sh -c 'head -c 300000 /dev/urandom > /mnt/cached; sync /mnt/cached; echo $? > /tmp/cached.rc' </dev/null >/dev/null 2>&1 &`)
	b.state(b.Beta, "cstate", "WFConnection")
	b.urbd(b.Beta, "primary", Resource)
	b.sh(b.Beta, `mkdir -p /mnt; mount /dev/ublkb0 /mnt; grep -q old /mnt/file; rm /mnt/file
head -c 3000000 /dev/urandom > /mnt/new; sha256sum < /mnt/new > /tmp/sum; umount /mnt; sha256sum < /dev/ublkb0 > /tmp/whole`)
	b.urbd(b.Beta, "secondary", Resource)

	b.urbd(b.Alpha, "up", Resource)
	b.sh(b.Alpha, `for i in $(seq 300); do [ -e /tmp/late.rc ] && break; sleep 0.1; done
grep -q 'Input/output error' /tmp/late.log
for i in $(seq 300); do [ -e /tmp/cached.rc ] && break; sleep 0.1; done; [ $(cat /tmp/cached.rc) != 0 ]
if dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 skip=9 iflag=direct 2>/tmp/read; then exit 1; fi; grep -q 'Input/output error' /tmp/read
if dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 seek=9 oflag=direct 2>/tmp/write; then exit 1; fi; grep -q 'Input/output error' /tmp/write
[ ! -e /mnt/new ]
urbd status r0 > /tmp/status; cat /tmp/status; grep -q users:refused /tmp/status; grep -q 'Unmount /dev/ublkb0' /tmp/status
grep 'get errors' /var/log/urbd/r0.log | grep -q 'unmount it, or end what uses it'`)
	b.refused(b.Alpha, []string{"/dev/ublkb0", "/mnt"}, "primary", Resource)
	b.ok(b.WaitUpToDate(b.ctx, b.Alpha))

	b.sh(b.Alpha, `umount /mnt; for i in $(seq 300); do [ -e /dev/ublkb0 ] || break; sleep 0.1; done; [ ! -e /dev/ublkb0 ]
urbd status r0 > /tmp/status; cat /tmp/status; if grep users: /tmp/status; then exit 1; fi
grep 'have ended' /var/log/urbd/r0.log`)
	b.urbd(b.Alpha, "primary", Resource)
	whole := b.sh(b.Alpha, `sha256sum < /dev/ublkb0; fsck.ext4 -f -n /dev/ublkb0 >/dev/null 2>&1
mount /dev/ublkb0 /mnt; [ ! -e /mnt/file ]; [ ! -e /mnt/cached ]; sha256sum < /mnt/new; umount /mnt`)
	if wrote := b.sh(b.Beta, "cat /tmp/whole /tmp/sum"); whole != wrote {
		b.t.Fatalf("the peer wrote (device, file)\n%s, and the node that comes after it has\n%s", wrote, whole)
	}
	b.urbd(b.Alpha, "secondary", Resource)
}
