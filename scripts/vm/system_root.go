package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// systemPackages are a Debian that can be administered like any other, with what stands on block devices.
var systemPackages = []string{
	"base-files", "bash", "coreutils", "dash", "diffutils", "dmsetup", "e2fsprogs", "findutils", "grep", "hostname", "iproute2", "kmod", "libc-bin",
	"lvm2", "mawk", "mount", "ncurses-base", "netbase", "procps", "psmisc", "sed", "systemd", "systemd-sysv", "udev", "util-linux",
}

// systemModules are beside guestModules.
var systemModules = []string{"autofs4", "dm-snapshot", "x_tables"}

// systemLeftOut is nothing that runs.
var systemLeftOut = []string{
	"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/perl", "usr/share/perl5", "usr/share/i18n", "usr/share/lintian",
	"usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl-base", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/udev/hwdb.d", "usr/lib/udev/hwdb.bin",
}

// systemMasked are units that a machine without people, network and calendar does without.
var systemMasked = []string{
	"systemd-logind.service", "getty.target", "getty@tty1.service", "serial-getty@ttyS0.service", "systemd-hwdb-update.service",
	"systemd-journal-catalog-update.service", "systemd-update-done.service", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
	"systemd-firstboot.service", "systemd-random-seed.service", "systemd-binfmt.service", "ldconfig.service", "systemd-pcrphase.service",
	"systemd-pcrphase-sysinit.service", "systemd-pcrmachine.service", "systemd-ask-password-console.path", "systemd-ask-password-wall.path",
	"systemd-networkd.service", "systemd-timesyncd.service", "systemd-tmpfiles-clean.timer", "fstrim.timer", "e2scrub_all.timer", "e2scrub_reap.service",
	"lvm2-lvmpolld.socket", "dm-event.socket", "lvm2-monitor.service", "dev-hugepages.mount", "dev-mqueue.mount",
	"systemd-user-sessions.service", "systemd-udev-load-credentials.service", "systemd-sysusers.service", "systemd-creds.socket", "systemd-hostnamed.socket",
	"systemd-sysext.socket", "proc-sys-fs-binfmt_misc.automount", "systemd-initctl.socket", "systemd-pcrextend.socket", "systemd-pcrlock.socket",
	"systemd-journald-audit.socket",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
}

// systemFiles are what Debian's installation scripts and an administrator would write.
var systemFiles = map[string]string{
	"etc/passwd": `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
systemd-network:x:998:998:systemd Network Management:/:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`,
	"etc/group": `root:x:0:
daemon:x:1:
adm:x:4:
tty:x:5:
disk:x:6:
dialout:x:20:
cdrom:x:24:
tape:x:26:
audio:x:29:
utmp:x:43:
video:x:44:
kmem:x:15:
lp:x:7:
input:x:101:
sgx:x:102:
kvm:x:103:
render:x:104:
systemd-journal:x:105:
systemd-network:x:998:
nogroup:x:65534:
`,
	"etc/shadow":     "root:*:19000:0:99999:7:::\n",
	"etc/machine-id": "75726264757262647572626475726264\n",
	"etc/hosts":      "127.0.0.1 localhost\n10.77.0.1 alpha\n10.77.0.2 beta\n",
	"etc/fstab":      "",
	"etc/hostname":   "guest\n",
	// The journal outlives a reboot, and says on the console what is worse than a warning.
	"etc/systemd/journald.conf.d/rig.conf": "[Journal]\nStorage=persistent\nForwardToConsole=no\nRateLimitIntervalSec=0\n",
	"etc/systemd/system/rig-agent.service": `[Unit]
Description=The rig's way into this guest, until its very end
DefaultDependencies=no
After=systemd-remount-fs.service systemd-udevd.service systemd-tmpfiles-setup.service
IgnoreOnIsolate=yes

[Service]
Environment=HOME=/root
ExecStart=/usr/sbin/rig-agent
Restart=always
OOMScoreAdjust=-1000
`,
	"etc/systemd/system/rig-network.service": `[Unit]
Description=The rig's network, which goes at shutdown as with ifupdown
Wants=network.target
Before=network.target network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/rig/network up
ExecStop=/usr/lib/rig/network down
`,
	"usr/lib/rig/network": `#!/bin/sh
ip link set lo up
IFS=,
for pair in $(cat /etc/rig-net); do
	[ "$1" = down ] || ip address add "${pair#*:}" dev "${pair%%:*}"
	ip link set "${pair%%:*}" "$1"
done
`,
	// The processors but the first leave before the devices do: see commandLine.
	"usr/lib/systemd/system-shutdown/rig-processors": `#!/bin/sh
for cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do echo 0 >$cpu; done
`,
}

