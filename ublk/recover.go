package ublk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

// Recover takes over a disk whose server has died or has quiesced. Queues, depth, request size, mode and geometry are those of the
// device; of cfg, Spare, Owner and Logger count. Serve and Start follow, and the requests that waited arrive. The error is
// ErrNotExist when there is no such device, ErrState when it cannot be recovered (RecoverNone, or never
// started), ErrBusy when at ctx's end its old server still holds it.
func Recover(ctx context.Context, id int, cfg Config) (*Device, error) {
	fail := func(err error) error { return &OpError{Op: "recover", Device: BlockPath(id), Err: err} }
	info, err := devInfo(ctx, id)
	if err != nil {
		return nil, fail(err)
	}
	if err := recoverable(&info, cfg.Owner); err != nil {
		return nil, fail(err)
	}
	p, err := getParams(ctx, id)
	if err != nil {
		return nil, fail(err)
	}
	f := Features(info.Flags)
	cfg.ID, cfg.Queues, cfg.Depth, cfg.MaxIO = id, int(info.Queues), int(info.Depth), int(info.MaxIOBytes)
	cfg.Mode, cfg.Recovery, cfg.Owner, cfg.Geometry = modeOf(f), recoveryOf(f), info.OwnerTag, geometryOf(&p)
	cfg.NoPartitionScan = f.Has(FeatureNoPartitionScan)
	if err := cfg.complete(); err != nil {
		return nil, fail(err)
	}
	d := &Device{cfg: cfg, size: cfg.Size, info: info, control: make(chan struct{}, 1), char: -1}
	if err := startRecovery(ctx, id); err != nil {
		return nil, fail(err)
	}
	if err := d.openChar(ctx); err != nil {
		return nil, fail(err)
	}
	d.setPhase(phaseRecover)
	return d, nil
}

func recoverable(info *uapi.DevInfo, owner uint64) error {
	switch {
	case owner != 0 && info.OwnerTag != owner:
		return fmt.Errorf("%w: it belongs to another owner (tag %#x, not %#x)", ErrState, info.OwnerTag, owner)
	case !Features(info.Flags).Has(FeatureRecovery):
		return fmt.Errorf("%w: it was made without recovery", ErrState)
	case info.State == uapi.StateDead:
		return fmt.Errorf("%w: its disk was never started or has been stopped", ErrState)
	}
	return nil
}

// startRecovery retries while the old server's file is open: the kernel lets go of it some time after the process has died.
//
// A server that died between its Recover and its last fetch has left a device whose recovery has begun. Some kernels, 6.12 for one, refuse to
// begin it twice, by EINVAL; it goes on with the next server's fetches. What else they refuse so, recoverable has ruled out.
func startRecovery(ctx context.Context, id int) error {
	for held := false; ; {
		err := devCommand(ctx, uapi.CmdStartUserRecovery, id, 0)
		if errors.Is(err, unix.EBUSY) {
			held = true
			if err = pause(ctx, 20*time.Millisecond); err == nil {
				continue
			}
		}
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil && held && ctx.Err() != nil {
			return fmt.Errorf("%w: its old server still holds it: %w", ErrBusy, err)
		}
		return err
	}
}

func devInfo(ctx context.Context, id int) (uapi.DevInfo, error) {
	var info uapi.DevInfo
	err := devExchange(ctx, uapi.CmdGetDevInfo, uint32(id), &info)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("%w: %w", ErrNotExist, err)
	}
	return info, err
}
