package replication

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A record is a small file that urbd leaves for itself, in the run directory or the state directory. Its name is known to everybody, so
// whoever may write there can put something else in its place before: neither a link nor a pipe may make urbd write elsewhere, read
// what is not its own, or wait.

// maxRecord is the most that a record can have, in bytes; the largest is a configuration.
const maxRecord = 16 << 20

// A NotPlainError is something in the place of a file that urbd makes itself.
type NotPlainError struct{ Path, Is string }

func (e *NotPlainError) Error() string {
	return fmt.Sprintf("%s is %s; urbd has not made it: remove it, and see who may write to %s", e.Path, e.Is, filepath.Dir(e.Path))
}

// OpenPlain is os.OpenFile for a file that urbd makes itself; O_TRUNC is not for it. What is no plain file, or has another
// name as well, is a *NotPlainError.
func OpenPlain(path string, flags int, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, &NotPlainError{path, "a symbolic link"}
	case errors.Is(err, unix.ENXIO): // a pipe that nobody reads, or a socket
		return nil, &NotPlainError{path, "no file"}
	case err != nil:
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	switch {
	case err != nil:
		err = &fs.PathError{Op: "stat", Path: path, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = &NotPlainError{path, "no file"}
	case st.Nlink > 1:
		err = &NotPlainError{path, "a link to a file that has other names"}
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}

// ReadRecord reads a record as a whole.
func ReadRecord(path string) ([]byte, error) {
	f, err := OpenPlain(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(text) > maxRecord {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxRecord)
	}
	return text, err
}

// WriteRecord replaces a record as a whole, durably: after a crash it has the old content or the new one. Whatever was in its place,
// a link too, is gone then. The directory is made if need be.
func WriteRecord(path string, content []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := unix.Unlink(tmp); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "remove", Path: tmp, Err: err}
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(dir)
}

// emptyRecord leaves a record that says nothing, where there is no room to write another.
func emptyRecord(path string) error {
	f, err := OpenPlain(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(0), f.Close())
}

func syncDir(dir string) error {
	d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fsync(d), unix.Close(d))
}
