package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// unitDirs are where systemd looks for unit files, in the order that it does.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}

// systemdServes says that systemd runs this machine and has our unit.
func systemdServes() bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	for _, dir := range unitDirs {
		if _, err := os.Stat(filepath.Join(dir, "urbd@.service")); err == nil {
			return true
		}
	}
	return false
}

// systemdStart starts the unit of a resource, whose name needs no escaping; it returns when the daemon has said that it
// serves.
func systemdStart(ctx context.Context, resource string, options ...string) error {
	unit := "urbd@" + resource + ".service"
	out, err := exec.CommandContext(ctx, "systemctl", slices.Concat([]string{"start"}, options, []string{unit})...).CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("systemctl start %s: %w", unit, ctx.Err())
	}
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		return fmt.Errorf("systemctl start %s: %w", unit, err)
	}
	status, code := systemdOutcome(ctx, unit)
	if status == "" {
		status = fmt.Sprintf("systemctl start %s: %s; look at: journalctl -u %s", unit, strings.TrimSpace(string(out)), unit)
	}
	return &startError{code, status}
}

// atShutdown has systemd start a unit though a shutdown stops what that unit wants and follows.
const atShutdown = "--job-mode=ignore-dependencies"

// systemdCalm ends the start of a daemon that is waiting because its predecessors have died at once: see startRecord. The
// unit of a daemon that serves, or ends, is left alone.
func systemdCalm(ctx context.Context, resource string) error {
	unit := "urbd@" + resource + ".service"
	out, err := exec.CommandContext(ctx, "systemctl", "show", "-p", "SubState", "--value", unit).Output()
	if err != nil || strings.TrimSpace(string(out)) != "start" {
		return nil // a unit that systemd does not know is not starting
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "stop", unit).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl stop %s: %w: %s", unit, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// onlyWeStop reports whether this machine shuts down, and systemd carries out nothing any more but the orderly ends of our devices.
func onlyWeStop(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--no-legend", "--plain").Output()
	return err == nil && onlyOurJobs(string(out))
}

// onlyOurJobs reads lines of JOB UNIT TYPE STATE. Of those that wait, each waits for one that runs.
func onlyOurJobs(jobs string) bool {
	shutdown := false
	for line := range strings.Lines(jobs) {
		f := strings.Fields(line)
		switch {
		case len(f) != 4:
			return false
		case f[1] == "shutdown.target" && f[2] == "start":
			shutdown = true
		case f[3] == "running" && !strings.HasPrefix(f[1], "urbd-shutdown@"):
			return false
		}
	}
	return shutdown
}

// systemdOutcome asks what the daemon said last and how it ended.
func systemdOutcome(ctx context.Context, unit string) (status string, code int) {
	code = exitSystem
	out, err := exec.CommandContext(ctx, "systemctl", "show", "-p", "StatusText", "-p", "ExecMainStatus", unit).Output()
	if err != nil {
		return "", code
	}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "StatusText":
			status = value
		case "ExecMainStatus":
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				code = n
			}
		}
	}
	return status, code
}
