package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
)

// showGI and getGI print the generation identifiers: of a daemon as it has them now, else as they are on disk.
// Source: docs/drbd-metadata.md 10.2.
func showGI(ctx context.Context, out io.Writer, c *cli.Context, t target) error {
	return generations(ctx, out, c, t, func(s *metadata.Superblock) string { return s.ShowGenerations() })
}

func getGI(ctx context.Context, out io.Writer, c *cli.Context, t target) error {
	return generations(ctx, out, c, t, func(s *metadata.Superblock) string { return s.Generations() + "\n" })
}

func generations(ctx context.Context, out io.Writer, c *cli.Context, t target, text func(*metadata.Superblock) string) error {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if notUp := new(replication.NotRunningError); errors.As(err, &notUp) {
		sb, err := superblock(ctx, t.volumes()[0])
		if err != nil {
			return err
		}
		fmt.Fprint(out, text(&sb))
		return nil
	}
	if err != nil {
		return err
	}
	sb, err := superblockOf(&st, t.volume)
	if err != nil {
		return err
	}
	fmt.Fprint(out, text(&sb))
	return nil
}

func superblock(ctx context.Context, v *config.Volume) (sb metadata.Superblock, err error) {
	err = bounded(ctx, func() (err error) { sb, err = replication.ReadSuperblock(v); return err })
	return sb, err
}

// superblockOf is what the superblock of a volume would say about the state that a status shows.
func superblockOf(st *replication.ResourceStatus, volume int) (metadata.Superblock, error) {
	if err := hasVolume(st, volume); err != nil {
		return metadata.Superblock{}, err
	}
	d := &st.Devices[slices.IndexFunc(st.Devices, func(d replication.DeviceStatus) bool { return d.Volume == volume })]
	if len(d.Generations) != 4 || !usable(d.DiskState) {
		return metadata.Superblock{}, &waitError{exitNoDisk, fmt.Sprintf("there is no disk attached (%s)", d.DiskState)}
	}
	var id [4]uint64
	for i, text := range d.Generations {
		var err error
		if id[i], err = strconv.ParseUint(text, 16, 64); err != nil {
			return metadata.Superblock{}, fmt.Errorf("generation %q of %s: %w", text, st.Name, err)
		}
	}
	peer, _ := peerDevice(st, volume)
	situation := metadata.Situation{
		DiskAboveInconsistent: d.DiskState != "Inconsistent",
		DiskAboveOutdated:     d.DiskState == "Consistent" || d.DiskState == "UpToDate",
		Primary:               st.Role == "Primary",
		HandshakeDone:         peer.connected && peer.ReplicationState != "Off",
		PeerOutdated:          peer.PeerDiskState == "Inconsistent" || peer.PeerDiskState == "Outdated",
	}
	return metadata.Superblock{
		Current: id[0], Bitmap: id[1], History: [2]uint64{id[2], id[3]}, LastAgreedSize: d.Size << 10, PeerMaxBIO: 1 << 20,
		Flags: metadata.Flags(0).Recalculate(situation),
	}, nil
}

// usable says that a disk state stands for a disk with generations.
func usable(state string) bool {
	return slices.Contains([]string{"Inconsistent", "Outdated", "Consistent", "UpToDate"}, state)
}
