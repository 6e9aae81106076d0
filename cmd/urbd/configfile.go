package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
)

// Where the configuration is when no -c names a file: the main file and what it includes, then every file of the
// directory that it has not included.
const (
	mainFile = "/etc/urbd.conf"
	resFiles = "/etc/urbd.d/*.res"
)

// A disk reads configuration files.
type disk struct{ config.Source }

var etc = disk{config.Source{ReadFile: readBounded, Glob: filepath.Glob, Access: access}}

func access(name string) (mode fs.FileMode, uid uint32, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, 0, err
	}
	return info.Mode(), info.Sys().(*syscall.Stat_t).Uid, nil
}

// readPatience is how long a pipe may take to give a configuration.
const readPatience = 10 * time.Second

// readBounded is os.ReadFile for what may be no configuration at all: without end, or a pipe or a terminal that says nothing.
func readBounded(name string) ([]byte, error) {
	return readWithin(name, readPatience)
}

func readWithin(name string, limit time.Duration) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0) // to open a pipe would wait for who writes to it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(limit)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, config.MaxTotal+1))
	info, failed := f.Stat()
	if err == nil && failed == nil && len(text) == 0 && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil, errors.New("it is a pipe that nobody writes to")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("it is no file, and has not come to its end in %v", limit)
	}
	return text, err
}

// files are the files to read for -c file, or the default ones for an empty name.
func (d disk) files(file string) ([]string, error) {
	if file != "" {
		return []string{file}, nil
	}
	var out []string
	if _, err := d.ReadFile(mainFile); !errors.Is(err, fs.ErrNotExist) {
		out = append(out, mainFile) // also one that cannot be read: the error then says why
	}
	more, err := d.Glob(resFiles)
	if err != nil {
		return nil, err
	}
	slices.Sort(more)
	if out = append(out, more...); len(out) == 0 {
		return nil, &noConfigError{}
	}
	return out, nil
}

// load reads the configuration.
func (d disk) load(file string) (*config.Config, error) {
	files, err := d.files(file)
	if err != nil {
		return nil, err
	}
	return config.Load(d.Source, files...)
}

// read names the files that load reads, included ones too.
func (d disk) read(file string) (names []string, err error) {
	noting := d
	noting.ReadFile = func(name string) ([]byte, error) {
		names = append(names, name)
		return d.ReadFile(name)
	}
	_, err = noting.load(file)
	return names, err
}

// A noConfigError says that there is nothing to read.
type noConfigError struct{}

func (*noConfigError) Error() string {
	return fmt.Sprintf("there is no configuration: neither %s nor %s exists; write one, or name a file with -c", mainFile, resFiles)
}

// addresses are those of this machine's interfaces, for floating hosts.
func addresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}
