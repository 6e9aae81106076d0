package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
)

// Deadlines of verbs that are not told otherwise by --timeout. Source: docs/drbd-cli.md 2.3, cmd-timeout-*.
const (
	shortly = 5 * time.Second   // asks a daemon
	medium  = 121 * time.Second // changes a state
	long    = 600 * time.Second // reads or writes a whole disk's metadata
	forever = 0                 // waits: that is its purpose
)

const description = `TARGET is all, RES, RES/VOL or minor-N. Options may stand before or behind it.

The configuration is FILE of -c, or /etc/urbd.conf and /etc/urbd.d/*.res.

Exit codes: 0 done; 1 usage; 2 syntax of the configuration; 5 disk below Outdated, or
a wait timed out; 10 configuration invalid, or not up; 11 refused; 16 no local disk; 17 no
UpToDate disk; 20 anything else; 255 no valid metadata.`

// app is the command table.
func (w *world) app() *cli.App {
	app := &cli.App{
		Name:                 "urbd",
		Usage:                "block devices that two machines keep identical",
		UsageText:            "urbd [options] COMMAND [TARGET...]",
		Description:          description,
		Reader:               w.in,
		Writer:               w.out,
		ErrWriter:            w.err,
		HideVersion:          true,
		HideHelpCommand:      false,
		EnableBashCompletion: true,
		BashComplete:         w.completeCommand,
		ExitErrHandler:       func(*cli.Context, error) {},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "read `FILE` instead of the default configuration"},
			&cli.StringFlag{Name: "timeout", Usage: "give the command `TIME` (5, 90s, 2m); 0 waits for ever where waiting is the purpose"},
			&cli.StringFlag{Name: "run-dir", Usage: "control sockets are in `DIR`", Value: replication.DefaultRunDir, EnvVars: []string{"URBD_RUN_DIR"}},
			&cli.StringFlag{Name: "log-dir", Usage: "daemons that urbd starts itself log to `DIR`", Value: "/var/log/urbd", EnvVars: []string{"URBD_LOG_DIR"}},
			&cli.StringFlag{Name: "host", Usage: "act as host `NAME` of the configuration instead of uname -n"},
			boolFlag("version", "print the version"),
			&cli.StringFlag{Name: "peer", Aliases: []string{"P"}, Usage: "the peer is host `NAME`, for a resource of more than two"},
		},
		Before: wholeRunDir,
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usageError(fmt.Sprintf("%v; see: urbd help", err))
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.NArg() > 0:
				return usageError(fmt.Sprintf("there is no command %q; see: urbd help", c.Args().First()))
			case c.Bool("version"):
				return w.printVersion(c)
			}
			return cli.ShowAppHelp(c)
		},
	}
	app.Commands = slices.Concat(w.lifeCommands(), w.stateCommands(), w.metadataCommands(), w.lookCommands(), w.waitCommands(), w.otherCommands())
	for _, cmd := range app.Commands {
		w.finish(cmd)
	}
	return app
}

// wholeRunDir makes the run directory absolute: a daemon works in another directory, and gets the path of a socket in
// its environment.
func wholeRunDir(c *cli.Context) error {
	dir := runDir(c)
	if dir == "" {
		dir = replication.DefaultRunDir
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	return c.Set("run-dir", dir)
}

// finish gives every command what they all have.
func (w *world) finish(cmd *cli.Command) {
	cmd.HideHelpCommand = true
	action := cmd.Action
	cmd.Action = func(c *cli.Context) error { return w.report("", cmd.Name, action(c)) }
	cmd.OnUsageError = func(c *cli.Context, err error, _ bool) error {
		return usageError(fmt.Sprintf("%s: %v; see: urbd help %s", cmd.Name, err, cmd.Name))
	}
	if cmd.BashComplete == nil {
		cmd.BashComplete = func(c *cli.Context) { w.complete(c, cmd) }
	}
}

// timed gives an action its deadline: --timeout, or limit. Only a verb whose limit is forever may wait without one.
func timed(limit time.Duration, action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		d := limit
		if c.IsSet("timeout") {
			var err error
			if d, err = parseTime(c.String("timeout")); err != nil {
				return err
			}
			if d == 0 && limit != forever {
				return usageError(fmt.Sprintf("%s cannot wait for ever; give --timeout more than 0", c.Command.Name))
			}
		}
		if d > 0 {
			ctx, cancel := context.WithTimeout(c.Context, d)
			defer cancel()
			c.Context = ctx
		}
		return action(c)
	}
}

// parseTime reads seconds, as drbdadm's options are given, or a duration with its unit.
func parseTime(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, usageError(fmt.Sprintf("%q is no time; write seconds (90) or a unit (90s, 2m)", s))
	}
	return d, nil
}

// bounded waits for work that has no context of its own: disk I/O, which nothing can interrupt. A
// deadline leaves the work behind; the process ends then.
func bounded(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the disk does not answer: %w", ctx.Err())
	}
}

func boolFlag(name, usage string, aliases ...string) cli.Flag {
	return &cli.BoolFlag{Name: name, Usage: usage, Aliases: aliases}
}
