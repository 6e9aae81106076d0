package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// A runDir keeps the sockets, logs and archives of one run. Its lock is held by
// the process that made it, so what a killed process left can be told from what is in use.
type runDir struct {
	dir  string
	lock *os.File
}

const runDirPattern = "urbd-rig-*"

// makingRunDir keeps one guest from taking the directory of another for a dead one's, between its making and its lock.
var makingRunDir sync.Mutex

// newRunDir makes a directory with a short name (socket paths end at 107 bytes)
// and removes those whose owners have died.
func newRunDir() (*runDir, error) {
	makingRunDir.Lock()
	defer makingRunDir.Unlock()
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), runDirPattern))
	for _, dir := range left {
		if lock, err := lockFile(filepath.Join(dir, "lock"), 0); err == nil {
			os.RemoveAll(dir)
			lock.Close()
		}
	}
	dir, err := os.MkdirTemp("", runDirPattern)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, "lock"), os.O_CREATE)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return &runDir{dir: dir, lock: lock}, nil
}

// Scratch makes a directory for what is thrown away with this process. Remove it
// when done; if the process is killed, the next start of a guest does.
func Scratch() (dir string, remove func() error, err error) {
	r, err := newRunDir()
	if err != nil {
		return "", nil, err
	}
	return r.dir, r.remove, nil
}

func lockFile(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (r *runDir) path(name string) string { return filepath.Join(r.dir, name) }

// diskSocket is where the i-th disk is served, if it is volatile.
func (r *runDir) diskSocket(i int) string { return r.path(fmt.Sprintf("disk%d", i)) }

func (r *runDir) remove() error {
	err := os.RemoveAll(r.dir)
	r.lock.Close()
	return err
}
