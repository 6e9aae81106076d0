package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A libraryFinder collects the shared libraries that programs of an unpacked
// root need, and those that the libraries need in turn.
type libraryFinder struct {
	root  string
	found map[string]string // path inside the guest -> file on this machine
}

func newLibraryFinder(root string) *libraryFinder {
	return &libraryFinder{root: root, found: map[string]string{}}
}

// add walks one program or library. Scripts and static programs need nothing.
func (l *libraryFinder) add(path string) error {
	f, err := elf.Open(path)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) { // shorter than the magic
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	search := libraryDirs
	if runpath, err := f.DynString(elf.DT_RUNPATH); err == nil && len(runpath) == 1 {
		for dir := range strings.SplitSeq(runpath[0], ":") {
			search = append([]string{strings.Trim(dir, "/")}, search...)
		}
	}
	for _, name := range needed {
		if err := l.library(name, search); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func (l *libraryFinder) library(name string, search []string) error {
	for _, dir := range search {
		guest := filepath.Join(dir, name)
		if _, ok := l.found[guest]; ok {
			return nil
		}
		host, err := inRoot(l.root, guest)
		if err != nil {
			continue
		}
		l.found[guest] = host
		return l.add(host)
	}
	return fmt.Errorf("no library %s below %s", name, l.root)
}

// inRoot follows the symbolic links of a path inside an unpacked root, whose
// absolute links mean the root, to a regular file.
func inRoot(root, name string) (string, error) {
	for range 20 {
		path := filepath.Join(root, name)
		info, err := os.Lstat(path)
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			if !info.Mode().IsRegular() {
				return "", fmt.Errorf("%s is not a regular file", path)
			}
			return path, nil
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join("/", filepath.Dir(name), target)
		}
		name = target
	}
	return "", fmt.Errorf("%s: too many symbolic links", name)
}
