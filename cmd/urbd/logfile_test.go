package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever a daemon says, its log stays within its bound, and the newest is there.
func TestLogIsBounded(t *testing.T) {
	logs, err := logsOf(t.TempDir(), "r0")
	if err != nil {
		t.Fatal(err)
	}
	out := rotatingLog(logs.log)
	log := slog.New(slog.NewTextHandler(out, nil))
	long := strings.Repeat("x", 100<<10)
	for i := range (2 + logsKept) * logMegabytes * 10 * 2 {
		log.Info("flood", "i", i, "text", long)
	}
	log.Info("the last line")
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(filepath.Join(filepath.Dir(logs.log), "*"))
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, f := range all {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o640 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
		sum += info.Size()
	}
	if len(all) != 1+logsKept || sum > (1+logsKept)*logMegabytes<<20 {
		t.Errorf("%d files, %d bytes: %v", len(all), sum, all)
	}
	newest, err := os.ReadFile(logs.log)
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(newest)), `msg="the last line"`) {
		t.Errorf("the newest is not in %s: %v", logs.log, err)
	}
}

// A daemon that is told a file says everything there, also why it ends.
func TestDaemonLogsToItsFile(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(b.dir, "r7.log")
	if got := b.urbd("run --log-file " + file + " r7"); got.code != 10 || got.err != "" {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), `there is no resource "r7"`) {
		t.Errorf("%q, %v", text, err)
	}
}

// The last words of many crashes do not add up.
func TestStderrIsBounded(t *testing.T) {
	logs, err := logsOf(t.TempDir(), "r0")
	if err != nil {
		t.Fatal(err)
	}
	crash := make([]byte, stderrBytes/2)
	for range 10 {
		f, err := logs.openStderr()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(crash); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if info, err := os.Stat(logs.stderr); err != nil || info.Size() > stderrBytes+int64(len(crash)) || info.Size() == 0 {
		t.Errorf("%v, %v", info.Size(), err)
	}
}
