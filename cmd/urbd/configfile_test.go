package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
)

func TestDefaultConfigurationFiles(t *testing.T) {
	source := func(files ...string) disk {
		return disk{config.Source{
			ReadFile: func(name string) ([]byte, error) {
				if slices.Contains(files, name) {
					return nil, nil
				}
				return nil, fs.ErrNotExist
			},
			Glob: func(pattern string) ([]string, error) {
				if pattern != "/etc/urbd.d/*.res" {
					t.Errorf("looks for %s", pattern)
				}
				return slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f == mainFile }), nil
			},
		}}
	}
	for _, tt := range []struct {
		name  string
		disk  disk
		named string
		want  []string
	}{
		{"both", source("/etc/urbd.d/b.res", "/etc/urbd.d/a.res", "/etc/urbd.conf"), "", []string{"/etc/urbd.conf", "/etc/urbd.d/a.res", "/etc/urbd.d/b.res"}},
		{"only resources", source("/etc/urbd.d/a.res"), "", []string{"/etc/urbd.d/a.res"}},
		{"named", source("/etc/urbd.conf"), "x.res", []string{"x.res"}},
		{"none", source(), "", nil},
	} {
		got, err := tt.disk.files(tt.named)
		if !slices.Equal(got, tt.want) || (err != nil) != (tt.want == nil) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

// TestFileWithoutEnd: -c may name anything.
func TestFileWithoutEnd(t *testing.T) {
	if _, err := etc.load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "/dev/zero: the configuration is larger than 4194304 bytes") {
		t.Error(err)
	}
}

// TestConfigurationFromPipes: -c <(COMMAND) works, and what never says anything ends.
func TestConfigurationFromPipes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readBounded(path); err == nil || !strings.Contains(err.Error(), "nobody writes") {
		t.Errorf("a pipe without a writer: %v", err)
	}
	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if _, err := readWithin(path, 10*time.Millisecond); err == nil || !strings.Contains(err.Error(), "has not come to its end in 10ms") {
		t.Errorf("a writer that says nothing: %v", err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	_, err = in.WriteString("a configuration")
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	text, err := readBounded(fmt.Sprintf("/dev/fd/%d", out.Fd()))
	if err != nil || string(text) != "a configuration" {
		t.Errorf("a writer: %q, %v", text, err)
	}
}

func TestConfigurationErrors(t *testing.T) {
	b := newBench(t)
	b.want("dump r1", 0, "resource r1 {", "")
	b.want("dump r7", 10, "", `there is no resource "r7"`)
	b.write("resource r0 {\n  on alpha { adress 1.2.3.4:5; }\n}\n")
	b.want("dump", 2, "", "urbd.conf:2:14: ")
	b.want("-c /nonexistent/urbd.conf dump", 20, "", "/nonexistent/urbd.conf")
}

// TestNotesAreSaid: what has no effect is said where the configuration is looked at, and not by every verb.
func TestNotesAreSaid(t *testing.T) {
	b := newBench(t)
	b.write("global { usage-count no; cmd-timeout-short 9; }\ncommon { disk { use-bmbv; } }\n" + twoResources)
	for _, note := range []string{"1:10: usage-count: urbd counts nobody\n", "cmd-timeout-short: urbd's verbs have deadlines of their own\n", "use-bmbv: accepted and dropped"} {
		b.want("dump r1", 0, "resource r1 {", note)
	}
	if got := b.urbd("role r1"); strings.Contains(got.err, "note:") {
		t.Errorf("role: %s", got.err)
	}
}
