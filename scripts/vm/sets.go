package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// qemuPackages run on the host. Bookworm's own 7.2 corrupts guests with two CPUs.
var qemuPackages = []string{"qemu-system-x86"}

// toolPackages are unpacked for the guests; image.go picks programs from them.
var toolPackages = []string{
	"busybox-static", "bash", "coreutils", "dash", "diffutils", "dmsetup", "drbd-utils", "e2fsprogs", "fdisk", "fio", "iproute2", "kmod",
	"mdadm", "mount", "nbd-client", "nbd-server", "procps", "psmisc", "strace", "tcpdump", "udev", "util-linux", "xfsprogs",
}

// Fetched is where the unpacked packages lie.
type Fetched struct {
	cache  *Cache
	qemu   string // root of qemu with all its libraries
	tools  string // root of the guests' programs with all their libraries
	kernel string // root of one kernel: boot/vmlinuz-*, lib/modules/*
}

// Fetch downloads and unpacks what a kernel's guests need, once: later calls
// find it in the cache and touch no network. Nothing is installed on the
// machine. Log gets a line for each step that takes time; it may be nil.
func Fetch(ctx context.Context, k Kernel, log func(format string, args ...any)) (*Fetched, error) {
	f, unlock, err := openFetcher(ctx, log)
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := &Fetched{cache: f.cache}
	if out.qemu, err = f.set(ctx, "qemu", "bookworm-backports", qemuPackages); err != nil {
		return nil, err
	}
	if out.tools, err = f.set(ctx, "tools", "bookworm", toolPackages); err != nil {
		return nil, err
	}
	if out.kernel, err = f.kernelSet(ctx, k, out.tools); err != nil {
		return nil, err
	}
	return out, f.cache.touch(out.qemu, out.tools, out.kernel)
}

// A fetcher makes sets; the apt state is set up only when one is missing.
type fetcher struct {
	cache *Cache
	apt   *apt
	log   func(format string, args ...any)
}

// openFetcher locks the cache and returns what fills it, and what unlocks it. Log may be nil.
func openFetcher(ctx context.Context, log func(format string, args ...any)) (*fetcher, func(), error) {
	if log == nil {
		log = func(string, ...any) {}
	}
	cache, err := OpenCache()
	if err != nil {
		return nil, nil, err
	}
	unlock, err := cache.lock(ctx)
	return &fetcher{cache: cache, log: log}, unlock, err
}

func (f *fetcher) prepare(ctx context.Context) error {
	if f.apt != nil {
		return nil
	}
	a, err := newApt(ctx, f.cache.path("apt"), f.log)
	if err != nil {
		return err
	}
	// Lists age: a version that has left the archive cannot be downloaded. They
	// are fetched anew for every set that is not there yet.
	if err := a.update(ctx); err != nil {
		return err
	}
	f.apt = a
	return nil
}

// set unpacks packages with everything they depend on into one root.
func (f *fetcher) set(ctx context.Context, name, suite string, packages []string) (string, error) {
	return f.cache.complete("sets/"+name+"-"+shortHash(suite, packages...), func(tmp string) error {
		if err := f.cache.dropOld("sets/" + name + "-*"); err != nil {
			return err
		}
		if err := f.prepare(ctx); err != nil {
			return err
		}
		debs, err := f.apt.download(ctx, suite, true, packages)
		if err != nil {
			return err
		}
		return unpack(ctx, tmp, debs)
	})
}

// kernelSet unpacks one kernel and makes its module index (depmod), which the
// package leaves to its installation script.
func (f *fetcher) kernelSet(ctx context.Context, k Kernel, tools string) (string, error) {
	return f.cache.complete("sets/linux-"+string(k)+"-plain", func(tmp string) error {
		if err := f.prepare(ctx); err != nil {
			return err
		}
		packages, err := f.apt.kernelPackages(ctx, k.suite())
		if err != nil {
			return err
		}
		debs, err := f.apt.download(ctx, k.suite(), false, packages)
		if err != nil {
			return err
		}
		if err := unpack(ctx, tmp, debs); err != nil {
			return err
		}
		release, modules, err := kernelTree(tmp)
		if err != nil {
			return err
		}
		if err := plainModules(ctx, tools, modules); err != nil {
			return err
		}
		// depmod -b wants lib/modules below its base; 7.x ships usr/lib/modules.
		base := strings.TrimSuffix(modules, "/lib/modules/"+release)
		depmod := rooted(ctx, tools, "sbin/depmod", "-b", base, release)
		if out, err := depmod.CombinedOutput(); err != nil {
			return fmt.Errorf("depmod for %s: %w: %s", release, err, lastLines(string(out), 3))
		}
		return nil
	})
}

// plainModules unpacks every compressed module, once and here: the kernels
// refuse to do it (with a line on the console for each), and in a guest it takes long.
func plainModules(ctx context.Context, tools, modules string) error {
	busybox, err := inRoot(tools, "bin/busybox") // static
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, busybox, "find", modules, "-name", "*.ko.xz", "-exec", busybox, "unxz", "{}", "+")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unxz of the modules: %w: %s", err, lastLines(string(out), 3))
	}
	return nil
}

// kernelTree finds the release and the module directory below a kernel's root.
func kernelTree(root string) (release, modules string, err error) {
	for _, pattern := range []string{"lib/modules/*", "usr/lib/modules/*"} {
		if found, _ := filepath.Glob(filepath.Join(root, pattern)); len(found) == 1 {
			return filepath.Base(found[0]), found[0], nil
		}
	}
	return "", "", fmt.Errorf("no kernel modules below %s", root)
}

// kernelImage finds the compressed kernel below a kernel's root.
func kernelImage(root, release string) (string, error) {
	for _, name := range []string{"boot/vmlinuz-" + release, "usr/lib/modules/" + release + "/vmlinuz", "lib/modules/" + release + "/vmlinuz"} {
		path := filepath.Join(root, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no kernel image of %s below %s", release, root)
}

// unpack extracts package files into root, in any order.
func unpack(ctx context.Context, root string, debs []string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, deb := range debs {
		cmd := exec.CommandContext(ctx, "dpkg", "-x", deb, root)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("dpkg -x %s: %w: %s", filepath.Base(deb), err, lastLines(string(out), 3))
		}
	}
	return nil
}

// libraryDirs are where Debian's programs look for libraries, below a root.
var libraryDirs = []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib"}

// rooted is a command from an unpacked root, run on this machine with the
// root's own loader and libraries, so it does not matter what the machine has.
func rooted(ctx context.Context, root, program string, args ...string) *exec.Cmd {
	var dirs []string
	for _, dir := range libraryDirs {
		dirs = append(dirs, filepath.Join(root, dir))
	}
	file, err := inRoot(root, program)
	if err != nil {
		file = filepath.Join(root, program) // running it will say what is missing
	}
	loader := filepath.Join(root, "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
	argv := append([]string{"--library-path", strings.Join(dirs, ":"), "--argv0", filepath.Base(program), file}, args...)
	return exec.CommandContext(ctx, loader, argv...)
}

// shortHash names a list of words in eight hex digits.
func shortHash(first string, rest ...string) string {
	sum := sha256.Sum256([]byte(first + "\x00" + strings.Join(rest, "\x00")))
	return hex.EncodeToString(sum[:4])
}
