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
	"time"
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

// systemctl is a command of systemd's that ends with ctx, also when it has left a process behind that asks for passwords.
func systemctl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// systemdStart starts the unit of a resource, whose name needs no escaping; it returns when the daemon has said that it
// serves.
func systemdStart(ctx context.Context, resource string, options ...string) error {
	unit := "urbd@" + resource + ".service"
	out, err := systemctl(ctx, slices.Concat([]string{"start"}, options, []string{unit})...).CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return notInTime(ctx, "start", unit)
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
	out, err := systemctl(ctx, "show", "-p", "SubState", "--value", unit).Output()
	if err != nil || strings.TrimSpace(string(out)) != "start" {
		return nil // a unit that systemd does not know is not starting
	}
	return systemdStop(ctx, unit)
}

// systemdForgetStart takes back a start that waits for other jobs: of a resource that is down no daemon begins later.
func systemdForgetStart(ctx context.Context, resource string) error {
	unit := "urbd@" + resource + ".service"
	jobs, err := listJobs(ctx)
	if j := jobs.of(unit); err != nil || j == nil || j.kind != "start" || j.state != "waiting" {
		return nil
	}
	return systemdStop(ctx, unit)
}

func systemdStop(ctx context.Context, unit string) error {
	out, err := systemctl(ctx, "stop", unit).CombinedOutput()
	if err != nil && ctx.Err() != nil {
		return notInTime(ctx, "stop", unit)
	}
	if err != nil {
		return fmt.Errorf("systemctl stop %s: %w: %s", unit, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// systemdOutcome asks what the daemon said last and how it ended.
func systemdOutcome(ctx context.Context, unit string) (status string, code int) {
	code = exitSystem
	out, err := systemctl(ctx, "show", "-p", "StatusText", "-p", "ExecMainStatus", unit).Output()
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
