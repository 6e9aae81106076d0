package ublk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		want unix.Errno
	}{
		{nil, 0},
		{unix.ENOSPC, unix.ENOSPC},
		{fmt.Errorf("deep: %w", &os.PathError{Op: "write", Path: "x", Err: unix.EDQUOT}), unix.EDQUOT},
		{&OpError{Op: "x", Device: "y", Err: unix.ETIMEDOUT}, unix.ETIMEDOUT},
		{context.DeadlineExceeded, unix.ETIMEDOUT},
		{os.ErrDeadlineExceeded, unix.ETIMEDOUT},
		{errors.ErrUnsupported, unix.EOPNOTSUPP},
		{fmt.Errorf("discard: %w", ErrUnsupported), unix.EOPNOTSUPP},
		{io.ErrShortWrite, unix.ENOSPC},
		{io.ErrUnexpectedEOF, unix.EIO},
		{io.EOF, unix.EIO},
		{fs.ErrPermission, unix.EPERM},
		{errors.New("anything"), unix.EIO},
		{unix.Errno(0), unix.EIO}, // an error that says success is not one
		{unix.Errno(1 << 20), unix.EIO},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("%v becomes %v instead of %v", c.err, got, c.want)
		}
	}
}

// The result of a request is its whole length or an errno, and nothing for what moves no data.
func TestResult(t *testing.T) {
	for _, c := range []struct {
		op    Op
		len   int64
		errno unix.Errno
		want  int32
	}{
		{OpRead, 4096, 0, 4096}, {OpWrite, 32 << 20, 0, 32 << 20}, {OpFlush, 0, 0, 0},
		{OpDiscard, 3 << 30, 0, 0}, {OpWriteZeroes, 3 << 30, 0, 0}, {OpRead, 4096, unix.EIO, -5}, {OpDiscard, 4096, unix.EOPNOTSUPP, -95},
	} {
		if got := (&Request{Op: c.op, Len: c.len}).result(c.errno); got != c.want {
			t.Errorf("%v of %d with %v: %d instead of %d", c.op, c.len, c.errno, got, c.want)
		}
	}
}

// On any host Probe answers, or says which of the known things is missing.
func TestProbeNamesWhatIsMissing(t *testing.T) {
	h, err := Probe(t.Context())
	if err == nil {
		if h.Features == 0 || h.Ring == nil {
			t.Errorf("%+v", h)
		}
		return
	}
	known := false
	for _, e := range []error{ErrNoModule, ErrNoControl, ErrPermission, ErrTooOld} {
		known = known || errors.Is(err, e)
	}
	if !known {
		t.Errorf("unknown reason: %v", err)
	}
	if _, cerr := Create(t.Context(), Config{Geometry: Geometry{Size: 1 << 20}}); cerr == nil || cerr.Error() != err.Error() {
		t.Errorf("Create says %v where Probe says %v", cerr, err)
	}
}
