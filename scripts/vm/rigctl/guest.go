package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urbd/urbd/scripts/vm"
)

// config makes the guest's configuration; scratch is a directory for what is
// thrown away with the run.
func (o *options) config(ctx context.Context, k vm.Kernel, scratch string) (vm.Config, error) {
	c := vm.Config{Kernel: k, KernelArgs: o.args, Log: progress}
	if o.systemd {
		c.Init = vm.Systemd
	}
	var err error
	if c.Memory, err = parseSize(o.memory); err != nil {
		return c, err
	}
	if c.Files, err = o.guestFiles(ctx, scratch); err != nil {
		return c, err
	}
	c.Disks, err = o.guestDisks(scratch)
	return c, err
}

func (o *options) guestFiles(ctx context.Context, scratch string) (map[string]string, error) {
	bin := filepath.Join(scratch, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	build := vm.BuildBinaries
	if o.noUrbd {
		build = vm.BuildPackages
	}
	files, err := build(ctx, bin, o.packages...)
	if err != nil {
		return nil, err
	}
	for _, spec := range o.files {
		host, guest, ok := strings.Cut(spec, ":")
		if !ok || !strings.HasPrefix(guest, "/") {
			return nil, fmt.Errorf("--file %s: want HOST:GUEST with an absolute GUEST path", spec)
		}
		err := filepath.WalkDir(host, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(host, path)
			files[filepath.Join(guest, rel)] = path
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("--file %s: %w", spec, err)
		}
	}
	return files, nil
}

func (o *options) guestDisks(scratch string) ([]vm.Disk, error) {
	var disks []vm.Disk
	for i, word := range o.disks {
		if size, err := parseSize(word); err == nil {
			disks = append(disks, vm.Disk{Path: filepath.Join(scratch, fmt.Sprintf("disk%d", i)), Size: size})
			continue
		}
		if _, err := os.Stat(word); err != nil {
			return nil, fmt.Errorf("--disk %s: neither a size nor a file", word)
		}
		disks = append(disks, vm.Disk{Path: word})
	}
	return disks, nil
}

// parseSize reads bytes with an optional K, M, G or T (powers of 1024).
func parseSize(word string) (int64, error) {
	digits := strings.TrimRight(word, "KMGT")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no size: want digits and K, M, G or T", word)
	}
	shift := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
	by, ok := shift[word[len(digits):]]
	if !ok || n > (1<<62)>>by {
		return 0, fmt.Errorf("%q is no size: want digits and K, M, G or T", word)
	}
	return n << by, nil
}

// boot starts one guest of the options; end removes everything.
func boot(ctx context.Context, o *options) (node *vm.Node, command []string, end func() error, err error) {
	k, command, err := o.kernel()
	if err != nil {
		return nil, nil, nil, err
	}
	scratch, remove, err := vm.Scratch()
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := o.config(ctx, k, scratch)
	if err == nil {
		node, err = vm.Boot(ctx, c)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, remove())
	}
	return node, command, func() error { return errors.Join(node.Close(), remove()) }, nil
}

// execute runs one command in a fresh guest and returns its exit code.
func execute(ctx context.Context, o *options) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	node, command, end, err := boot(ctx, o)
	if err != nil {
		return failure, err
	}
	defer func() {
		if o.verbose {
			fmt.Fprintf(os.Stderr, "--- console\n%s", node.Console())
		}
		if cerr := end(); cerr != nil {
			code, err = failure, errors.Join(err, cerr)
		}
	}()
	if len(command) == 0 {
		return failure, errors.New("exec: no command after the kernel")
	}
	p, err := node.Start(ctx, vm.Cmd{Argv: command, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return failure, err
	}
	code, err = p.Wait()
	switch {
	case ctx.Err() != nil: // its end, if it came, was our doing
		return failure, fmt.Errorf("%q was ended: %w", command, context.Cause(ctx))
	case err != nil:
		return failure, err
	}
	return code, nil
}
