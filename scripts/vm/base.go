package vm

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// guestPrograms are the programs of a guest beside busybox's, by name. A name
// with a slash is a path below the root of the unpacked packages.
var guestPrograms = []string{
	"bash", "dash", "cksum", "cmp", "cp", "dd", "df", "sha256sum", "stat", "sync", "timeout", "truncate", "env",
	"blkdiscard", "blkid", "blkzone", "blockdev", "chrt", "findmnt", "flock", "fsck", "fsfreeze", "fstrim", "losetup", "lsblk", "lscpu",
	"mount", "nsenter", "setpriv", "swapoff", "swapon", "mkswap", "taskset", "umount", "unshare", "wipefs", "dmesg", "prlimit", "mountpoint", "fdisk", "sfdisk",
	"dumpe2fs", "e2fsck", "fsck.ext4", "mkfs.ext4", "mke2fs", "resize2fs", "tune2fs", "debugfs",
	"mkfs.xfs", "xfs_repair", "xfs_io", "xfs_db", "fsck.xfs",
	"drbdadm", "drbdmeta", "drbdsetup", "dmsetup", "mdadm", "nbd-client", "nbd-server", "fio",
	"bridge", "ip", "ss", "tc",
	"kmod", "depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod",
	"fuser", "killall", "pgrep", "pkill", "ps", "strace", "tcpdump", "udevadm",
}

// guestTrees are whole directories or files of the packages, copied as they are.
var guestTrees = []string{
	"lib/drbd", "usr/lib/drbd", "etc/drbd.conf", "etc/drbd.d", "etc/mke2fs.conf", "lib/systemd/systemd-udevd", "usr/lib/systemd/systemd-udevd",
}

// writeBase writes the archive that all guests of one kernel share.
func writeBase(ctx context.Context, file, tools, modules, release string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	b := &baseBuilder{cpio: newCpioWriter(buf), tools: tools, libs: newLibraryFinder(tools)}
	for _, stage := range []func() error{
		b.skeleton,
		b.programs,
		b.trees,
		b.libraries,
		func() error { return b.modules(modules, release) },
		func() error { return b.busybox(ctx) },
		b.cpio.Close,
		buf.Flush,
		f.Close,
	} {
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

type baseBuilder struct {
	cpio  *cpioWriter
	tools string
	libs  *libraryFinder
}

// merged is the guest's name of a package's path: /bin, /sbin and /lib are
// links to their namesakes below /usr, as on every current Debian.
func merged(path string) string {
	path = strings.TrimPrefix(path, "/")
	first, _, _ := strings.Cut(path, "/")
	if slices.Contains([]string{"bin", "sbin", "lib", "lib64"}, first) {
		return "usr/" + path
	}
	return path
}

func (b *baseBuilder) skeleton() error {
	for _, dir := range []string{
		"dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64",
		"usr/local/bin", "usr/local/sbin", "var/lib/drbd", "var/log", "var/tmp",
	} {
		if err := b.cpio.dir(dir, 0o755); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "/run", "var/lock": "/run/lock",
		// Not busybox's: its shell prefers its own commands to the real ones.
		"usr/bin/sh": "dash",
		// Debian keeps the tools that speak to the kernel's 8.4 out of the way.
		"usr/sbin/drbdsetup-84": "/usr/lib/drbd/drbdsetup-84", "usr/sbin/drbdadm-84": "/usr/lib/drbd/drbdadm-84",
	} {
		if err := b.cpio.symlink(link, target); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"etc/passwd":   "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
		"etc/group":    "root:x:0:\ndisk:x:6:\nhaclient:x:999:\nnogroup:x:65534:\n",
		"etc/services": "",
		"etc/fstab":    "",
	} {
		if err := b.cpio.bytes(name, 0o644, text); err != nil {
			return err
		}
	}
	return b.cpio.bytes("init", 0o755, initScript)
}

// programs copies the listed programs and notes the libraries they need.
func (b *baseBuilder) programs() error {
	for _, name := range guestPrograms {
		if err := b.program(name); err != nil {
			return err
		}
	}
	return nil
}

func (b *baseBuilder) program(name string) error {
	for _, dir := range []string{"bin", "sbin", "usr/bin", "usr/sbin"} {
		path := dir + "/" + name
		host, err := inRoot(b.tools, path)
		if err != nil {
			continue
		}
		if err := b.libs.add(host); err != nil {
			return err
		}
		return b.cpio.copyFile(merged(path), host)
	}
	return fmt.Errorf("no program %s in the packages", name)
}

// trees copies directories; what is missing in one layout is there in the other.
func (b *baseBuilder) trees() error {
	for _, tree := range guestTrees {
		err := filepath.WalkDir(filepath.Join(b.tools, tree), func(path string, d os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			return b.treeFile(path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *baseBuilder) treeFile(path string) error {
	rel, err := filepath.Rel(b.tools, path)
	if err != nil {
		return err
	}
	host, err := inRoot(b.tools, rel)
	if err != nil {
		return err
	}
	if err := b.libs.add(host); err != nil {
		return err
	}
	if b.cpio.has(merged(rel)) {
		return nil
	}
	return b.cpio.copyFile(merged(rel), host)
}

func (b *baseBuilder) libraries() error {
	loader, err := inRoot(b.tools, "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
	if err != nil {
		return err
	}
	if err := b.cpio.copyFile("usr/lib64/ld-linux-x86-64.so.2", loader); err != nil {
		return err
	}
	for guest, host := range b.libs.found {
		if err := b.cpio.copyFile(merged(guest), host); err != nil {
			return err
		}
	}
	return nil
}

// modules copies the closure of guestModules and the index files of depmod.
func (b *baseBuilder) modules(dir, release string) error {
	paths, err := moduleFiles(dir, guestModules)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := b.cpio.copyFile("usr/lib/modules/"+release+"/"+path, filepath.Join(dir, path)); err != nil {
			return err
		}
	}
	return nil
}

// busybox fills in every command that no real program provides.
func (b *baseBuilder) busybox(ctx context.Context) error {
	host, err := inRoot(b.tools, "bin/busybox")
	if err != nil {
		return err
	}
	if err := b.cpio.copyFile("usr/bin/busybox", host); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, host, "--list").Output()
	if err != nil {
		return fmt.Errorf("busybox --list: %w", err)
	}
	for _, name := range strings.Fields(string(out)) {
		if b.cpio.has("usr/bin/"+name) || b.cpio.has("usr/sbin/"+name) {
			continue
		}
		if err := b.cpio.symlink("usr/bin/"+name, "busybox"); err != nil {
			return err
		}
	}
	return nil
}
