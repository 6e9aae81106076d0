package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/ublk"
)

// serve is `urbd run RES`: the daemon. Whoever started it learns by sd_notify that it serves, or why it cannot. A hang-up of
// the terminal does not end it, since its disk is in use, and there is nothing to read again; nor does the end of whoever
// reads what it writes: at a shutdown the journal ends first. A crash ends it by a signal: the runtime's exit code is
// taken.
func (w *world) serve(c *cli.Context) error {
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	debug.SetTraceback("crash")
	file := io.Closer(nil)
	if path := c.String("log-file"); path != "" {
		log := rotatingLog(path)
		w.err, file = log, log
	}
	log := newLogQueue(w.err)
	w.err = log
	defer func() {
		if log.flush() && file != nil {
			file.Close()
		}
	}()
	err := w.daemon(c)
	if err != nil {
		text := explain(c.Args().First(), "run", err)
		w.say(slog.LevelError, text)
		if errors.Is(err, context.Canceled) && c.Context.Err() != nil {
			return nil // told to end before it served: no failure, after which systemd would start it again
		}
		text = strings.TrimPrefix(text, c.Args().First()+": ") // urbd up names the resource itself
		notify("STATUS=" + strings.ReplaceAll(text, "\n", "; "))
		return failure(exitCode(err))
	}
	return nil
}

func (w *world) daemon(c *cli.Context) error {
	if c.NArg() != 1 || c.Args().First() == "all" {
		return usageError("run serves one resource: urbd run RES")
	}
	word, err := parseTarget(c.Args().First())
	if err != nil {
		return err
	}
	logger, err := w.logger(c)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the daemon needs root, and you are user %d: sudo urbd run %s", os.Geteuid(), word)
	}
	librariesLogTo(logger)
	// First of all: whatever fails after this may fail again and again.
	starts := startRecord{runDir(c), word.resource}
	if !movedHere() {
		if err := starts.pause(c.Context, logger); err != nil {
			return err
		}
	}
	targets, err := w.targets(c)
	if err != nil {
		return err
	}
	if err := whole(c, targets); err != nil {
		return err
	}
	t := targets[0]
	needs, err := w.needs(c, t)
	if err != nil {
		return err
	}
	if log, ok := w.err.(*logQueue); ok {
		log.flush() // it may execute itself again
	}
	if err := settle(t.resource, needs, logger); err != nil {
		return err
	}
	if err := ublk.ProtectProcess(); err != nil {
		logger.Warn("under memory pressure this daemon may stall", "err", err)
	}
	ctx, fail := context.WithCancelCause(c.Context)
	defer fail(nil)
	forget := func() {}
	defer func() { forget() }()
	r, err := replication.New(replication.Config{
		Resource: t.conf, Local: t.local, Peer: t.peer, Logger: logger, RunDir: runDir(c), StateDir: stateDir(c), Recover: true,
		Devices: &ublkDevices{
			host: t.local.Name(), left: left(runDir(c)), logger: logger.With("resource", t.resource), failed: fail,
		},
		HeldUp: func(why string) { notify("STATUS=" + why) },
		Ready: func() {
			forget = func() { forgetConfig(runDir(c), t.resource) } // not that of another daemon, beside which this one is refused
			if err := rememberConfig(runDir(c), t); err != nil {
				logger.Warn("urbd adjust will not see what changes in the configuration", "err", err)
			}
			notify(daemon.SdNotifyReady + "\nSTATUS=serving " + t.resource)
		},
	})
	if err != nil {
		return err
	}
	if err := r.Run(ctx); err != nil {
		return err
	}
	notify(daemon.SdNotifyStopping)
	if cause := context.Cause(ctx); cause != nil && c.Context.Err() == nil {
		return cause // a device has failed: a fresh daemon takes over what this one could not end, after a pause if it fails again and again
	}
	starts.forget()
	return nil
}

// needs are the paths that a daemon works with.
func (w *world) needs(c *cli.Context, t target) ([]string, error) {
	needs, err := w.etc.read(c.String("config"))
	if err != nil {
		return nil, err
	}
	needs = append(needs, runDir(c), stateDir(c))
	if file := c.String("log-file"); file != "" {
		needs = append(needs, filepath.Dir(file)) // the file may not be there yet
	}
	for _, v := range t.local.Volumes {
		needs = append(needs, v.Disk)
		if !v.MetaDisk.Internal {
			needs = append(needs, v.MetaDisk.Device)
		}
	}
	if socket := os.Getenv("NOTIFY_SOCKET"); filepath.IsAbs(socket) {
		needs = append(needs, socket)
	}
	return needs, nil
}

// notify tells whoever started us. That nobody listens is fine.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }

// logger writes to standard error, which is the journal or the log file.
func (w *world) logger(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usageError(fmt.Sprintf("--log-level=%s: write debug, info, warn or error", c.String("log-level")))
	}
	return slog.New(logHandler(w.err, level)), nil
}

// logHandler writes records of a level and above, as the journal or a file wants them.
func logHandler(out io.Writer, level slog.Level) slog.Handler {
	if toJournal(out) {
		return newJournalHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})
	}
	return slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})
}

// librariesLogTo makes what libraries print by package log records too: of the control socket's server, for one.
func librariesLogTo(logger *slog.Logger) {
	slog.SetLogLoggerLevel(slog.LevelWarn)
	slog.SetDefault(logger)
}

// configRecord is where the daemon leaves the configuration that it runs with, for `urbd adjust`.
func configRecord(runDir, resource string) string { return filepath.Join(runDir, resource+".conf") }

func rememberConfig(runDir string, t target) error {
	text, err := configText(t)
	if err != nil {
		return err
	}
	path := configRecord(runDir, t.resource)
	if err := replication.WriteRecord(path, text, 0o600); err != nil { // it may hold a secret
		return errors.Join(err, forgetConfig(runDir, t.resource)) // that of another daemon would look like another configuration
	}
	return nil
}

// forgetConfig leaves no record, as before the start.
func forgetConfig(runDir, resource string) error {
	if err := os.Remove(configRecord(runDir, resource)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// configText is what the configuration says about a resource, without the place where it says it: a line that has moved
// changes nothing.
func configText(t target) ([]byte, error) {
	var text bytes.Buffer
	r := *t.conf
	r.Pos = config.Position{}
	err := config.Dump(&text, &config.Config{Resources: []*config.Resource{&r}})
	return text.Bytes(), err
}

// changedSince names the first line of the configuration that the running daemon does not have; empty if it has all.
func changedSince(runDir string, t target) (string, error) {
	now, err := configText(t)
	if err != nil {
		return "", err
	}
	then, err := replication.ReadRecord(configRecord(runDir, t.resource))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return firstChange(string(then), string(now)), nil
}

func firstChange(then, now string) string {
	a, b := strings.Split(then, "\n"), strings.Split(now, "\n")
	for i := range max(len(a), len(b)) {
		var old, fresh string
		if i < len(a) {
			old = strings.TrimSpace(a[i])
		}
		if i < len(b) {
			fresh = strings.TrimSpace(b[i])
		}
		if old == fresh {
			continue
		}
		if strings.Contains(old+fresh, "shared-secret") {
			return "shared-secret"
		}
		return fmt.Sprintf("%q is now %q", old, fresh)
	}
	return ""
}
