package vm

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

//go:embed init.sh
var initScript string

// imageFormat changes when the layout of the base archive does.
const imageFormat = "2"

// An Image is what a guest boots: a kernel and the archive of its first root.
type Image struct {
	Kernel  Kernel
	Release string // as `uname -r` prints it
	vmlinuz string // unpacked, if that can be
	base    string // the archive that all guests of this kernel share
	root    string // of a system: the file system that each guest gets a copy of
	modules string // directory of its modules
	fetched *Fetched
}

// Prepare fetches (once) and assembles (once) what guests of a kernel boot.
// The first call downloads some 200 MB; later ones take milliseconds. Log may be nil.
func Prepare(ctx context.Context, k Kernel, log func(format string, args ...any)) (*Image, error) {
	img, err := fetchImage(ctx, k, log)
	if err != nil {
		return nil, err
	}
	unlock, err := img.fetched.cache.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := img.unpackKernel(log); err != nil {
		return nil, err
	}
	name := "images/" + string(k) + "-" + img.hash() + ".cpio"
	img.base, err = img.fetched.cache.complete(name, func(tmp string) error {
		if err := img.fetched.cache.dropOld("images/" + string(k) + "-*"); err != nil {
			return err
		}
		return writeBase(ctx, tmp, img.fetched.tools, img.modules, img.Release)
	})
	if err != nil {
		return nil, fmt.Errorf("guest image of %s: %w", k, err)
	}
	return img, img.fetched.cache.touch(img.base)
}

// fetchImage is an image without archive and root.
func fetchImage(ctx context.Context, k Kernel, log func(format string, args ...any)) (*Image, error) {
	fetched, err := Fetch(ctx, k, log)
	if err != nil {
		return nil, err
	}
	img := &Image{Kernel: k, fetched: fetched}
	if img.Release, img.modules, err = kernelTree(fetched.kernel); err != nil {
		return nil, err
	}
	img.vmlinuz, err = kernelImage(fetched.kernel, img.Release)
	return img, err
}

// hash names everything that decides the content of the base archive.
func (img *Image) hash() string {
	h := sha256.New()
	for _, part := range [][]string{
		{imageFormat, img.Release, filepath.Base(img.fetched.tools), filepath.Base(img.fetched.kernel), initScript}, guestPrograms, guestTrees, guestModules,
	} {
		fmt.Fprintf(h, "%q\n", part)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// withFiles writes one archive to file: the base, then guest path -> file of
// this machine. Later members replace earlier ones of the same name.
func (img *Image) withFiles(file string, files map[string]string) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
	}()
	base, err := os.Open(img.base)
	if err != nil {
		return err
	}
	defer base.Close()
	if _, err := io.Copy(out, base); err != nil {
		return err
	}
	buf := bufio.NewWriterSize(out, 1<<20)
	cpio := newCpioWriter(buf)
	into := ""
	if img.root != "" {
		into = "files/" // init-systemd.sh copies them to the root
	}
	for _, guest := range sortedKeys(files) {
		if err := cpio.copyFile(into+merged(guest), files[guest]); err != nil {
			return fmt.Errorf("file for the guest: %w", err)
		}
	}
	if err := cpio.Close(); err != nil {
		return err
	}
	return buf.Flush()
}

// Tool is a program of the guests, like "e2fsck", to be run on this machine on what a guest has left on its disk.
func (img *Image) Tool(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	for _, dir := range []string{"bin", "sbin", "usr/bin", "usr/sbin"} {
		if _, err := inRoot(img.fetched.tools, dir+"/"+name); err == nil {
			return rooted(ctx, img.fetched.tools, dir+"/"+name, args...), nil
		}
	}
	return nil, fmt.Errorf("no program %s in the packages", name)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
