package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeSystemctl puts a systemctl into PATH that fails to start units, and says what a unit said.
func fakeSystemctl(t *testing.T, show string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nif [ $1 = show ]; then printf '" + show + "'; else echo \"Job for $2 failed.\" >&2; exit 1; fi\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestSystemdStartHandsOnWhatTheUnitSaid(t *testing.T) {
	fakeSystemctl(t, `StatusText=/dev/sdb is in use by the mount at /mnt\nExecMainStatus=20\n`)
	err := systemdStart(t.Context(), "my-res")
	failed := new(startError)
	if !errors.As(err, &failed) || failed.code != 20 || failed.text != "/dev/sdb is in use by the mount at /mnt" {
		t.Errorf("systemdStart = %#v", err)
	}
}

func TestSystemdStartNamesTheJournalOfAUnitThatSaidNothing(t *testing.T) {
	fakeSystemctl(t, `StatusText=\nExecMainStatus=0\n`)
	err := systemdStart(t.Context(), "my-res")
	if exitCode(err) != exitSystem || !strings.Contains(err.Error(), `journalctl -u urbd@my-res.service`) || !strings.Contains(err.Error(), "failed.") {
		t.Errorf("systemdStart = %v, exit code %d", err, exitCode(err))
	}
}

// At a shutdown a plain start is refused, since it would have to start what the shutdown stops.
func TestSystemdStartAtShutdownIgnoresWhatStops(t *testing.T) {
	fakeSystemctl(t, `StatusText=\n`)
	err := systemdStart(t.Context(), "my-res", atShutdown)
	if err == nil || !strings.Contains(err.Error(), "Job for --job-mode=ignore-dependencies failed") {
		t.Errorf("systemctl got other words: %v", err)
	}
}

func TestOnlyOurJobsOfAShutdown(t *testing.T) {
	const shutdown = "7 urbd-shutdown@r0.service stop running\n8 shutdown.target start waiting\n9 rig-network.service stop waiting\n"
	for jobs, want := range map[string]bool{
		"":       false,
		shutdown: true,
		shutdown + "10 urbd-shutdown@r1.service stop running\n": true,
		shutdown + "10 mnt.mount stop running\n":                false,
		"7 urbd-shutdown@r0.service stop running\n":             false, // by hand
		"No jobs running.\n":                                    false,
	} {
		if got := parseJobs(jobs).onlyWeStop(); got != want {
			t.Errorf("%q: %v", jobs, got)
		}
	}
}
