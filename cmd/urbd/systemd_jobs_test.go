package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stuckNetwork are the jobs of a start in front of which another does not end, as systemd 252 prints them.
const stuckNetwork = "57 urbd@r0.service                                          start waiting\n" +
	"└─ \twaiting for job 59 (network-online.target/start)               -     -\n" +
	"59 network-online.target                                    start waiting\n" +
	"└─ \twaiting for job 61 (systemd-networkd-wait-online.service/start) -     -\n" +
	"└─ \twaiting for job 66 (other.target/start)                        -     -\n" +
	"66 other.target                                             start waiting\n" +
	"61 systemd-networkd-wait-online.service                     start running\n"

// busySystemctl puts a systemctl into PATH whose starts and stops do not end; it notes what was asked of it in a file.
func busySystemctl(t *testing.T, jobs, show string) (asked string) {
	t.Helper()
	dir := t.TempDir()
	asked = filepath.Join(dir, "asked")
	for name, text := range map[string]string{"jobs": jobs, "show": show, "systemctl": `#!/bin/sh
echo "$*" >>` + asked + `
case $1 in
list-jobs) cat ` + dir + `/jobs;;
show) cat ` + dir + `/show;;
*) exec sleep 600;;
esac
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return asked
}

func TestStuckJobIsNamed(t *testing.T) {
	const served = "StatusText=waiting for 12s: the daemon has died three times\nExecMainStatus=0\n"
	for name, tc := range map[string]struct {
		jobs string
		do   func(context.Context) error
		want []string
		not  string
	}{
		"in front of the start": {
			jobs: stuckNetwork, do: func(ctx context.Context) error { return systemdStart(ctx, "r0") },
			want: []string{"has not begun to start urbd@r0.service", "its job 57 waits for network-online.target/start, which waits for systemd-networkd-wait-online.service/start, whose job 61 is running",
				"systemctl status systemd-networkd-wait-online.service", "systemctl cancel 61"},
			not: "urbd status",
		},
		"in front of the stop": {
			jobs: "70 urbd@r0.service stop waiting\n└─ waiting for job 71 (mnt.mount/stop) - -\n71 mnt.mount stop running\n",
			do:   func(ctx context.Context) error { return systemdStop(ctx, "urbd@r0.service") },
			want: []string{"has not begun to stop urbd@r0.service", "mnt.mount/stop, whose job 71 is running", "systemctl cancel 71"},
		},
		"its own": {
			jobs: "57 urbd@r0.service start running\n", do: func(ctx context.Context) error { return systemdStart(ctx, "r0") },
			want: []string{"in time: waiting for 12s: the daemon has died three times", "its job 57 is running", "journalctl -u urbd@r0.service"},
			not:  "cancel",
		},
		"ended meanwhile": {
			jobs: "No jobs running.\n", do: func(ctx context.Context) error { return systemdStart(ctx, "r0") },
			want: []string{"has by now", "systemctl status urbd@r0.service"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			busySystemctl(t, tc.jobs, served)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := tc.do(ctx)
			text := explain("r0", "up", err)
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not say %q", text, want)
				}
			}
			if tc.not != "" && strings.Contains(text, tc.not) {
				t.Errorf("%q says %q", text, tc.not)
			}
			if exitCode(err) != exitSystem || time.Since(began) > 10*time.Second {
				t.Errorf("exit code %d after %v", exitCode(err), time.Since(began))
			}
		})
	}
}

// Who interrupts a command does not want to know why it took so long.
func TestInterruptedWaitForSystemd(t *testing.T) {
	asked := busySystemctl(t, stuckNetwork, "")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for { // until it has been asked
			if text, _ := os.ReadFile(asked); len(text) > 0 {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := systemdStart(ctx, "r0"); !errors.Is(err, context.Canceled) {
		t.Errorf("systemdStart = %v", err)
	}
}

// A start that waits for other jobs would bring a daemon long after its resource was taken down.
func TestDownTakesAWaitingStartBack(t *testing.T) {
	for jobs, want := range map[string]bool{
		stuckNetwork:                                  true,
		"57 urbd@r0.service stop waiting\n":           false,
		"57 urbd@r0.service start running\n":          false, // systemdCalm's
		"57 urbd@other.service start waiting\n":       false,
		"57 urbd-shutdown@r0.service start waiting\n": false,
	} {
		asked := busySystemctl(t, jobs, "")
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ctx.Err() == nil { // until it has been told to stop, which does not end
				if text, _ := os.ReadFile(asked); strings.Contains(string(text), "stop ") {
					cancel()
				}
				time.Sleep(time.Millisecond)
			}
		}()
		err := systemdForgetStart(ctx, "r0")
		cancel()
		said, _ := os.ReadFile(asked)
		if stopped := strings.Contains(string(said), "stop urbd@r0.service"); stopped != want || (err != nil) != want {
			t.Errorf("%q: stopped: %v, %v", jobs, stopped, err)
		}
	}
}

// Jobs may wait for each other in a circle, which systemd breaks by itself, later.
func TestJobsInACircle(t *testing.T) {
	all := parseJobs("1 a.service start waiting\n waiting for job 2 (b.service/start)\n2 b.service start waiting\n waiting for job 1 (a.service/start)\n waiting for job 9 (gone.service/start)\n")
	if way := all.stuck(&all[0]); len(way) != 1 || way[0].unit != "b.service" {
		t.Errorf("stuck = %v", way)
	}
}
