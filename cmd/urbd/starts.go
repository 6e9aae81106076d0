package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication"
)

// A daemon that has lived for settled is one that works: when it dies, the next begins at once.
const settled = time.Minute

// startPauses are how long a daemon waits before it begins, by how many before it have died within a minute of their
// start, one after the other; the last stands for more.
var startPauses = [...]time.Duration{0, 0, 0, 1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 60 * time.Second}

// A startRecord is the file in which a daemon leaves when it began, for its successor. It is there while the daemon runs, and
// after it has died; an orderly end removes it. systemd could wait by itself, from 254 on, but never forgets a crash.
type startRecord struct{ runDir, resource string }

func (s startRecord) path() string { return filepath.Join(s.runDir, s.resource+".starts") }

// died is what a predecessor has left.
type died struct {
	at    time.Duration // since the machine was booted, when it began
	quick int           // daemons in a row that died within a minute of their start, itself not counted
}

// pauseAfter is what a daemon does that begins now and finds what a predecessor has left.
func (d died) pauseAfter(now time.Duration) (quick int, pause time.Duration) {
	if now-d.at < settled {
		quick = d.quick + 1
	}
	return quick, startPauses[min(quick, len(startPauses)-1)]
}

// pause waits as long as the deaths before ask for, and records this start. A record that cannot be read or written costs
// only the pause. That of a daemon which runs is left alone: beside one, this is a *replication.AlreadyRunningError.
func (s startRecord) pause(ctx context.Context, log *slog.Logger) error {
	if err := s.alone(ctx, func() {}); err != nil {
		return err
	}
	now, err := sinceBoot()
	if err != nil {
		return err
	}
	before, ok := s.read()
	quick, pause := 0, time.Duration(0)
	if ok {
		quick, pause = before.pauseAfter(now)
	}
	if pause > 0 {
		log.Warn("the daemon has died again and again within a minute of its start; waiting before the next one", "times", quick, "pause", pause)
		notify(fmt.Sprintf("STATUS=waiting %v, because it has died %d times in a row within a minute of its start", pause, quick))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.alone(ctx, func() {
		if err := s.write(died{now + pause, quick}); err != nil {
			log.Warn("should this daemon die at once, the next one will not wait before it begins", "err", err)
		}
	})
}

// alone calls f while no other daemon serves the resource, and none begins.
func (s startRecord) alone(ctx context.Context, f func()) error {
	release, err := replication.LockForDaemon(ctx, s.runDir, s.resource)
	if err != nil {
		return err
	}
	f()
	return release()
}

func (s startRecord) read() (d died, ok bool) {
	text, err := replication.ReadRecord(s.path())
	if err != nil {
		return died{}, false
	}
	n, err := fmt.Sscan(string(text), (*int64)(&d.at), &d.quick)
	return d, err == nil && n == 2 && d.quick >= 0 && d.quick < math.MaxInt
}

func (s startRecord) write(d died) error {
	return replication.WriteRecord(s.path(), fmt.Appendf(nil, "%d %d\n", int64(d.at), d.quick), 0o600)
}

// forget is for an orderly end, and for an administrator who wants a start now.
func (s startRecord) forget() error {
	if err := os.Remove(s.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sinceBoot is a clock that goes on while the machine sleeps and that nobody sets.
func sinceBoot() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
