package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func testCache(t *testing.T) *Cache {
	t.Setenv("URBD_RIG_CACHE", t.TempDir())
	c, err := OpenCache()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestInterruptedEntryIsMadeAgain(t *testing.T) {
	c := testCache(t)
	fill := func(err error) func(string) error {
		return func(tmp string) error {
			if _, serr := os.Stat(tmp); !errors.Is(serr, os.ErrNotExist) {
				t.Error("what an interrupted run left is still there")
			}
			return errors.Join(os.Mkdir(tmp, 0o755), os.WriteFile(filepath.Join(tmp, "file"), nil, 0o644), err)
		}
	}
	broken := errors.New("interrupted")
	if _, err := c.complete("sets/x", fill(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := os.Stat(c.path("sets/x")); err == nil {
		t.Error("an entry that is not complete has its final name")
	}
	for range 2 {
		path, err := c.complete("sets/x", fill(nil))
		if err != nil || path != c.path("sets/x") {
			t.Errorf("%s, %v", path, err)
		}
		if _, err := os.Stat(filepath.Join(path, "file")); err != nil {
			t.Error(err)
		}
		fill = func(error) func(string) error {
			return func(string) error { t.Error("a complete entry is made again"); return nil }
		}
	}
}

func TestUnusedEntriesGo(t *testing.T) {
	c := testCache(t)
	long := time.Now().Add(-2 * keepUnused)
	for _, name := range []string{"sets/a-1", "sets/a-2", "sets/b-1"} {
		if err := errors.Join(os.MkdirAll(c.path(name, "below"), 0o755), os.Chtimes(c.path(name), long, long)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.touch(c.path("sets/a-2")), c.dropOld("sets/a-*")); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(c.path("sets/*"))
	if want := []string{c.path("sets/a-2"), c.path("sets/b-1")}; !slices.Equal(left, want) {
		t.Errorf("left: %q", left)
	}
}

func TestCacheLock(t *testing.T) {
	c := testCache(t)
	unlock, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.lock(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
	unlock()
	unlock, err = c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestRunDirsOfDeadOwnersAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	mine, err := newRunDir()
	if err != nil {
		t.Fatal(err)
	}
	dead, err := newRunDir()
	if err != nil {
		t.Fatal(err)
	}
	dead.lock.Close() // as the kernel does for a process that was killed
	other, err := newRunDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine.dir); err != nil {
		t.Errorf("a directory in use: %v", err)
	}
	if _, err := os.Stat(dead.dir); err == nil {
		t.Error("a dead owner's directory was left")
	}
	if err := errors.Join(mine.remove(), other.remove()); err != nil {
		t.Error(err)
	}
}

func TestInRootStaysInside(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"lib", "etc/alternatives"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "lib/real.so.1"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"lib/a.so": "real.so.1", "lib/b.so": "/etc/alternatives/b", "etc/alternatives/b": "/lib/a.so", "lib/up.so": "../../../../lib/real.so.1",
		"lib/loop": "loop", "lib/none": "/gone",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"lib/real.so.1", "lib/a.so", "lib/b.so", "lib/up.so"} {
		if got, err := inRoot(root, name); got != filepath.Join(root, "lib/real.so.1") || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for _, name := range []string{"lib/loop", "lib/none", "lib", "lib/absent"} {
		if got, err := inRoot(root, name); err == nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}
