package scripts_test

import (
	"errors"
	"fmt"
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

// TestAnotherStart has the unit that starts a daemon again hear of every end: what does not heal by trying again is left, and what
// systemd could not run waits for a while.
func TestAnotherStart(t *testing.T) {
	unit, err := os.ReadFile("systemd/urbd-again@.service")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"systemctl", "sleep"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho \"${0##*/} $@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(key string, env ...string) (string, int) {
		t.Helper()
		_, script, _ := strings.Cut(string(unit), "\n"+key+"=/bin/sh -c '")
		script, _, ok := strings.Cut(script, "'\n")
		if !ok {
			t.Fatalf("%s runs no shell", key)
		}
		cmd := exec.Command("/bin/sh", "-c", strings.ReplaceAll(script, "%i", "r0"))
		cmd.Env = append(env, "PATH="+dir)
		out, err := cmd.CombinedOutput()
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	const start = "systemctl start --no-block --job-mode=ignore-dependencies urbd@r0.service\n"
	for _, tt := range []struct{ result, code, status, said string }{
		{"exit-code", "exited", "1", ""}, {"exit-code", "exited", "2", ""}, {"exit-code", "exited", "10", ""}, {"protocol", "exited", "0", ""},
		{"exit-code", "exited", "11", start}, {"exit-code", "exited", "20", start}, {"exit-code", "exited", "255", start}, {"timeout", "exited", "0", start},
		{"signal", "killed", "KILL", start}, {"core-dump", "dumped", "ABRT", start}, {"", "", "", start},
		{"exit-code", "exited", "203", "sleep 10\n" + start},
	} {
		judged, code := run("ExecStart", "MONITOR_SERVICE_RESULT="+tt.result, "MONITOR_EXIT_CODE="+tt.code, "MONITOR_EXIT_STATUS="+tt.status)
		if code != 0 && !strings.Contains(string(unit), fmt.Sprintf("\nSuccessExitStatus=%d\n", code)) {
			t.Errorf("%s %s: the unit fails with %d", tt.code, tt.status, code)
		}
		if out, code := run("ExecStop", "EXIT_CODE=exited", fmt.Sprint("EXIT_STATUS=", code)); code != 0 || judged+out != tt.said {
			t.Errorf("%s %s: it ends with %d, runs %q, want %q", tt.code, tt.status, code, judged+out, tt.said)
		}
	}
}
