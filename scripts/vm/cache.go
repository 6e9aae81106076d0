package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Cache is the directory, outside of any checkout, that keeps what the rig
// downloads and builds. Whatever lies under its final name is complete: every
// entry is made under a temporary name and renamed, so an interrupted fetch
// leaves nothing that looks finished.
//
//	apt/          private apt state: sources, lists, downloaded packages
//	sets/NAME-H/  unpacked packages (qemu, tools, one per kernel); H hashes the list of packages
//	images/       base archives, roots and unpacked kernels of the guests, by content hash
type Cache struct{ dir string }

// OpenCache opens (and makes) the cache: $URBD_RIG_CACHE, else urbd-rig in the
// user's cache directory.
func OpenCache() (*Cache, error) {
	dir := os.Getenv("URBD_RIG_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no place for the rig's cache: set URBD_RIG_CACHE: %w", err)
		}
		dir = filepath.Join(base, "urbd-rig")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"sets", "images"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("rig cache: %w", err)
		}
	}
	return &Cache{dir: dir}, nil
}

// Dir is the absolute path of the cache.
func (c *Cache) Dir() string { return c.dir }

func (c *Cache) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// lock takes the cache for this process: two fetches at once would unpack over
// each other. It waits until ctx ends; the kernel drops it when the process dies.
func (c *Cache) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(c.path("lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("rig cache: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("rig cache lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another process holds the rig cache %s: %w", f.Name(), ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// complete makes the directory or file name by calling fill with a temporary
// path beside it, unless it exists already. The caller holds the lock.
func (c *Cache) complete(name string, fill func(tmp string) error) (string, error) {
	final := c.path(name)
	if _, err := os.Lstat(final); err == nil {
		return final, nil
	}
	tmp := final + ".partial"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := fill(tmp); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, final); err != nil {
		return "", err
	}
	return final, nil
}

// keepUnused is how long an entry that nothing uses is kept when a new one of its
// kind is made: another checkout may have other lists of packages.
const keepUnused = 3 * 24 * time.Hour

// touch marks entries as used now.
func (c *Cache) touch(paths ...string) error {
	now := time.Now()
	for _, path := range paths {
		if err := os.Chtimes(path, now, now); err != nil {
			return err
		}
	}
	return nil
}

// dropOld removes the entries of a pattern that have not been used for long.
func (c *Cache) dropOld(pattern string) error {
	paths, err := filepath.Glob(c.path(pattern))
	if err != nil {
		return err
	}
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if time.Since(info.ModTime()) < keepUnused {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}
