package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urbd/urbd/replication"
)

// spawnConfig says which daemon to start.
type spawnConfig struct {
	runDir    string
	logs      logFiles
	arguments []string // of the daemon, without the program
	program   string   // empty: this one
}

// A startError is a daemon that ended before it served, with the exit code that it had.
type startError struct {
	code int
	text string
}

func (e *startError) Error() string { return e.text }

// runtimeSettings are the Go runtime's for a daemon, as scripts/systemd/urbd@.service has them: a signal to a loop that is
// in its one system call would only cut it short.
const runtimeSettings = "GODEBUG=asyncpreemptoff=1"

// spawn starts a daemon that outlives us and waits until it serves. It listens to the daemon as systemd would:
// the daemon says READY=1 on the socket of NOTIFY_SOCKET, or STATUS= with the reason when it cannot start.
func spawn(ctx context.Context, cfg spawnConfig) error {
	if cfg.program == "" {
		var err error
		if cfg.program, err = os.Executable(); err != nil {
			return fmt.Errorf("find the program of the daemon: %w", err)
		}
	}
	stderr, err := cfg.logs.openStderr()
	if err != nil {
		return err
	}
	defer stderr.Close()
	notices, err := listenNotices(cfg.runDir)
	if err != nil {
		return err
	}
	defer os.Remove(notices.LocalAddr().String())
	defer notices.Close()
	cmd := exec.Command(cfg.program, cfg.arguments...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notices.LocalAddr().String(), runtimeSettings)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	return attend(ctx, cmd, notices, cfg.logs)
}

// attend waits for the first of: the daemon serves, it ends, the time is over.
func attend(ctx context.Context, cmd *exec.Cmd, notices *net.UnixConn, logs logFiles) error {
	ready, reason := make(chan struct{}), make(chan string, 1)
	go readNotices(notices, ready, reason)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ready:
		return nil
	case err := <-ended:
		endNotices(notices)
		return notStarted(err, <-reason, logs)
	case <-ctx.Done():
		err := giveUp(ctx, cmd, ended)
		endNotices(notices)
		if why := <-reason; why != "" {
			err = fmt.Errorf("%w; it said last: %s", err, why)
		}
		return fmt.Errorf("%w; its logs are %s", err, logs)
	}
}

// giveUp ends a daemon that has not come to serve in time.
func giveUp(ctx context.Context, cmd *exec.Cmd, ended <-chan error) error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("end the daemon that does not come up: %w", err)
		}
		select {
		case <-ended:
			return fmt.Errorf("the daemon has not come up: %w", ctx.Err())
		case <-time.After(12 * time.Second):
		}
	}
	return fmt.Errorf("process %d neither comes up nor ends: %w", cmd.Process.Pid, ctx.Err())
}

// notStarted is the failure of a daemon: its own words, or where to look for them.
func notStarted(err error, reason string, logs logFiles) error {
	code := exitSystem
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() > 0 {
		code = exit.ExitCode()
	}
	switch {
	case err == nil && reason == "":
		reason = "the daemon was told to end before it served"
	case err == nil:
		reason = "the daemon was told to end before it served; it said last: " + reason
	case reason == "":
		reason = fmt.Sprintf("the daemon has ended without a word (%v), its logs are %s", err, logs)
	}
	return &startError{code, reason}
}

// endNotices puts an end mark behind what the daemon, which has ended or is given up, has said: closing the socket would lose what
// is not read yet.
func endNotices(notices *net.UnixConn) {
	conn, err := net.DialUnix("unixgram", nil, notices.LocalAddr().(*net.UnixAddr))
	if err == nil {
		_, err = conn.Write([]byte(noticesEnd))
		conn.Close()
	}
	if err != nil {
		notices.Close()
	}
}

// noticesEnd is what endNotices sends; a daemon says KEY=VALUE.
const noticesEnd = "end"

// readNotices reads what the daemon says until the end mark, or until the socket is closed; then it sends the last status.
func readNotices(conn *net.UnixConn, ready chan<- struct{}, reason chan<- string) {
	buf := make([]byte, 64<<10)
	status := ""
	for {
		n, err := conn.Read(buf)
		if err != nil || string(buf[:n]) == noticesEnd {
			reason <- status
			return
		}
		for line := range strings.Lines(string(buf[:n])) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			switch {
			case key == "READY" && value == "1" && ready != nil:
				close(ready)
				ready = nil
			case key == "STATUS":
				status = value
			}
		}
	}
}

// spawned counts the daemons that this process has started.
var spawned atomic.Int32

// listenNotices makes the socket that the daemon speaks to. Nobody else may.
func listenNotices(runDir string) (*net.UnixConn, error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	path := filepath.Join(runDir, fmt.Sprintf(".start.%d.%d", os.Getpid(), spawned.Add(1)))
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	lc := net.ListenConfig{Control: replication.PrivateSocket}
	conn, err := lc.ListenPacket(context.Background(), "unixgram", path) // which waits for nothing
	if err != nil {
		return nil, fmt.Errorf("listen for the daemon: %w", err)
	}
	return conn.(*net.UnixConn), nil
}
