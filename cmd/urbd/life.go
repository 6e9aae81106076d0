package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

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
				return w.each(c, targets, func(ctx context.Context, t target) error { return do(ctx, c, t) })
			}),
		}
	}
	return []*cli.Command{
		row("up", "start the daemon of a resource: attach its disks, look for the peer", []cli.Flag{noSystemd}, w.targets, w.up),
		row("down", "end the daemon of a resource", []cli.Flag{
			boolFlag("force", "do not ask the peer, and give up a disk that does not answer")}, w.running, w.down),
		row("adjust", "make the running state equal to the configuration", []cli.Flag{noSystemd}, w.targets, w.adjust),
		{
			Name: "run", Usage: "be the daemon of a resource, in the foreground", ArgsUsage: "RES", Category: "LIFE",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "log-level", Usage: "log from `LEVEL` on: debug, info, warn, error", Value: "info"}},
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
	return w.start(ctx, c, t)
}

// start makes systemd start the daemon where it can, and starts it itself elsewhere.
func (w *world) start(ctx context.Context, c *cli.Context, t target) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("a daemon needs root, and you are user %d: sudo urbd %s %s", os.Geteuid(), c.Command.Name, t)
	}
	if !c.Bool("no-systemd") && ordinary(c) && systemdServes() {
		return systemdStart(ctx, t.resource)
	}
	options, err := globals(c)
	if err != nil {
		return err
	}
	return spawn(ctx, spawnConfig{
		resource: t.resource, runDir: runDir(c), logDir: c.String("log-dir"), arguments: append(options, "run", t.resource),
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

// down ends the daemon and waits for its end. A resource that is not up is down; what a daemon that died left
// behind is removed.
func (w *world) down(ctx context.Context, c *cli.Context, t target) error {
	for {
		st, err := snapshot(ctx, runDir(c), t.resource)
		if notUp := new(replication.NotRunningError); errors.As(err, &notUp) {
			err = w.clean(ctx, c, t)
		} else if err == nil {
			err = w.end(ctx, c, t, st.PID)
		}
		other := new(replication.AlreadyRunningError)
		if !errors.As(err, &other) {
			return err
		}
		select { // a daemon that begins will answer, one that ends will let go of the lock
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("process %d does not begin or end to serve: %w", other.PID, ctx.Err())
		}
	}
}

// clean removes what is left of a daemon that has died.
func (w *world) clean(ctx context.Context, c *cli.Context, t target) error {
	release, err := replication.Lock(runDir(c), t.resource)
	if err != nil {
		return err
	}
	defer release()
	return left(runDir(c)).sweep(ctx, t)
}

// end has a running daemon end.
func (w *world) end(ctx context.Context, c *cli.Context, t target, pid int) error {
	end, err := watchProcess(pid)
	if err != nil {
		return err
	}
	defer end.close()
	if err := give(ctx, runDir(c), t, replication.Verb{Verb: replication.VerbDown, Volume: t.verbVolume(), Force: c.Bool("force")}); err != nil {
		return err
	}
	if !c.Bool("force") {
		return end.wait(ctx)
	}
	soon, cancel := context.WithTimeout(ctx, exitPatience)
	defer cancel()
	if err := end.wait(soon); err != nil {
		fmt.Fprintf(w.err, "%s is down, and process %d cannot end before the kernel has ended its I/O on a disk that does not answer; "+
			"the backing device stays in use until then\n", t, pid)
	}
	return nil
}

// exitPatience is how long down --force waits for a daemon that has said that it is down.
const exitPatience = 15 * time.Second

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
		fmt.Fprintf(w.out, "%s: the configuration has changed (%s), restarting\n", t, changed)
		if err := w.down(ctx, c, t); err != nil {
			return err
		}
		return w.start(ctx, c, t)
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

// A process is a running process that may end at any time; its number does not become another's meanwhile.
type process struct{ fd int }

func watchProcess(pid int) (process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return process{-1}, nil
	}
	if err != nil {
		return process{-1}, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return process{fd}, nil
}

// wait returns when the process has ended.
func (p process) wait(ctx context.Context) error {
	if p.fd < 0 {
		return nil
	}
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int((100 * time.Millisecond).Milliseconds()))
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for the daemon: %w", err)
		}
		if n > 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("the daemon does not end: %w", err)
		}
	}
}

func (p process) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
}
