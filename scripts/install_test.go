package scripts_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestInstall installs below a directory, twice, and takes it away again.
func TestInstall(t *testing.T) {
	dest := t.TempDir()
	program := filepath.Join(t.TempDir(), "urbd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	install := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("./install", append(args, "--destdir", dest)...).CombinedOutput()
		if err != nil {
			t.Fatalf("install %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	install("--prefix", "/usr", "--binary", program)
	want := []string{
		"etc/urbd.conf", "usr/lib/systemd/system/urbd-again@.service", "usr/lib/systemd/system/urbd-shutdown@.service",
		"usr/lib/systemd/system/urbd.target", "usr/lib/systemd/system/urbd@.service", "usr/lib/systemd/system-shutdown/urbd", "usr/lib/udev/rules.d/65-urbd.rules",
		"usr/sbin/urbd", "usr/share/bash-completion/completions/urbd", "usr/share/doc/urbd/example.res",
	}
	if got := files(t, dest); !slices.Equal(got, want) {
		t.Errorf("installed %v, want %v", got, want)
	}
	if err := os.WriteFile(filepath.Join(dest, "etc/urbd.conf"), []byte("# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	again := install("--prefix=/usr", "--binary="+program)
	if strings.Contains(again, "  installed") || !strings.Contains(again, "kept      /etc/urbd.conf") {
		t.Errorf("the second time:\n%s", again)
	}
	install("--prefix", "/usr", "--uninstall")
	if got := files(t, dest); !slices.Equal(got, []string{"etc/urbd.conf"}) {
		t.Errorf("after uninstall there are %v", got)
	}
}

// TestInstallElsewhere looks at the paths in the files of another prefix.
func TestInstallElsewhere(t *testing.T) {
	dest := t.TempDir()
	out, err := exec.Command("./install", "--destdir", dest, "--prefix", "/opt/urbd", "--binary", "/bin/true").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for file, line := range map[string]string{
		"etc/systemd/system/urbd@.service":     "ExecStart=@/opt/urbd/sbin/urbd @urbd run %i",
		"usr/lib/systemd/system-shutdown/urbd": "\t/opt/urbd/sbin/urbd down --timeout 5 \"${resource%.sock}\" >/dev/null 2>&1 &",
		"etc/udev/rules.d/65-urbd.rules":       `IMPORT{program}="/opt/urbd/sbin/urbd udev $kernel"`,
		"opt/urbd/share/doc/urbd/example.res":  "resource r0 {",
	} {
		text, err := os.ReadFile(filepath.Join(dest, file))
		if err != nil || !slices.Contains(strings.Split(string(text), "\n"), line) {
			t.Errorf("%s has no line %s: %v", file, line, err)
		}
	}
	for _, args := range [][]string{{"--prefix", "opt"}, {"--frobnicate"}, {"--binary"}, {"--binary", "/nonexistent", "--destdir", dest}} {
		if out, err := exec.Command("./install", args...).CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "install: ") {
			t.Errorf("install %v: %v, %s", args, err, out)
		}
	}
}

// TestUnits has systemd read the units.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("there is no systemd-analyze on this machine")
	}
	if out, err := exec.Command("./systemd/verify").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			path, err = filepath.Rel(dir, path)
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
