package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
)

// metadataCommands work on disks that no daemon has.
func (w *world) metadataCommands() []*cli.Command {
	force := boolFlag("force", "do not ask")
	rows := []struct {
		name, usage string
		flags       []cli.Flag
		writes      bool
		do          func(context.Context, *cli.Context, target, *config.Volume) error
	}{
		{"create-md", "write fresh metadata: the disk becomes a new replica", []cli.Flag{force}, true, w.createMD},
		{"wipe-md", "destroy the metadata", []cli.Flag{force}, true, w.wipeMD},
		{"dump-md", "print the metadata", nil, false, w.dumpMD},
		{"apply-al", "replay the activity log of a crashed node", nil, true, w.applyAL},
	}
	var out []*cli.Command
	for _, r := range rows {
		out = append(out, &cli.Command{
			Name: r.name, Usage: r.usage, ArgsUsage: "TARGET...", Category: "METADATA", Flags: r.flags,
			Action: timed(long, func(c *cli.Context) error {
				targets, err := w.targets(c)
				if err != nil {
					return err
				}
				return w.each(c, perVolume(targets), func(ctx context.Context, t target) error {
					if r.writes {
						if err := left(runDir(c)).spare(ctx, t); err != nil {
							return err
						}
					}
					return offline(c, t, r.do(ctx, c, t, t.volumes()[0]))
				})
			}),
		})
	}
	return out
}

// perVolume splits targets into one for each volume.
func perVolume(targets []target) []target {
	var out []target
	for _, t := range targets {
		for _, v := range t.volumes() {
			one := t
			one.volume = v.Number
			out = append(out, one)
		}
	}
	return out
}

// offline adds to a busy disk why it is busy, when it is our own daemon that has it.
func offline(c *cli.Context, t target, err error) error {
	var busy *replication.BusyError
	if errors.As(err, &busy) && isUp(c, t.resource) {
		return fmt.Errorf("%w; %s is up, take it down first: urbd down %s", err, t.resource, t.resource)
	}
	return err
}

func (w *world) createMD(ctx context.Context, c *cli.Context, t target, v *config.Volume) error {
	opt := replication.CreateOptions{Force: c.Bool("force")}
	create := func() error { return bounded(ctx, func() error { return replication.CreateMD(v, opt) }) }
	err := create()
	if found := new(replication.FoundError); errors.As(err, &found) {
		if err := w.confirm(ctx, fmt.Sprintf("%s holds %s; %s.\nDo you really want to create new metadata?", found.Device, found.What, found.Loss)); err != nil {
			return err
		}
		opt.Force = true
		err = create()
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(w.out, "%s: new metadata block successfully created on %s\n", t, metaPlace(v))
	return nil
}

func (w *world) wipeMD(ctx context.Context, c *cli.Context, t target, v *config.Volume) error {
	_, err := superblock(ctx, v)
	if none := new(metadata.Error); errors.As(err, &none) && none.Absent() {
		fmt.Fprintf(w.out, "%s: there is no metadata to wipe on %s\n", t, metaPlace(v))
		return nil
	}
	if err != nil {
		return err
	}
	if !c.Bool("force") {
		if err := w.confirm(ctx, fmt.Sprintf("The metadata of %s on %s will be destroyed.\nDo you really want to wipe it out?", t, metaPlace(v))); err != nil {
			return err
		}
	}
	if err := bounded(ctx, func() error { return replication.WipeMD(v) }); err != nil {
		return err
	}
	fmt.Fprintf(w.out, "%s: metadata wiped from %s\n", t, metaPlace(v))
	return nil
}

func (w *world) dumpMD(ctx context.Context, _ *cli.Context, _ target, v *config.Volume) error {
	return bounded(ctx, func() error { return replication.DumpMD(w.out, v) })
}

func (w *world) applyAL(ctx context.Context, _ *cli.Context, t target, v *config.Volume) error {
	var did replication.Applied
	err := bounded(ctx, func() (err error) { did, err = replication.ApplyAL(v); return err })
	if err != nil {
		return err
	}
	switch {
	case !did.Needed:
		fmt.Fprintf(w.out, "%s: the activity log is clean, nothing to do\n", t)
	case did.Full:
		fmt.Fprintf(w.out, "%s: the activity log cannot be trusted (%v): every block counts as out of sync now\n", t, did.Verdict)
	default:
		fmt.Fprintf(w.out, "%s: activity log applied: %d extents of 4 MiB count as out of sync now\n", t, did.Hot)
	}
	return nil
}

// metaPlace names where the metadata of a volume is.
func metaPlace(v *config.Volume) string {
	switch {
	case v.MetaDisk.Internal:
		return v.Disk + " (internal)"
	case v.MetaDisk.Index >= 0:
		return fmt.Sprintf("%s (index %d)", v.MetaDisk.Device, v.MetaDisk.Index)
	}
	return v.MetaDisk.Device
}

// confirm asks a question that only "yes" answers, as drbdmeta does. It waits no longer than ctx, and leaves the reading
// behind then; the process ends. Several questions share one reader: what is typed ahead answers the next one.
func (w *world) confirm(ctx context.Context, question string) error {
	fmt.Fprintf(w.err, "%s\n[need to type 'yes' to confirm] ", question)
	if w.answers == nil {
		w.answers = bufio.NewReader(w.in)
	}
	type line struct {
		text string
		err  error
	}
	answer := make(chan line, 1)
	go func() {
		text, err := w.answers.ReadString('\n')
		answer <- line{text, err}
	}()
	select {
	case a := <-answer:
		if a.err != nil && a.err != io.EOF {
			return fmt.Errorf("read the answer: %w", a.err)
		}
		if strings.TrimSpace(a.text) == "yes" {
			return nil
		}
		fmt.Fprintln(w.err)
		return usageError("not confirmed, nothing was changed; --force does not ask")
	case <-ctx.Done():
		fmt.Fprintln(w.err)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return usageError("nobody has confirmed in time, nothing was changed; --timeout waits longer, --force does not ask")
		}
		return usageError("interrupted before it was confirmed, nothing was changed")
	}
}
