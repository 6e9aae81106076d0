package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/ublk"
)

// An order is a verb that only passes something on to the daemon.
type order struct {
	verb, usage string
	flags       []cli.Flag
}

var orders = []order{
	{replication.VerbAttach, "attach the backing disk", nil},
	{replication.VerbDetach, "give the backing disk up", []cli.Flag{
		boolFlag("force", "do not ask the peer, and give up what is in flight on the disk, also an attach; its memory is kept until the kernel has ended it")}},
	{replication.VerbConnect, "look for the peer", []cli.Flag{
		boolFlag("discard-my-data", "after a split brain: give up what this node wrote since")}},
	{replication.VerbDisconnect, "end the connection", []cli.Flag{
		boolFlag("force", "do not ask the peer, and give up a disk that does not answer")}},
	{replication.VerbPrimary, "become Primary: the block device appears", []cli.Flag{
		boolFlag("force", "also without UpToDate data", "overwrite-data-of-peer")}},
	{replication.VerbSecondary, "become Secondary: the block device goes", nil},
	{replication.VerbInvalidate, "discard the local data and copy the peer's", nil},
	{replication.VerbInvalidateRemote, "discard the peer's data and copy the local one there", nil},
	{replication.VerbPauseSync, "pause the resync", nil},
	{replication.VerbResumeSync, "let a paused resync go on", nil},
	{replication.VerbNewCurrentUUID, "begin a new data generation", []cli.Flag{
		boolFlag("clear-bitmap", "declare both disks equal: no initial sync")}},
}

// stateCommands are the orders as commands.
func (w *world) stateCommands() []*cli.Command {
	var out []*cli.Command
	for _, o := range orders {
		out = append(out, &cli.Command{
			Name: o.verb, Usage: o.usage, ArgsUsage: "TARGET...", Category: "STATES", Flags: o.flags,
			Action: timed(medium, func(c *cli.Context) error {
				targets, err := w.running(c)
				if err != nil {
					return err
				}
				return w.together(c, targets, func(ctx context.Context, t target) error {
					err := give(ctx, runDir(c), t, replication.Verb{
						Verb: o.verb, Volume: t.verbVolume(), Force: c.Bool("force"),
						DiscardMyData: c.Bool("discard-my-data"), ClearBitmap: c.Bool("clear-bitmap"),
					})
					if err == nil && o.verb == replication.VerbPrimary {
						w.findPartitions(ctx, c, t)
					}
					return err
				})
			}),
		})
	}
	return out
}

// findPartitions makes the partitions of a Primary's devices appear, which a recent kernel does not do by itself. The daemon
// cannot: its end would wait for its own disk. What fails is said; the node is Primary all the same.
func (w *world) findPartitions(ctx context.Context, c *cli.Context, t target) {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if err != nil {
		w.say(slog.LevelWarn, fmt.Sprintf("%s: it is Primary, and its devices were not looked at for partitions: %v", t, err))
		return
	}
	for _, d := range st.Devices {
		if d.Path == "" {
			continue
		}
		if err := ublk.FindPartitions(ctx, d.Path); err != nil {
			w.say(slog.LevelWarn, fmt.Sprintf("%s: it is Primary, but partitions may be missing: %v; try: blockdev --rereadpt %s", t, err, d.Path))
		}
	}
}

// give passes an order on.
func give(ctx context.Context, runDir string, t target, v replication.Verb) error {
	client, err := replication.Dial(runDir, t.resource)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Command(ctx, v)
}
