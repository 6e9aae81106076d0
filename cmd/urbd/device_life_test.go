package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"
)

// fakeBlock is a blockDevice without a kernel.
type fakeBlock struct {
	size     int64
	block    int
	started  bool
	prepared bool
	failed   chan error
}

func (f *fakeBlock) ID() int      { return 5 }
func (f *fakeBlock) Path() string { return ublk.BlockPath(5) }
func (f *fakeBlock) Config() ublk.Config {
	return ublk.Config{Depth: 1, Geometry: ublk.Geometry{Size: f.size, LogicalBlock: f.block}}
}
func (f *fakeBlock) Holders() ([]ublk.Holder, error)             { return nil, nil }
func (f *fakeBlock) Prepare() error                              { f.prepared = true; return nil }
func (f *fakeBlock) Serve(*uring.Ring, ublk.Handler) error       { return nil }
func (f *fakeBlock) Failed() <-chan error                        { return f.failed }
func (f *fakeBlock) Start(context.Context) error                 { f.started = true; return nil }
func (f *fakeBlock) Tune(string, string) error                   { return nil }
func (f *fakeBlock) Resize(_ context.Context, size int64) error  { f.size = size; return nil }
func (f *fakeBlock) SetBlockSize(_ context.Context, n int) error { f.block = n; return nil }
func (f *fakeBlock) TryStop(context.Context) error               { f.started = false; return nil }
func (f *fakeBlock) Abandon(context.Context) error               { return nil }
func (f *fakeBlock) Delete(context.Context) error                { return nil }

// newFakeDevice is a served device with its names below a directory.
func newFakeDevice(t *testing.T) (*device, *fakeBlock, *strings.Builder) {
	block, log := &fakeBlock{failed: make(chan error, 1)}, new(strings.Builder)
	t.Cleanup(func() { close(block.failed) })
	dir := t.TempDir()
	d := &device{
		resource: "r0", names: deviceNames{filepath.Join(dir, "dev"), filepath.Join(dir, "run")}, dev: block,
		logger: slog.New(slog.NewTextHandler(log, nil)),
	}
	if err := d.Serve(nil, nil); err != nil {
		t.Fatal(err)
	}
	return d, block, log
}

func TestDeviceLife(t *testing.T) {
	d, block, _ := newFakeDevice(t)
	link := d.names.byRes("r0", 0)
	if d.Prepare(); !block.prepared {
		t.Error("the memory for its requests is not got before they come")
	}
	if err := d.Start(t.Context(), 1<<20, 4096); err != nil || !block.started || block.size != 1<<20 || block.block != 4096 {
		t.Fatalf("started %v with %d bytes in blocks of %d, %v", block.started, block.size, block.block, err)
	}
	if to, err := os.Readlink(link); err != nil || to != "../../../ublkb5" {
		t.Errorf("its name leads to %q, %v", to, err)
	}
	if err := d.Stop(t.Context()); err != nil || block.started {
		t.Fatalf("stopped %v, %v", !block.started, err)
	}
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Errorf("its name is left: %v", err)
	}
}

// A device that is there is no failed start, even when it cannot get its name.
func TestStartWithoutAName(t *testing.T) {
	d, block, log := newFakeDevice(t)
	if err := os.WriteFile(d.names.dev, nil, 0o644); err != nil { // where the directory of names should be
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), 1<<20, 512); err != nil || !block.started {
		t.Errorf("started %v, %v", block.started, err)
	}
	if !strings.Contains(log.String(), "the block device is there without its name") {
		t.Errorf("nobody is told: %s", log)
	}
}

// A daemon whose device has failed ends, and says which.
func TestAFailedDeviceIsTold(t *testing.T) {
	d, block, _ := newFakeDevice(t)
	told := make(chan error)
	d.failed = func(err error) { told <- err }
	block.failed <- ublk.ErrServerFailed
	if err := <-told; !errors.Is(err, ublk.ErrServerFailed) || !strings.HasPrefix(err.Error(), "/dev/ublkb5 cannot be served") {
		t.Error(err)
	}
}
