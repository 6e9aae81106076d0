package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/urbd/urbd/scripts/vm"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"--file", "a:/b", "7", "--disk", "64M", "--no-urbd", "--timeout", "5s", "--", "sh", "--file", "--"})
	if err != nil {
		t.Fatal(err)
	}
	k, command, err := o.kernel()
	if k != vm.Linux7 || err != nil || !reflect.DeepEqual(command, []string{"sh", "--file", "--"}) {
		t.Errorf("%s %q %v", k, command, err)
	}
	if len(o.files) != 1 || len(o.disks) != 1 || !o.noUrbd || o.timeout != 5*time.Second {
		t.Errorf("%+v", o)
	}
	if _, err := parse([]string{"7", "--nonsense"}); err == nil {
		t.Error("an unknown option was accepted")
	}
	for _, words := range [][]string{nil, {"5.10"}} {
		if _, _, err := (&options{words: words}).kernel(); err == nil {
			t.Errorf("%q is a kernel", words)
		}
	}
}

func TestParseSize(t *testing.T) {
	for word, want := range map[string]int64{"512": 512, "4K": 4096, "64M": 64 << 20, "1G": 1 << 30, "16T": 16 << 40} {
		if got, err := parseSize(word); got != want || err != nil {
			t.Errorf("%s: %d, %v", word, got, err)
		}
	}
	for _, word := range []string{"", "M", "-1M", "0", "1MM", "1P", "1.5G", "9999999T", "disk.img"} {
		if got, err := parseSize(word); err == nil {
			t.Errorf("%s: %d", word, got)
		}
	}
}

func TestFilesAndDirectoriesForTheGuest(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one", "sub/two"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := &options{noUrbd: true, files: words{dir + ":/srv/x", filepath.Join(dir, "one") + ":/etc/uno"}}
	got, err := o.guestFiles(context.Background(), t.TempDir())
	want := map[string]string{
		"/srv/x/one": filepath.Join(dir, "one"), "/srv/x/sub/two": filepath.Join(dir, "sub/two"), "/etc/uno": filepath.Join(dir, "one"),
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{dir, dir + ":relative", filepath.Join(dir, "absent") + ":/x"} {
		o.files = words{bad}
		if _, err := o.guestFiles(context.Background(), t.TempDir()); err == nil {
			t.Errorf("--file %s was accepted", bad)
		}
	}
}

func TestInputGoesToWhoseTurnItIs(t *testing.T) {
	in := &input{chunks: make(chan []byte)}
	go func() {
		in.chunks <- []byte("first li")
		in.chunks <- []byte("ne\nfor the shell")
	}()
	never := make(chan struct{})
	if line, err := in.line(never); line != "first line" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	over := make(chan struct{})
	shell := turn{in, over}
	buf := make([]byte, 7)
	if n, err := shell.Read(buf); string(buf[:n]) != "for the" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if n, err := shell.Read(buf); string(buf[:n]) != " shell" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	close(over)
	if _, err := shell.Read(buf); err != io.EOF {
		t.Errorf("after its turn: %v", err)
	}
	go func() { in.chunks <- []byte("again\n") }()
	if line, err := in.line(never); line != "again" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	close(in.chunks)
	if _, err := in.line(never); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}
