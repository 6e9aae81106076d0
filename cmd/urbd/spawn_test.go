package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// fakeDaemon is a daemon that behaves as its first argument says.
func fakeDaemon() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	os.Stderr.WriteString("log of the daemon\n")
	switch os.Args[1] {
	case "serve":
		daemon.SdNotify(false, "STATUS=starting")
		daemon.SdNotify(false, "READY=1\nSTATUS=serving")
		<-stop
	case "fail":
		daemon.SdNotify(false, "STATUS=r0: /dev/sdb is in use by the mount at /mnt")
		os.Exit(20)
	case "die":
		os.Exit(3)
	case "end":
		daemon.SdNotify(false, "STATUS=the disk of volume 0 does not answer")
	case "hang":
		daemon.SdNotify(false, "STATUS=the disk of volume 0 does not answer")
		<-stop
	}
	os.Exit(0)
}

func testSpawn(t *testing.T, ctx context.Context, how string) (string, error) {
	t.Helper()
	t.Setenv("URBD_TEST_AS", "daemon")
	dir := t.TempDir()
	logs, err := logsOf(filepath.Join(dir, "log"), "r0")
	if err != nil {
		t.Fatal(err)
	}
	err = spawn(ctx, spawnConfig{runDir: filepath.Join(dir, "run"), logs: logs, arguments: []string{how}})
	log, rerr := os.ReadFile(logs.stderr)
	if rerr != nil {
		t.Fatal(rerr)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "run", ".start*")); len(left) > 0 {
		t.Errorf("spawn leaves %v behind", left)
	}
	return string(log), err
}

func TestSpawnReturnsWhenTheDaemonServes(t *testing.T) {
	_, err := testSpawn(t, t.Context(), "serve")
	if err != nil {
		t.Fatal(err)
	}
	endChildren(t)
}

// endChildren ends the daemon that outlives spawn, which is our child here.
func endChildren(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/children")
	if err != nil {
		t.Fatal(err)
	}
	children, _ := filepath.Glob("/proc/self/task/*/children")
	for _, c := range children {
		more, _ := os.ReadFile(c)
		text = append(append(text, ' '), more...)
	}
	for _, pid := range strings.Fields(string(text)) {
		n := 0
		for _, digit := range pid {
			n = n*10 + int(digit-'0')
		}
		syscall.Kill(n, syscall.SIGTERM)
	}
}

func TestSpawnHandsOnWhyTheDaemonCannotStart(t *testing.T) {
	_, err := testSpawn(t, t.Context(), "fail")
	failed := new(startError)
	if !errors.As(err, &failed) || failed.code != 20 || failed.text != "r0: /dev/sdb is in use by the mount at /mnt" {
		t.Errorf("spawn = %#v", err)
	}
	if exitCode(err) != 20 {
		t.Errorf("exit code %d", exitCode(err))
	}
}

func TestSpawnNamesTheLogOfADaemonThatSaysNothing(t *testing.T) {
	log, err := testSpawn(t, t.Context(), "die")
	if err == nil || !strings.Contains(err.Error(), "r0.log") || exitCode(err) != 3 {
		t.Errorf("spawn = %v, exit code %d", err, exitCode(err))
	}
	if log != "log of the daemon\n" {
		t.Errorf("log: %q", log)
	}
}

func TestSpawnFailsWhenTheDaemonIsEndedBeforeItServes(t *testing.T) {
	_, err := testSpawn(t, t.Context(), "end")
	if err == nil || !strings.Contains(err.Error(), "told to end") || !strings.Contains(err.Error(), "does not answer") || exitCode(err) != exitSystem {
		t.Errorf("spawn = %v, exit code %d", err, exitCode(err))
	}
}

func TestSpawnEndsADaemonThatDoesNotComeUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := testSpawn(t, ctx, "hang")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "r0.log") || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("spawn = %v", err)
	}
}

// The daemon runs with the same settings of the Go runtime, whoever starts it.
func TestTheUnitHasTheRuntimeSettings(t *testing.T) {
	unit, err := os.ReadFile("../../scripts/systemd/urbd@.service")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(unit), "\nEnvironment="+runtimeSettings+"\n") {
		t.Errorf("the unit lacks Environment=%s", runtimeSettings)
	}
}

// Daemons that are started at the same time have sockets of their own.
func TestNoticesOfSeveralDaemons(t *testing.T) {
	dir := t.TempDir()
	first, err := listenNotices(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := listenNotices(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for _, conn := range []*net.UnixConn{first, second} {
		ready, reason := make(chan struct{}), make(chan string, 1)
		go readNotices(conn, ready, reason)
		t.Setenv("NOTIFY_SOCKET", conn.LocalAddr().String())
		notify("STATUS=for " + conn.LocalAddr().String())
		endNotices(conn)
		if got := <-reason; got != "for "+conn.LocalAddr().String() {
			t.Errorf("%s got %q", conn.LocalAddr(), got)
		}
	}
}