// systemLinks are symbolic links: the layout, and the units that Debian's installation scripts or the rig enable.
var systemLinks = map[string]string{
	"etc/systemd/system/default.target":                                  "/usr/lib/systemd/system/multi-user.target",
	"etc/systemd/system/sysinit.target.wants/blk-availability.service":   "/usr/lib/systemd/system/blk-availability.service",
	"etc/systemd/system/sysinit.target.wants/rig-agent.service":          "../rig-agent.service",
	"etc/systemd/system/network-online.target.wants/rig-network.service": "../rig-network.service",
	"etc/systemd/system/multi-user.target.wants/remote-fs.target":        "/usr/lib/systemd/system/remote-fs.target",
	"etc/mtab": "../proc/self/mounts",
	"var/run":  "/run",
	"var/lock": "/run/lock",
}

// writeSystemRoot makes the file system of a root: packages unpacked, what their installation scripts would do done by
// hand, and the modules of the kernel. The same packages give the same files.
func writeSystemRoot(ctx context.Context, file, tools, packages, modules, release string) (err error) {
	dir := file + ".d"
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// cp is the machine's: it copies links and modes as they are.
	if out, err := exec.CommandContext(ctx, "cp", "-a", packages, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the packages: %w: %s", err, lastLines(string(out), 3))
	}
	r := systemRoot(dir)
	for _, stage := range []func() error{
		func() error { return r.merge(ctx) },
		r.leaveOut,
		r.files,
		func() error { return r.modules(modules, release) },
		func() error { return r.pack(ctx, file, tools) },
	} {
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

// A systemRoot is the directory in which a root is put together.
type systemRoot string

func (r systemRoot) path(name string) string { return filepath.Join(string(r), name) }

// merge moves bin, sbin and lib below usr, where packages of bookworm do not have them.
func (r systemRoot) merge(ctx context.Context) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		info, err := os.Lstat(r.path(name))
		if err == nil && info.IsDir() {
			cmd := exec.CommandContext(ctx, "cp", "-a", r.path(name)+"/.", r.path("usr/"+name))
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("merge %s: %w: %s", name, err, lastLines(string(out), 3))
			}
		}
		if err := os.RemoveAll(r.path(name)); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+name, r.path(name)); err != nil {
			return err
		}
	}
	// bookworm's loader is a link to /lib, and dash is not sh before its installation script has run.
	if _, err := os.Lstat(r.path("usr/bin/sh")); errors.Is(err, os.ErrNotExist) {
		return os.Symlink("dash", r.path("usr/bin/sh"))
	}
	return nil
}

func (r systemRoot) leaveOut() error {
	for _, name := range systemLeftOut {
		if err := os.RemoveAll(r.path(name)); err != nil {
			return err
		}
	}
	return nil
}

func (r systemRoot) files() error {
	for _, name := range sortedKeys(systemFiles) {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(systemFiles[name], "#!") {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(r.path(name), []byte(systemFiles[name]), mode); err != nil {
			return err
		}
	}
	links := map[string]string{}
	for name, target := range systemLinks {
		links[name] = target
	}
	for _, unit := range systemMasked {
		links["etc/systemd/system/"+unit] = "/dev/null"
	}
	if _, err := os.Lstat(r.path("usr/bin/awk")); errors.Is(err, os.ErrNotExist) {
		links["usr/bin/awk"] = "mawk" // an alternative, which its installation script sets
	}
	for _, name := range sortedKeys(links) {
		if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
			return err
		}
		if err := os.RemoveAll(r.path(name)); err != nil {
			return err
		}
		if err := os.Symlink(links[name], r.path(name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"var/log/journal", "mnt", "usr/local/sbin"} {
		if err := os.MkdirAll(r.path(name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// modules copies what guests load, and the index of depmod.
func (r systemRoot) modules(dir, release string) error {
	paths, err := moduleFiles(dir, slices.Concat(guestModules, systemModules))
	if err != nil {
		return err
	}
	for _, path := range paths {
		to := r.path("usr/lib/modules/" + release + "/" + path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pack makes the file system, with nothing in it that time or chance decides but the time stamps of the files.
func (r systemRoot) pack(ctx context.Context, file, tools string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(systemRootSize), f.Close()); err != nil {
		return err
	}
	const id = "75726264-7572-6264-7572-626475726264"
	cmd := rooted(ctx, tools, "sbin/mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-U", id, "-E", "hash_seed="+id+",lazy_itable_init=0", "-d", string(r), file)
	cmd.Env = append(os.Environ(), "MKE2FS_CONFIG="+filepath.Join(tools, "etc/mke2fs.conf"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, lastLines(string(out), 3))
	}
	return nil
}
