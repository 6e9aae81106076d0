package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/statemachine"
	"github.com/urbd/urbd/ublk"
)

// down ends the daemon and waits for its end. A resource that is not up is down; what a daemon that died left
// behind is removed, and no other is started in its place.
func (w *world) down(ctx context.Context, c *cli.Context, t target) error {
	for {
		err := w.downNow(ctx, c, t)
		other := new(replication.AlreadyRunningError)
		if !errors.As(err, &other) {
			return err
		}
		select { // a daemon that begins will answer, one that ends will let go of the lock
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("process %[1]d does not begin or end to serve (kill %[1]d ends a daemon in order): %[2]w", other.PID, ctx.Err())
		}
	}
}

// downNow is one try of down.
func (w *world) downNow(ctx context.Context, c *cli.Context, t target) error {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if notUp := new(replication.NotRunningError); !errors.As(err, &notUp) {
		if err != nil {
			return err
		}
		return w.end(ctx, c, t, st.PID)
	}
	if err := w.calm(ctx, c, t); err != nil {
		return err
	}
	if ordinary(c) && systemdServes() {
		if err := systemdForgetStart(ctx, t.resource); err != nil {
			return err
		}
	}
	return w.clean(ctx, c, t)
}

// downUnused is down when nobody uses the devices any more; it waits for that. Users who wait for a daemon get one first.
// At a shutdown it waits as long as there is somebody who may yet make the users go.
func (w *world) downUnused(ctx context.Context, c *cli.Context, t target) error {
	var inUse error // said by the last try that was whole
	for idle := 0; ; {
		err := w.unused(ctx, c, t)
		if err == nil {
			err = w.down(ctx, c, t)
		}
		abandoned, busy := new(usedError), new(ublk.BusyError)
		switch {
		case errors.As(err, &abandoned):
			if err := w.startForUsers(ctx, c, t); err != nil {
				return err
			}
		case errors.As(err, &busy), errors.Is(err, statemachine.DeviceInUse):
		case err != nil && inUse != nil && ctx.Err() != nil: // the time was up in the middle of a try
			return fmt.Errorf("%w; before that: %s", err, explain("", "down", inUse))
		default:
			return err
		}
		inUse = err
		if idle++; !onlyWeStop(ctx) {
			idle = 0
		}
		if idle > 1 { // one may have ended and the next not begun
			return err
		}
		select {
		case <-time.After(patience / 10):
		case <-ctx.Done():
			return err
		}
	}
}

// startForUsers is start, also when the machine shuts down.
func (w *world) startForUsers(ctx context.Context, c *cli.Context, t target) error {
	if ordinary(c) && systemdServes() {
		return systemdStart(ctx, t.resource, atShutdown)
	}
	return w.start(ctx, c, t)
}

// unused is a *ublk.BusyError while somebody uses a device that is served.
func (w *world) unused(ctx context.Context, c *cli.Context, t target) error {
	st, err := snapshot(ctx, runDir(c), t.resource)
	if notUp := new(replication.NotRunningError); errors.As(err, &notUp) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range st.Devices {
		if d.Path == "" {
			continue
		}
		if err := left(runDir(c)).unused(d.Minor); err != nil {
			return err
		}
	}
	return nil
}

// calm makes a daemon that only waits before it begins not begin, and forgets why it waited: see startRecord.
func (w *world) calm(ctx context.Context, c *cli.Context, t target) error {
	if ordinary(c) && systemdServes() {
		release, err := replication.Lock(runDir(c), t.resource)
		if other := new(replication.AlreadyRunningError); errors.As(err, &other) {
			return nil // it has begun
		}
		if err != nil {
			return err
		}
		if err := release(); err != nil {
			return err
		}
		if err := systemdCalm(ctx, t.resource); err != nil {
			return err
		}
	}
	return startRecord{runDir(c), t.resource}.forget()
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

// end has a running daemon end. A *replication.CarriedOutError is said of one that has.
func (w *world) end(ctx context.Context, c *cli.Context, t target, pid int) error {
	end, err := watchProcess(pid)
	if err != nil {
		return err
	}
	defer end.close()
	said := give(ctx, runDir(c), t, replication.Verb{Verb: replication.VerbDown, Volume: t.verbVolume(), Force: c.Bool("force")})
	if lacks := new(replication.CarriedOutError); said != nil && !errors.As(said, &lacks) {
		return said
	}
	if !c.Bool("force") {
		return errors.Join(end.wait(ctx), said)
	}
	soon, cancel := context.WithTimeout(ctx, exitPatience)
	defer cancel()
	if err := end.wait(soon); err != nil {
		w.say(slog.LevelWarn, fmt.Sprintf("%s is down, and process %d cannot end before the kernel has ended its I/O on a disk that does not answer; "+
			"the backing device stays in use until then", t, pid))
	}
	return said
}

// exitPatience is how long down --force waits for a daemon that has said that it is down.
const exitPatience = 5 * time.Second

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
