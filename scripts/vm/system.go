package vm

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// An Init is what a guest runs as its first process.
type Init string

const (
	// Busybox is a script on a root in memory, which every boot finds fresh. It boots in seconds.
	Busybox Init = ""
	// Systemd is Debian's own, of the release that the kernel is used with, on a root that keeps what is written to it
	// while the node is not closed. The agent and Config.Files are copied to it at each boot.
	Systemd Init = "systemd"
)

//go:embed init-systemd.sh
var systemInitScript string

// systemFormat changes when the making of a system's root does.
const systemFormat = "1"

// systemRootSize is the size of a system's root in bytes; most of it is a hole.
const systemRootSize = 1 << 30

// systemSuite is the Debian release whose systemd runs on a kernel: 252 on 6.12, 257 on 7.x.
func (k Kernel) systemSuite() string {
	if k == Linux7 {
		return "trixie"
	}
	return "bookworm"
}

// earlyModules are what a guest needs before it has its root.
var earlyModules = []string{"virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "ext4", "crc32c_generic", "crc32c-intel"}

// PrepareSystem is Prepare for guests whose first process is systemd: a small archive that mounts a root, and the root.
func PrepareSystem(ctx context.Context, k Kernel, log func(format string, args ...any)) (*Image, error) {
	img, err := fetchImage(ctx, k, log)
	if err != nil {
		return nil, err
	}
	f, unlock, err := openFetcher(ctx, log)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := img.unpackKernel(log); err != nil {
		return nil, err
	}
	packages, err := f.set(ctx, "system-"+k.systemSuite(), k.systemSuite(), systemPackages)
	if err != nil {
		return nil, err
	}
	name := "images/system-" + string(k) + "-" + img.systemHash(packages)
	drop := func() error { return f.cache.dropOld("images/system-" + string(k) + "-*") }
	img.base, err = f.cache.complete(name+".cpio", func(tmp string) error {
		return errors.Join(drop(), writeEarly(tmp, img.fetched.tools, img.modules, img.Release))
	})
	if err != nil {
		return nil, fmt.Errorf("first archive of a system on %s: %w", k, err)
	}
	img.root, err = f.cache.complete(name+".ext4", func(tmp string) error {
		f.log("making the root of a Debian %s for Linux %s", k.systemSuite(), img.Release)
		return writeSystemRoot(ctx, tmp, img.fetched.tools, packages, img.modules, img.Release)
	})
	if err != nil {
		return nil, fmt.Errorf("root of a system on %s: %w", k, err)
	}
	return img, f.cache.touch(packages, img.base, img.root)
}

// systemHash names everything that decides the content of a system's archive and root.
func (img *Image) systemHash(packages string) string {
	h := sha256.New()
	for _, part := range [][]string{
		{systemFormat, img.Release, filepath.Base(img.fetched.tools), filepath.Base(img.fetched.kernel), filepath.Base(packages), systemInitScript},
		earlyModules, guestModules, systemModules, systemLeftOut, systemMasked,
	} {
		fmt.Fprintf(h, "%q\n", part)
	}
	for _, m := range []map[string]string{systemFiles, systemLinks} {
		for _, name := range sortedKeys(m) {
			fmt.Fprintf(h, "%q %q\n", name, m[name])
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// writeEarly writes the archive that finds the root: busybox, the drivers of the machine, a script.
func writeEarly(file, tools, modules, release string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	cpio := newCpioWriter(buf)
	for _, dir := range []string{"dev", "proc", "sys", "root", "files"} {
		if err := cpio.dir(dir, 0o755); err != nil {
			return err
		}
	}
	busybox, err := inRoot(tools, "bin/busybox")
	if err != nil {
		return err
	}
	if err := cpio.copyFile("bin/busybox", busybox); err != nil {
		return err
	}
	index, err := readModuleIndex(modules)
	if err != nil {
		return err
	}
	// In the order in which they can be loaded, so that no index is needed.
	order, err := index.loadOrder(earlyModules, optionalModules)
	if err != nil {
		return err
	}
	for _, path := range order {
		if err := cpio.copyFile("modules/"+filepath.Base(path), filepath.Join(modules, path)); err != nil {
			return err
		}
	}
	var names []string
	for _, path := range order {
		names = append(names, filepath.Base(path))
	}
	if err := cpio.bytes("modules/order", 0o644, strings.Join(names, "\n")+"\n"); err != nil {
		return err
	}
	if err := cpio.bytes("init", 0o755, systemInitScript); err != nil {
		return err
	}
	return errors.Join(cpio.Close(), buf.Flush(), f.Close())
}

// copySparse copies a file and leaves its holes out.
func copySparse(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	block, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); off < info.Size(); {
		n, err := in.ReadAt(block, off)
		if err != nil && err != io.EOF {
			return err
		}
		if string(block[:n]) != string(zero[:n]) {
			if _, err := out.WriteAt(block[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
	}
	return nil
}
