package scripts_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestShutdownHook has the last program of a shutdown end three daemons, each of which ends only when all three have been told to,
// and leave alone what is no daemon's.
func TestShutdownHook(t *testing.T) {
	text, err := os.ReadFile("systemd/urbd.shutdown")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	urbd, run, told := filepath.Join(dir, "urbd"), filepath.Join(dir, "run"), filepath.Join(dir, "told")
	for _, d := range []string{run, told} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"r0", "web-data", "r2"} {
		s, err := net.Listen("unix", filepath.Join(run, name+".sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if err := os.WriteFile(filepath.Join(run, "old.sock"), nil, 0o600); err != nil { // no socket
		t.Fatal(err)
	}
	hook := filepath.Join(dir, "hook")
	script := strings.NewReplacer("/usr/sbin/urbd", urbd, "/run/urbd/", run+"/").Replace(string(text))
	for file, text := range map[string]string{hook: script, urbd: `#!/bin/sh
mkdir "` + told + `/$*"
for i in $(seq 100); do
	set -- "` + told + `"/*
	[ $# -lt 3 ] || exit 0
	sleep 0.1
done
touch "` + told + `/alone"
`} {
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(hook).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all, err := os.ReadDir(told)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, ", "); got != "down --timeout 5 r0, down --timeout 5 r2, down --timeout 5 web-data" {
		t.Errorf("told: %s", got)
	}
}
