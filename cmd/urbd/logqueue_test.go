package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who logs never waits for who reads. What was left out is counted, and the rest comes in order.
func TestLogThatIsNotRead(t *testing.T) {
	out, in := io.Pipe()
	q := newLogQueue(in)
	log := slog.New(slog.NewTextHandler(q, nil))
	const many = queuedLines + 50
	for i := range many {
		log.Info("flood", "i", i)
	}
	if q.flush() {
		t.Fatal("everything is written, and nobody reads")
	}
	lines := bufio.NewScanner(out)
	next := func() string {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the log ends: %v", lines.Err())
		}
		return lines.Text()
	}
	lost := 0
	if line := next(); !strings.HasSuffix(line, "msg=flood i=0") { // was on its way
		t.Errorf("first %q", line)
	}
	line := next()
	if _, err := fmt.Sscanf(line[max(strings.Index(line, "lines="), 0):], "lines=%d", &lost); err != nil || lost < many-queuedLines-1 || lost > many-queuedLines {
		t.Errorf("%q, want how many of %d were left out, and there is room for %d: %v", line, many, queuedLines, err)
	}
	for i := 1; i < many-lost; i++ {
		if line := next(); !strings.HasSuffix(line, fmt.Sprintf("msg=flood i=%d", i)) {
			t.Fatalf("%q in the place of line %d", line, i)
		}
	}
	log.Info("the last line")
	if line := next(); !strings.HasSuffix(line, `msg="the last line"`) || !q.flush() {
		t.Errorf("in the end %q", line)
	}
}

// A daemon ends although nobody takes what it has to say.
func TestDaemonEndsWithoutAReaderOfItsLog(t *testing.T) {
	b := newBench(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		for full := make([]byte, 1); ; {
			if _, err := unix.Write(int(fd), full); err != nil {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), b.program(), "--run-dir", b.run, "-c", b.conf, "--host", "alpha", "run", "r7")
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer late.Stop()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitConfig && os.Getuid() == 0 {
		t.Errorf("it ended with %d (%v)", code, cmd.ProcessState)
	}
}
