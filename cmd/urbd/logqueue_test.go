package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// gated is a writer that takes its first line when the gate opens.
type gated struct {
	came, open chan struct{}
	lines      []string
}

func (g *gated) Write(line []byte) (int, error) {
	if g.lines == nil {
		close(g.came)
		<-g.open
	}
	g.lines = append(g.lines, strings.TrimSpace(string(line)))
	return len(line), nil
}

// Who logs never waits for who reads. What was left out is counted, and the rest comes in order.
func TestLogThatIsNotRead(t *testing.T) {
	out := &gated{came: make(chan struct{}), open: make(chan struct{})}
	q := newLogQueue(out)
	log := slog.New(slog.NewTextHandler(q, nil))
	log.Info("flood", "i", 0)
	<-out.came
	const lost = 50
	for i := range queuedLines + lost {
		log.Info("flood", "i", 1+i)
	}
	if q.flush() {
		t.Fatal("everything is written, and nobody reads")
	}
	close(out.open)
	if !q.flush() {
		t.Fatal("what was queued is not written")
	}
	log.Info("the last line")
	if !q.flush() {
		t.Fatal("the last line is not written")
	}
	want := []string{"msg=flood i=0", fmt.Sprintf("lines=%d", lost)}
	for i := range queuedLines {
		want = append(want, fmt.Sprintf("msg=flood i=%d", 1+i))
	}
	want = append(want, `msg="the last line"`)
	if len(out.lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(out.lines), len(want))
	}
	for i, w := range want {
		if !strings.HasSuffix(out.lines[i], w) {
			t.Errorf("line %d is %q, want %q", i, out.lines[i], w)
		}
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
