package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
)

// lifeCommands start and end daemons.
func (w *world) lifeCommands() []*cli.Command {
	noSystemd := boolFlag("no-systemd", "start the daemon without systemd, which is used where its unit is installed")
	row := func(name, usage string, flags []cli.Flag, find func(*cli.Context) ([]target, error), do func(context.Context, *cli.Context, target) error) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "TARGET...", Category: "LIFE", Flags: flags,
			Action: timed(medium, func(c *cli.Context) error {
				targets, err := find(c)
				if err != nil {
					return err
				}
				if err := whole(c, targets); err != nil {
					return err
				}
				return w.together(c, targets, func(ctx context.Context, t target) error { return do(ctx, c, t) })
			}),
		}
	}
	return []*cli.Command{
		row("up", "start the daemon of a resource: attach its disks, look for the peer", []cli.Flag{noSystemd}, w.targets, w.up),
		row("down", "end the daemon of a resource", []cli.Flag{
			boolFlag("force", "do not ask the peer, and give up a disk that does not answer"),
			boolFlag("when-unused", "wait until nobody uses its devices any more"),
		}, w.running, func(ctx context.Context, c *cli.Context, t target) error {
			if c.Bool("when-unused") {
				return w.downUnused(ctx, c, t)
			}
			return w.down(ctx, c, t)
		}),
		row("adjust", "make the running state equal to the configuration", []cli.Flag{noSystemd}, w.targets, w.adjust),
		{
			Name: "run", Usage: "be the daemon of a resource, in the foreground", ArgsUsage: "RES", Category: "LIFE",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "log-level", Usage: "log from `LEVEL` on: debug, info, warn, error", Value: "info"},
				&cli.StringFlag{Name: "log-file", Usage: "log to `FILE`, which is rotated, instead of standard error"},
			},
			Action: w.serve,
		},
	}
}

// whole takes a resource's only volume for the resource, and refuses one of several: a daemon serves a whole resource.
// Of a target that was not looked up in the configuration the daemon knows better.
func whole(c *cli.Context, targets []target) error {
	for i := range targets {
		t := &targets[i]
		if t.volume == everyVolume || t.local == nil {
			continue
		}
		if len(t.local.Volumes) > 1 {
			return usageError(fmt.Sprintf("%s is for a whole resource, and %s has the volumes %s: urbd %[1]s %[2]s", c.Command.Name, t.resource, volumeList(t.local)))
		}
		t.volume = everyVolume
	}
	return nil
}

// up starts the daemon. One that is there is left alone, which is an error: what is in the configuration now may not be
// what it runs with.
func (w *world) up(ctx context.Context, c *cli.Context, t target) error {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if err == nil {
		return &replication.AlreadyRunningError{Resource: t.resource, PID: st.PID}
	}
	if notUp := new(replication.NotRunningError); !errors.As(err, &notUp) {
		return err
	}
	w.warnExposed(t.resource, t.conf.Exposed())
	return w.start(ctx, c, t)
}

// start makes systemd start the daemon where it can, and starts it itself elsewhere.
func (w *world) start(ctx context.Context, c *cli.Context, t target) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("a daemon needs root, and you are user %d: sudo urbd %s %s", os.Geteuid(), c.Command.Name, t)
	}
	if err := w.calm(ctx, c, t); err != nil {
		return err
	}
	if !c.Bool("no-systemd") && ordinary(c) && systemdServes() {
		return systemdStart(ctx, t.resource)
	}
	options, err := globals(c)
	if err != nil {
		return err
	}
	logs, err := logsOf(c.String("log-dir"), t.resource)
	if err != nil {
		return err
	}
	return spawn(ctx, spawnConfig{
		runDir: runDir(c), logs: logs, arguments: append(options, "run", "--log-file", logs.log, t.resource),
	})
}

// ordinary says that the command line changes nothing that the daemon of a systemd unit would not know.
func ordinary(c *cli.Context) bool {
	return c.String("config") == "" && c.String("host") == "" && c.String("peer") == "" && runDir(c) == replication.DefaultRunDir
}

// globals are the options of this command line that its daemon needs too. The daemon works in another directory.
func globals(c *cli.Context) ([]string, error) {
	var out []string
	for _, name := range []string{"run-dir", "config", "host", "peer"} {
		v := c.String(name)
		if v == "" {
			continue
		}
		if name == "config" {
			var err error
			if v, err = filepath.Abs(v); err != nil {
				return nil, err
			}
		}
		out = append(out, "--"+name, v)
	}
	return out, nil
}

// adjust starts what is not up, attaches and connects what is not, and restarts a Secondary whose configuration has changed.
func (w *world) adjust(ctx context.Context, c *cli.Context, t target) error {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if notUp := new(replication.NotRunningError); errors.As(err, &notUp) {
		return w.start(ctx, c, t)
	}
	if err != nil {
		return err
	}
	changed, err := changedSince(runDir(c), t)
	if err != nil {
		return err
	}
	if changed != "" {
		if st.Role == "Primary" {
			return &waitError{exitConfig, fmt.Sprintf("the configuration has changed (%s), which a restart takes up, and it is Primary; first: urbd secondary %s", changed, t)}
		}
		w.tell("%s: the configuration has changed (%s), restarting", t, changed)
		said := w.down(ctx, c, t)
		if lacks := new(replication.CarriedOutError); said != nil && !errors.As(said, &lacks) {
			return said
		}
		return errors.Join(w.start(ctx, c, t), said)
	}
	for _, v := range missing(&st) {
		if err := give(ctx, runDir(c), t, v); err != nil {
			return err
		}
	}
	return nil
}

// missing are the orders that bring a resource to where up leaves it.
func missing(st *replication.ResourceStatus) []replication.Verb {
	var out []replication.Verb
	for _, d := range st.Devices {
		if d.DiskState == "Diskless" {
			out = append(out, replication.Verb{Verb: replication.VerbAttach, Volume: &d.Volume})
		}
	}
	if standing := len(st.Connections) == 0 || st.Connections[0].ConnectionState == "StandAlone"; standing {
		out = append(out, replication.Verb{Verb: replication.VerbConnect})
	}
	return out
}
