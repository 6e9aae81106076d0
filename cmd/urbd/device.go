package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/uring"
)

// What a device offers to the block layer. The engine takes requests of 1 MiB and discards of 128 MiB; half
// of the former keeps the locked memory of a device at 32 MiB.
const (
	deviceDepth  = 64
	deviceMaxIO  = 512 << 10
	maxDiscard   = 128 << 20
	discardUnit  = 4096
	patience     = 3 * time.Second // for udev and its like, which look at every device for a moment
	patienceStep = 50 * time.Millisecond
)

// ublkDevices makes the devices of volumes with package ublk. It implements replication.Devices.
type ublkDevices struct {
	names  deviceNames
	logger *slog.Logger
}

// Add reserves the minor, after what a dead predecessor of ours left behind was adopted (cfg.Recover) or removed.
func (u *ublkDevices) Add(ctx context.Context, cfg replication.DeviceConfig) (replication.Device, error) {
	owner := ownerTag(cfg.Resource, cfg.Volume)
	d := &device{volume: cfg.Volume, resource: cfg.Resource, names: u.names, logger: u.logger}
	stale, err := u.clear(ctx, cfg, owner)
	if err != nil {
		return nil, err
	}
	if stale {
		d.dev, err = ublk.Recover(ctx, cfg.Minor, ublk.Config{Owner: owner, Logger: u.logger})
		d.adopted = true
	} else {
		d.dev, err = ublk.Create(ctx, deviceConfig(cfg, owner, u.logger))
	}
	if err != nil {
		return nil, u.addError(ctx, cfg, err)
	}
	d.slots = make([]slot, d.dev.Config().Depth)
	u.logger.Info("block device reserved", "device", d.Path(), "volume", cfg.Volume, "mode", d.dev.Mode(), "adopted", d.adopted)
	return d, nil
}

func deviceConfig(cfg replication.DeviceConfig, owner uint64, logger *slog.Logger) ublk.Config {
	depth := cfg.Depth
	if depth == 0 {
		depth = deviceDepth
	}
	return ublk.Config{
		ID: cfg.Minor, Depth: depth, MaxIO: deviceMaxIO, Mode: ublk.ModeCopy, Recovery: ublk.RecoverReissue, Owner: owner,
		NoPartitionScan: true, Logger: logger,
		Geometry: ublk.Geometry{
			Size: cfg.Size, LogicalBlock: cfg.BlockSize, PhysicalBlock: max(cfg.BlockSize, 4096), Volatile: true, FUA: true,
			DiscardUnit: discardUnit, MaxDiscard: maxDiscard, MaxWriteZeroes: maxDiscard,
		},
	}
}

// ownerTag marks the devices of a volume, so that they are found again after a crash, also with another minor.
func ownerTag(resource string, volume int) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "urbd/%s/%d", resource, volume)
	return h.Sum64() | 1 // 0 means nobody
}

// clear removes the volume's devices that nobody serves any more. adopt says that the one with our minor is
// left, because its users wait for a server and it can be taken over.
func (u *ublkDevices) clear(ctx context.Context, cfg replication.DeviceConfig, owner uint64) (adopt bool, err error) {
	found, err := ublk.List(ctx, func(i *ublk.Info) bool { return i.Owner == owner })
	if err != nil {
		return false, err
	}
	for _, i := range found {
		switch {
		case !i.Orphan:
			return false, &replication.AlreadyRunningError{Resource: cfg.Resource, PID: i.Server}
		case cfg.Recover && i.ID == cfg.Minor && i.State != ublk.StateDead && i.Recovery != ublk.RecoverNone:
			adopt = true
		default:
			u.logger.Warn("removing a block device that a dead daemon left behind", "device", ublk.BlockPath(i.ID), "state", i.State.String())
			if err := ublk.Remove(ctx, i.ID); err != nil {
				return false, fmt.Errorf("volume %d: remove what a dead daemon left behind: %w", cfg.Volume, err)
			}
			u.names.remove(i.ID)
		}
	}
	return adopt, nil
}

// addError says what stands in the way of a new device, and what to do about it.
func (u *ublkDevices) addError(ctx context.Context, cfg replication.DeviceConfig, err error) error {
	if !errors.Is(err, ublk.ErrExist) {
		return fmt.Errorf("volume %d: %w", cfg.Volume, err)
	}
	holder := "another program"
	if i, err := ublk.Lookup(ctx, cfg.Minor); err == nil && i.Server > 0 {
		holder = fmt.Sprintf("process %d", i.Server)
	}
	return fmt.Errorf("volume %d: minor %d is taken: %s belongs to %s; give the volume another minor in the configuration: %w",
		cfg.Volume, cfg.Minor, ublk.BlockPath(cfg.Minor), holder, err)
}

// A device is the block device of one volume. It implements replication.Device and ublk.Handler.
type device struct {
	resource string
	volume   int
	names    deviceNames
	logger   *slog.Logger
	dev      *ublk.Device
	adopted  bool

	ring   *uring.Ring // set by Serve
	submit func(*engine.Request)
	slots  []slot      // by tag; the loop's
	served atomic.Bool // the fetches are on the ring
}

// A slot is one request in both languages.
type slot struct {
	engine engine.Request
	kernel *ublk.Request
}

