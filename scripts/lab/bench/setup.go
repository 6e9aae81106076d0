package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

// diskMiB is the size of each of the four ramdisks.
const diskMiB = 256

// Both pairs get the same options; the resync is not throttled on either side.
const options = `
	net { protocol C; timeout 150; ping-timeout 100; max-buffers 8000; max-epoch-size 8000; }
	disk { c-plan-ahead 0; resync-rate 4194304; c-max-rate 4194304; c-min-rate 0; al-extents 1237; }
`

// start boots the guest and sets both pairs up.
func start(ctx context.Context, k vm.Kernel) (*bench, error) {
	dir, err := os.MkdirTemp("", "urbd-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	files, err := vm.BuildBinaries(ctx, filepath.Join(dir, "bin"))
	if err != nil {
		return nil, err
	}
	n, err := vm.Boot(ctx, vm.Config{Name: "bench", Kernel: k, Memory: 3 << 30, Files: files})
	if err != nil {
		return nil, err
	}
	b := &bench{n}
	if err := b.setup(ctx); err != nil {
		err = fmt.Errorf("%w\n%s", err, b.diagnose(ctx))
		n.Close()
		return nil, err
	}
	return b, nil
}

func (b *bench) setup(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for path, text := range map[string]string{
		"/etc/a.conf":      resource("a", "/dev/ublkb", 0, 1, 0, 7100),
		"/etc/b.conf":      resource("b", "/dev/ublkb", 0, 1, 0, 7100),
		"/etc/drbd-a.conf": "global { usage-count no; }\n" + resource("da", "/dev/drbd", 10, 10, 2, 7200),
		"/etc/drbd-b.conf": "global { usage-count no; }\n" + resource("db", "/dev/drbd", 11, 11, 2, 7200),
	} {
		if err := b.node.PutFile(ctx, path, 0o644, []byte(text)); err != nil {
			return err
		}
	}
	_, err := b.node.Sh(ctx, fmt.Sprintf(`set -e
mkdir -p /var/lock /var/lib/drbd /run/urbd-a /run/urbd-b
ip addr add 127.0.0.2/8 dev lo 2>/dev/null || true
modprobe brd rd_nr=4 rd_size=%d
modprobe ublk_drv
modprobe drbd usermode_helper=/bin/true
ua="urbd -c /etc/a.conf --host alpha --run-dir /run/urbd-a --log-dir /var/log/urbd-a"
ub="urbd -c /etc/b.conf --host beta --run-dir /run/urbd-b --log-dir /var/log/urbd-b"
$ua create-md --force a; $ub create-md --force b
$ua up a; $ub up b
$ua wait-connect a
$ua primary --force a
$ua wait-sync a >/dev/null
hostname alpha
yes yes | drbdadm -c /etc/drbd-a.conf create-md --force da
drbdadm -c /etc/drbd-a.conf up da
hostname beta
yes yes | drbdadm -c /etc/drbd-b.conf create-md --force db
drbdadm -c /etc/drbd-b.conf up db
hostname alpha
while [ "$(drbdadm -c /etc/drbd-a.conf cstate da)" != Connected ]; do sleep 0.1; done
drbdadm -c /etc/drbd-a.conf primary --force da
while [ "$(drbdadm -c /etc/drbd-a.conf dstate da)" != UpToDate/UpToDate ]; do sleep 0.1; done
`, diskMiB*1024))
	return err
}

// resource is one end of a pair in a guest of its own: alpha is the one end, beta the other.
func resource(name, device string, minorA, minorB, ram, port int) string {
	return fmt.Sprintf(`resource %[1]s {%[7]s
	on alpha { device %[2]s%[3]d minor %[3]d; disk /dev/ram%[5]d; meta-disk internal; address 127.0.0.1:%[6]d; }
	on beta { device %[2]s%[4]d minor %[4]d; disk /dev/ram%[8]d; meta-disk internal; address 127.0.0.2:%[6]d; }
}
`, name, device, minorA, minorB, ram, port, options, ram+1)
}
