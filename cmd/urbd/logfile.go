package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/DeRuina/timberjack"

	"github.com/urbd/urbd/replication"
)

// A daemon that urbd starts itself has two files in the log directory:
//
//	RES.log     what it says; full, it becomes RES-TIME-size.log, of which the newest are kept
//	RES.stderr  what the Go runtime says when it crashes
//
// so that the whole of it is bounded, whatever makes it talk.
const (
	logMegabytes = 8 // of RES.log and of each kept one
	logsKept     = 3
	stderrBytes  = 1 << 20 // of RES.stderr at a start; the older part goes
)

// logFiles are the paths of a resource's.
type logFiles struct{ log, stderr string }

func logsOf(dir, resource string) (logFiles, error) {
	dir, err := filepath.Abs(dir) // the daemon works in another directory
	if err != nil {
		return logFiles{}, fmt.Errorf("log directory: %w", err)
	}
	return logFiles{filepath.Join(dir, resource+".log"), filepath.Join(dir, resource+".stderr")}, nil
}

// rotatingLog is what a daemon writes its log to. The file is opened by the first line.
func rotatingLog(path string) io.WriteCloser {
	return &timberjack.Logger{Filename: path, MaxSize: logMegabytes, MaxBackups: logsKept, Compression: "none", FileMode: 0o640}
}

// openStderr opens the file for the runtime's last words, and drops those of long ago.
func (l logFiles) openStderr() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(l.stderr), 0o755); err != nil {
		return nil, fmt.Errorf("log directory: %w; --log-dir names another one", err)
	}
	f, err := replication.OpenPlain(l.log, os.O_WRONLY, 0) // nobody looks once the daemon writes to it
	if err == nil {
		f.Close()
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		f, err = replication.OpenPlain(l.stderr, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	}
	if err != nil {
		return nil, fmt.Errorf("log of the daemon: %w; --log-dir names another directory", err)
	}
	if info, err := f.Stat(); err != nil || info.Size() <= stderrBytes {
		return f, err
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("log of the daemon: %w", err)
	}
	return f, nil
}

// String says where to look.
func (l logFiles) String() string { return l.log + " and " + l.stderr }
