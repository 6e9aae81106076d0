package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A job is what systemd is to do with a unit, and is doing or has not begun.
type job struct {
	id    int
	unit  string
	kind  string // start, stop, restart, …
	state string // running or waiting
	after []int  // the jobs that it waits for
}

// jobs are all that systemd has.
type jobs []job

// waitsFor is how systemctl says what the job above waits for.
var waitsFor = regexp.MustCompile(`waiting for job (\d+) `)

// listJobs asks systemd. Names are in full: systemctl cuts them to the width of a terminal where there is none, too.
func listJobs(ctx context.Context) (jobs, error) {
	out, err := systemctl(ctx, "list-jobs", "--before", "--full", "--no-legend", "--plain").Output()
	if err != nil {
		return nil, fmt.Errorf("systemctl list-jobs: %w", err)
	}
	return parseJobs(string(out)), nil
}

// parseJobs reads lines of JOB UNIT TYPE STATE, each with the jobs below it that it waits for.
func parseJobs(text string) jobs {
	var all jobs
	for line := range strings.Lines(text) {
		if m := waitsFor.FindStringSubmatch(line); m != nil && len(all) > 0 {
			id, _ := strconv.Atoi(m[1]) // digits
			last := &all[len(all)-1]
			last.after = append(last.after, id)
			continue
		}
		f := strings.Fields(line)
		if len(f) != 4 {
			continue // "No jobs running."
		}
		if id, err := strconv.Atoi(f[0]); err == nil {
			all = append(all, job{id: id, unit: f[1], kind: f[2], state: f[3]})
		}
	}
	return all
}

// of is the job of a unit, nil if it has none.
func (all jobs) of(unit string) *job {
	for i := range all {
		if all[i].unit == unit {
			return &all[i]
		}
	}
	return nil
}

// stuck are the jobs from the one that j waits for to one that runs, or that waits for nothing we know of: that one is stuck.
func (all jobs) stuck(j *job) []*job {
	seen := map[int]bool{j.id: true}
	var walk func(j *job) []*job
	walk = func(j *job) (longest []*job) {
		for _, id := range j.after {
			if seen[id] {
				continue
			}
			seen[id] = true
			for i := range all {
				if next := &all[i]; next.id == id {
					way := append([]*job{next}, walk(next)...)
					if way[len(way)-1].state == "running" {
						return way
					}
					longest = way
				}
			}
		}
		return longest
	}
	return walk(j)
}

// onlyWeStop reports whether this machine shuts down, and systemd carries out nothing any more but the orderly ends of our
// devices. Of the jobs that wait, each waits for one that runs.
func (all jobs) onlyWeStop() bool {
	shutdown := false
	for _, j := range all {
		switch {
		case j.unit == "shutdown.target" && j.kind == "start":
			shutdown = true
		case j.state == "running" && !strings.HasPrefix(j.unit, "urbd-shutdown@"):
			return false
		}
	}
	return shutdown
}

// onlyWeStop asks systemd for its jobs.
func onlyWeStop(ctx context.Context) bool {
	all, err := listJobs(ctx)
	return err == nil && all.onlyWeStop()
}

// askPatience is how long systemd may take to say what it is about, when the time of the command is up already.
const askPatience = 5 * time.Second

// notInTime is the error for a systemctl that did not finish in time. It names the job that is stuck, and says what to do.
func notInTime(ctx context.Context, verb, unit string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("systemctl %s %s: %w", verb, unit, ctx.Err())
	}
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), askPatience)
	defer cancel()
	all, err := listJobs(ask)
	if err != nil {
		return &startError{exitSystem, fmt.Sprintf("systemd has not ended to %s %s in time, and does not say why (%v); look at: systemctl status %[2]s", verb, unit, err)}
	}
	return &startError{exitSystem, all.why(ask, verb, unit)}
}

// why says what keeps systemd from ending what it was asked for.
func (all jobs) why(ctx context.Context, verb, unit string) string {
	j := all.of(unit)
	if j == nil {
		return fmt.Sprintf("systemd had not ended to %s %s in time, and has by now; look at: systemctl status %[2]s", verb, unit)
	}
	way := all.stuck(j)
	if len(way) == 0 {
		said := ""
		if status, _ := systemdOutcome(ctx, unit); status != "" {
			said = ": " + status
		}
		return fmt.Sprintf("systemd has not ended to %s %s in time%s; its job %d is %s, and goes on; look at: systemctl status %[2]s; journalctl -u %[2]s", verb, unit, said, j.id, j.state)
	}
	var chain strings.Builder
	for i, w := range way {
		if i > 0 {
			chain.WriteString(", which waits for ")
		}
		fmt.Fprintf(&chain, "%s/%s", w.unit, w.kind)
	}
	end := way[len(way)-1]
	return fmt.Sprintf("systemd has not begun to %s %s: its job %d waits for %s, whose job %d is %s and does not end; look at: systemctl status %s; "+
		"when that job has ended, the %[1]s goes on by itself; to give the job up: systemctl cancel %[5]d", verb, unit, j.id, &chain, end.id, end.state, end.unit)
}
