package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/config"
)

func main() {
	out := &output{file: os.Stdout}
	w := &world{in: os.Stdin, out: out, err: os.Stderr, hostname: os.Hostname, addresses: addresses, etc: etc}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends what does not end by itself
	code := w.run(ctx, os.Args[1:])
	if code == exitOK && out.failed != nil {
		code = exitCode(w.report("", "", out.failed))
	}
	stop()
	os.Exit(code)
}

// output is standard output. What it did not take is a failure of the command, whichever verb has written it.
type output struct {
	file   *os.File
	failed error // the first
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.file.Write(b)
	o.failed = cmp.Or(o.failed, err)
	return n, err
}

// Fd is for whoever wants to know whether it is a terminal.
func (o *output) Fd() uintptr { return o.file.Fd() }

// A world is what the verbs touch beside control sockets and disks.
type world struct {
	in        io.Reader
	answers   *bufio.Reader // of in, once somebody was asked
	out, err  io.Writer
	hostname  func() (string, error)
	addresses func() ([]netip.Addr, error)
	etc       disk

	printing sync.Mutex // of out and err, where a verb works on several resources at a time
}

// run is one command line, without the name of the program. It returns the exit code.
func (w *world) run(ctx context.Context, args []string) int {
	app := w.app()
	complete := len(args) > 0 && args[len(args)-1] == "--generate-bash-completion"
	if complete {
		args = args[:len(args)-1]
	}
	args, err := arrange(app, args)
	args = append([]string{app.Name}, args...)
	switch {
	case complete: // the value that is missing is what is asked for
		err = app.RunContext(ctx, append(args, "--generate-bash-completion"))
	case err == nil:
		err = app.RunContext(ctx, args)
	}
	return exitCode(w.report("", "", err))
}

// report says an error that has not been said, and leaves its exit code.
func (w *world) report(subject, verb string, err error) error {
	if _, said := err.(failure); err == nil || said {
		return err
	}
	w.say(slog.LevelError, explain(subject, verb, err))
	return failure(exitCode(err))
}

// chooser finds this host's section of a resource, by --host or uname -n, and the peer's, by --peer.
func (w *world) chooser(c *cli.Context) (chooser, error) {
	name := c.String("host")
	if name == "" {
		var err error
		if name, err = w.hostname(); err != nil {
			return nil, fmt.Errorf("name of this machine: %w", err)
		}
	}
	addrs, err := w.addresses()
	if err != nil {
		return nil, err
	}
	return func(r *config.Resource) (local, peer *config.Host, err error) {
		return r.Pair(name, addrs, c.String("peer"))
	}, nil
}

// load reads the configuration and says its warnings; notes only where somebody looks at the configuration, or at a
// start, since every verb would repeat them.
func (w *world) load(c *cli.Context) (*config.Config, error) {
	cfg, err := w.etc.load(c.String("config"))
	if err != nil {
		return nil, err
	}
	for _, warning := range cfg.Warnings {
		switch {
		case !warning.Note:
			w.say(slog.LevelWarn, warning.String())
		case c.Command.Name == "dump" || c.Command.Name == "up":
			w.say(slog.LevelInfo, "note: "+warning.String())
		}
	}
	return cfg, nil
}

// targets are the targets of the command line, looked up in the configuration. That "all" is nothing is worth a warning: a
// misspelled name of the host looks like that.
func (w *world) targets(c *cli.Context) ([]target, error) {
	if c.NArg() == 0 {
		return nil, needTarget(c)
	}
	cfg, err := w.load(c)
	if err != nil {
		return nil, err
	}
	choose, err := w.chooser(c)
	if err != nil {
		return nil, err
	}
	out, leftOut, err := configured(cfg, c.Args().Slice(), choose)
	if err == nil && len(out) == 0 {
		w.say(slog.LevelWarn, fmt.Sprintf("of %d resources in the configuration none is for this host", len(leftOut)))
		for _, err := range leftOut {
			w.say(slog.LevelWarn, err.Error())
		}
	}
	return out, err
}

// running are the targets of the command line for a verb that only talks to daemons: it has to work
// whatever the configuration has become meanwhile, so only "all" and minor-N look into it.
func (w *world) running(c *cli.Context) ([]target, error) {
	var out []target
	for _, word := range c.Args().Slice() {
		t, err := parseTarget(word)
		if err != nil {
			return nil, err
		}
		if word == "all" || !isUp(c, t.resource) {
			return w.targets(c)
		}
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, needTarget(c)
	}
	return out, nil
}

// isUp says that a daemon listens on the control socket. One that may not be asked is there.
func isUp(c *cli.Context, resource string) bool {
	client, err := replication.Dial(runDir(c), resource)
	if err == nil {
		client.Close()
	}
	notUp := new(replication.NotRunningError)
	return !errors.As(err, &notUp)
}

func runDir(c *cli.Context) string { return c.String("run-dir") }

// stateDir is where daemons keep what outlives them. Those with a run directory of their own keep everything there.
func stateDir(c *cli.Context) string {
	if dir := runDir(c); dir != replication.DefaultRunDir {
		return dir
	}
	return replication.DefaultStateDir
}

func needTarget(c *cli.Context) error {
	return usageError(fmt.Sprintf("%s needs a target: all, RES or RES/VOL; see: urbd help %s", c.Command.Name, c.Command.Name))
}
