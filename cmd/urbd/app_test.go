package main

import (
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestAHangUpDoesNotEndTheDaemon(t *testing.T) {
	t.Cleanup(func() { signal.Reset(syscall.SIGHUP) })
	newBench(t).want("run r9", 10, "", `there is no resource "r9"`)
	if !signal.Ignored(syscall.SIGHUP) {
		t.Error("the daemon ends with SIGHUP")
	}
}

func TestTheRunDirectoryIsAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, tt := range []struct{ option, variable, want string }{
		{"run", "", filepath.Join(dir, "run")},
		{"", "env", filepath.Join(dir, "env")},
		{"/run/x", "env", "/run/x"},
		{"", "", "/run/urbd"},
	} {
		t.Setenv("URBD_RUN_DIR", tt.variable)
		args := []string{"urbd"}
		if tt.option != "" {
			args = append(args, "--run-dir", tt.option)
		}
		app, got := (&world{}).app(), ""
		app.Action = func(c *cli.Context) error { got = runDir(c); return nil }
		if err := app.Run(args); err != nil || got != tt.want {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}
