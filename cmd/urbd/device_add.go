package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/ublk"
)

// What a device offers to the block layer. The engine takes requests of 1 MiB and discards of 128 MiB; half
// of the former keeps the locked memory of a device at 32 MiB.
const (
	deviceDepth = 64
	deviceMaxIO = 512 << 10
	maxDiscard  = 128 << 20
)

// ublkDevices makes the devices of volumes with package ublk. It implements replication.Devices.
type ublkDevices struct {
	host   string // of the resource: two nodes may live on one machine
	left   leftovers
	logger *slog.Logger
	failed func(error) // is told when a device cannot be served any more
}

// Clear removes what a dead predecessor of ours left behind of a volume, unless it is to be adopted (cfg.Recover).
func (u *ublkDevices) Clear(ctx context.Context, cfg replication.DeviceConfig) error {
	_, err := u.clear(ctx, cfg, ownerTag(u.host, cfg.Resource, cfg.Volume))
	return err
}

// Add reserves the minor, or adopts what a dead predecessor of ours left behind (cfg.Recover).
func (u *ublkDevices) Add(ctx context.Context, cfg replication.DeviceConfig) (replication.Device, error) {
	owner := ownerTag(u.host, cfg.Resource, cfg.Volume)
	d := &device{volume: cfg.Volume, resource: cfg.Resource, names: u.left.names, logger: u.logger, failed: u.failed}
	stale, err := u.clear(ctx, cfg, owner)
	if err != nil {
		return nil, err
	}
	if stale {
		d.dev, err = ublk.Recover(ctx, cfg.Minor, ublk.Config{Spare: deviceDepth, Owner: owner, Logger: u.logger})
		d.adopted = true
		d.adoption.found()
	} else {
		d.dev, err = ublk.Create(ctx, deviceConfig(cfg, owner, u.logger))
	}
	if err != nil {
		return nil, u.addError(ctx, cfg, err)
	}
	d.slots = make([]slot, d.dev.Config().Depth)
	u.logger.Info("block device reserved", "device", d.Path(), "volume", cfg.Volume, "mode", d.dev.Config().Mode, "adopted", d.adopted)
	return d, nil
}

func deviceConfig(cfg replication.DeviceConfig, owner uint64, logger *slog.Logger) ublk.Config {
	depth := cfg.Depth
	if depth == 0 {
		depth = deviceDepth
	}
	out := ublk.Config{
		ID: cfg.Minor, Depth: depth, Spare: depth, MaxIO: deviceMaxIO, Mode: ublk.ModeCopy, Recovery: ublk.RecoverReissue, Owner: owner,
		NoPartitionScan: true, Logger: logger,
		Geometry: ublk.Geometry{
			Size: cfg.Size, LogicalBlock: cfg.BlockSize, PhysicalBlock: max(cfg.BlockSize, 4096), Volatile: true, FUA: true,
			MaxWriteZeroes: maxDiscard,
		},
	}
	if cfg.DiscardUnit > 0 {
		out.DiscardUnit, out.MaxDiscard = cfg.DiscardUnit, maxDiscard/int64(cfg.DiscardUnit)*int64(cfg.DiscardUnit)
	}
	return out
}

// ownerTag marks the devices of a volume, so that they are found again after a crash, also with another minor.
func ownerTag(host, resource string, volume int) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "urbd/%s/%s/%d", host, resource, volume)
	return h.Sum64() | 1 // 0 means nobody
}

// clear removes the volume's devices that nobody serves any more, unless they are in use. adopt says that the one with our
// minor is left, because its users wait for a server and it can be taken over.
func (u *ublkDevices) clear(ctx context.Context, cfg replication.DeviceConfig, owner uint64) (adopt bool, err error) {
	found, err := u.left.driver.list(ctx, func(i *ublk.Info) bool { return i.Owner == owner })
	if err != nil {
		return false, err
	}
	for _, i := range found {
		switch {
		case !i.Orphan:
			return false, &replication.AlreadyRunningError{Resource: cfg.Resource, PID: max(i.Server, 0)}
		case cfg.Recover && i.ID == cfg.Minor && i.State != ublk.StateDead && i.Recovery != ublk.RecoverNone:
			adopt = true
		default:
			u.logger.Warn("removing a block device that a dead daemon left behind", "device", ublk.BlockPath(i.ID), "state", i.State.String())
			again := fmt.Sprintf("unmount it or end what uses it, or give volume %d minor %d again", cfg.Volume, i.ID)
			if err := u.left.drop(ctx, i.ID, again); err != nil {
				return false, err
			}
		}
	}
	return adopt, nil
}

// addError says what stands in the way of a new device, and what to do about it.
func (u *ublkDevices) addError(ctx context.Context, cfg replication.DeviceConfig, err error) error {
	if !errors.Is(err, ublk.ErrExist) {
		return err
	}
	holder := "another program"
	if i, err := ublk.Lookup(ctx, cfg.Minor); err == nil && i.Server > 0 {
		holder = fmt.Sprintf("process %d", i.Server)
	}
	return fmt.Errorf("minor %d is taken: %s belongs to %s; give the volume another minor in the configuration: %w",
		cfg.Minor, ublk.BlockPath(cfg.Minor), holder, err)
}
