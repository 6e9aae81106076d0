package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock makes the caller the only one who serves a resource, or removes what its daemon left behind: it takes
// RUNDIR/RES.lock. Held by somebody else, it is an *AlreadyRunningError. The lock belongs to an open file, so it ends with
// release or with the process, however that ends.
func Lock(runDir, resource string) (release func() error, err error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	path := filepath.Join(runDir, resource+".lock")
	f, err := OpenPlain(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of %s: %w", resource, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock of %s: %w", resource, err)
		}
		b := make([]byte, 16)
		n, _ := f.ReadAt(b, 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
		return nil, &AlreadyRunningError{Resource: resource, PID: pid}
	}
	f.Truncate(0)
	fmt.Fprintf(f, "%d\n", os.Getpid()) // for the message above only
	return f.Close, nil                 // the file stays: removing it would let two processes lock two files of the same name
}

// lockPatience is how long a daemon waits for a lock whose owner does not serve: it may be a command that looks at what a
// daemon left behind, and whoever restarts daemons would take "already running" for an answer.
const lockPatience = 10 * time.Second

// LockForDaemon is Lock for a daemon: it waits for an owner that does not serve.
func LockForDaemon(ctx context.Context, runDir, resource string) (release func() error, err error) {
	return lockWithin(ctx, runDir, resource, lockPatience)
}

func lockWithin(ctx context.Context, runDir, resource string, patience time.Duration) (release func() error, err error) {
	for late := time.Now().Add(patience); ; {
		release, err = Lock(runDir, resource)
		var running *AlreadyRunningError
		if !errors.As(err, &running) || serves(runDir, resource) {
			return release, err
		}
		if time.Now().After(late) {
			running.Silent = true
			return nil, running
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// serves says that a daemon answers on the control socket.
func serves(runDir, resource string) bool {
	c, err := Dial(runDir, resource)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// gcPercent keeps the small heap of the edges small; the hot path does not allocate.
const gcPercent = 50

// harden prepares the process for standing in the write path of the memory it runs in: a disk in
// user space must not need memory to free memory. What the system does not allow is a warning.
func harden(log *slog.Logger) {
	debug.SetGCPercent(gcPercent)
	warn := func(what string, err error) {
		if err != nil {
			log.Warn("under memory pressure this daemon may stall: "+what, "err", err)
		}
	}
	// ONFAULT: lock what is used, not the address space that Go has reserved.
	warn("its memory cannot be locked", unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT))
	warn("it may be killed when memory is short", os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0))
}
