package replication

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A record is replaced as a whole, and nothing is left beside it.
func TestWriteRecord(t *testing.T) {
	dir := t.TempDir() + "/state"
	for _, content := range []string{"one", "two"} {
		if err := WriteRecord(dir+"/file", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadRecord(dir + "/file"); err != nil || string(got) != content {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	if err := os.Mkdir(dir+"/taken", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteRecord(dir+"/taken", nil, 0o600); err == nil {
		t.Fatal("a directory was replaced")
	}
}

// planted are what somebody may put in the place of a file, with the name of another one.
var planted = map[string]func(other, path string) error{
	"symbolic link": os.Symlink,
	"hard link":     os.Link,
	"pipe":          func(_, path string) error { return unix.Mkfifo(path, 0o600) },
	"socket":        func(_, path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
}

// Whoever may put something into the run directory has no other file overwritten or read, and holds nobody up.
func TestRecordsArePlainFiles(t *testing.T) {
	for what, plant := range planted {
		for _, c := range []struct {
			name    string
			at      string
			do      func(path string) error
			replace bool // what is planted; else it is an error
		}{
			{"read", "r0.conf", func(p string) error { _, err := ReadRecord(p); return err }, false},
			{"write", "r0.conf", func(p string) error { return WriteRecord(p, []byte("content"), 0o600) }, true},
			{"write beside it", "r0.conf.new", func(p string) error { return WriteRecord(p[:len(p)-len(".new")], []byte("content"), 0o600) }, true},
			{"empty", "r0.users", emptyRecord, false},
			{"lock", "r0.lock", func(p string) error { _, err := Lock(filepath.Dir(p), "r0"); return err }, false},
		} {
			dir := t.TempDir()
			other, path := filepath.Join(dir, "other"), filepath.Join(dir, c.at)
			if err := errors.Join(os.WriteFile(other, []byte("something"), 0o600), plant(other, path)); err != nil {
				t.Fatal(err)
			}
			err := c.do(path)
			if is := new(NotPlainError); c.replace && err != nil || !c.replace && !errors.As(err, &is) {
				t.Errorf("%s of a %s: %v", c.name, what, err)
			}
			if text, err := os.ReadFile(other); string(text) != "something" {
				t.Errorf("%s of a %s: %q is left, %v", c.name, what, text, err)
			}
		}
	}
}

// The control socket is its owner's from the first moment.
func TestSocketsArePrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r0.sock")
	l, err := listenPrivate(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