// Adopted says that Add took over the device of a dead predecessor.
func (d *device) Adopted() bool { return d.adopted }

// Path is the block device.
func (d *device) Path() string { return d.dev.Path() }

// Serve puts the fetches on the loop's ring.
func (d *device) Serve(ring *uring.Ring, submit func(*engine.Request)) error {
	d.ring, d.submit = ring, submit
	if err := d.dev.Serve(ring, d); err != nil {
		return err
	}
	d.served.Store(true)
	return nil
}

// engineOp is an operation of the block layer in the engine's words.
func engineOp(op ublk.Op) (engine.Op, bool) {
	switch op {
	case ublk.OpRead:
		return engine.OpRead, true
	case ublk.OpWrite:
		return engine.OpWrite, true
	case ublk.OpFlush:
		return engine.OpFlush, true
	case ublk.OpDiscard:
		return engine.OpDiscard, true
	case ublk.OpWriteZeroes:
		return engine.OpWriteZeroes, true
	}
	return 0, false
}

// Handle passes a request of the kernel to the engine.
func (d *device) Handle(r *ublk.Request) {
	op, ok := engineOp(r.Op)
	if !ok {
		r.Complete(unix.EOPNOTSUPP)
		return
	}
	s := &d.slots[r.Tag()]
	s.kernel = r
	s.engine = engine.Request{
		Vol: d.volume, Op: op, Off: r.Off, Len: r.Len, Data: r.Bytes(), Handle: uint64(r.Tag()),
		FUA: r.Flags&ublk.FUA != 0, NoUnmap: r.Flags&ublk.NoUnmap != 0,
	}
	d.submit(&s.engine)
}

// Complete answers a request.
func (d *device) Complete(r *engine.Request) {
	kernel := d.slots[r.Handle].kernel
	d.slots[r.Handle].kernel = nil
	if r.Err != engine.OK {
		kernel.Complete(unix.Errno(r.Err))
		return
	}
	kernel.Complete(nil)
}

// Start makes the block device appear, with its names.
func (d *device) Start(ctx context.Context, size int64) error {
	if err := d.fetch(ctx); err != nil {
		return err
	}
	// A device that was adopted has users, and the size that they know, until it is served.
	if !d.adopted && d.dev.Config().Size != size {
		if err := d.dev.Resize(ctx, size); err != nil {
			return err
		}
	}
	if err := d.names.announce(d.dev.ID(), d.resource, d.volume); err != nil {
		return err
	}
	if err := d.dev.Start(ctx); err != nil {
		d.names.remove(d.dev.ID())
		return err
	}
	if d.adopted && d.dev.Config().Size != size {
		if err := d.dev.Resize(ctx, size); err != nil {
			return err
		}
	}
	// Write-back throttling expects an answer in 2 ms, which a peer on a network does not give.
	for name, value := range map[string]string{"scheduler": "none", "wbt_lat_usec": "0"} {
		if err := d.dev.Tune(name, value); err != nil {
			d.logger.Debug("queue setting", "device", d.Path(), "err", err)
		}
	}
	return d.names.link(d.dev.ID(), d.resource, d.volume)
}

// fetch puts the fetches on the ring again after a Stop, which ended them. It runs on the loop's thread for that.
func (d *device) fetch(ctx context.Context) error {
	if d.served.Load() {
		return nil
	}
	if d.ring == nil {
		return errors.New("the device is started before it is served")
	}
	done := make(chan error, 1)
	if err := d.ring.Post(func() {
		if d.served.Load() { // meanwhile by Serve
			done <- nil
			return
		}
		done <- d.Serve(d.ring, d.submit)
	}); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resize changes the size.
func (d *device) Resize(ctx context.Context, size int64) error { return d.dev.Resize(ctx, size) }

// Stop makes the block device go, unless it is mounted or held.
func (d *device) Stop(ctx context.Context) error {
	err := d.tryStop(ctx)
	if busy := new(ublk.BusyError); errors.As(err, &busy) {
		return &replication.BusyError{Device: d.Path(), Holder: holders(busy)}
	}
	if err != nil {
		return err
	}
	d.served.Store(false)
	d.adopted = false
	d.names.remove(d.dev.ID())
	return nil
}

// tryStop has some patience with processes: udev looks at a device after every change, and is gone a moment later.
func (d *device) tryStop(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := time.After(patience)
	for {
		err := d.dev.TryStop(ctx)
		busy := new(ublk.BusyError)
		if !errors.As(err, &busy) || lasting(busy) {
			return err
		}
		select {
		case <-limit:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(patienceStep):
		}
	}
}

// lasting says that a holder will not go by itself: a mount, swap, a device on top.
func lasting(busy *ublk.BusyError) bool {
	for _, h := range busy.Holders {
		if h.PID == 0 {
			return true
		}
	}
	return false
}

func holders(busy *ublk.BusyError) string {
	var names []string
	for _, h := range busy.Holders {
		names = append(names, h.String())
	}
	return strings.Join(names, ", ")
}

// Delete gives the minor back.
func (d *device) Delete(ctx context.Context) error {
	err := d.dev.Delete(ctx)
	if err == nil {
		d.served.Store(false)
		d.names.remove(d.dev.ID())
	}
	return err
}
