package ublk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Why this host cannot serve devices, as found by Probe, Create and the others.
var (
	ErrNoModule     = errors.New("the kernel module ublk_drv is not loaded (modprobe ublk_drv; some distributions keep it in an extra package)")
	ErrNoControl    = errors.New("there is no /dev/ublk-control although ublk_drv is loaded (is devtmpfs mounted on /dev?)")
	ErrPermission   = errors.New("no permission for ublk devices (root, or CAP_SYS_ADMIN, is needed)")
	ErrTooOld       = errors.New("the ublk driver of this kernel is too old (it is of before Linux 6.5; 6.8 is needed)")
	ErrStuck        = errors.New("the ublk driver does not answer; its control lock may be wedged, which only a reboot cures")
	ErrUnsupported  = errors.New("not supported by this kernel's ublk driver")
	ErrBusy         = errors.New("the device is in use")
	ErrState        = errors.New("not possible in the device's present state")
	ErrNotExist     = errors.New("no such ublk device")
	ErrExist        = errors.New("a ublk device with this number exists already")
	ErrTooMany      = errors.New("the limit of ublk devices is reached (module parameter ublks_max)")
	ErrServerFailed = errors.New("the kernel refused a command of the serving thread")
)

// An OpError is a failed operation on a device.
type OpError struct {
	Op     string // "add", "start", "set params", ...
	Device string // "/dev/ublkb0"
	Err    error
}

func (e *OpError) Error() string { return e.Device + ": " + e.Op + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// A cause joins what a failure means with the kernel's errno, so that errors.Is finds both.
type cause struct {
	means error
	errno unix.Errno
}

func (c *cause) Error() string   { return fmt.Sprintf("%v (%v)", c.means, c.errno) }
func (c *cause) Unwrap() []error { return []error{c.means, c.errno} }

func means(errno unix.Errno, table map[unix.Errno]error) error {
	if m := table[errno]; m != nil {
		return &cause{m, errno}
	}
	return errno
}

// Errno turns the error of a handler into what the device's user gets. It is the only place where errnos
// are made: nil is 0, an errno inside err is itself, everything unknown is EIO.
func Errno(err error) unix.Errno {
	if err == nil { // before anything that costs memory
		return 0
	}
	var errno unix.Errno
	switch {
	case errors.As(err, &errno) && errno > 0 && errno < 4096:
		return errno
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return unix.ETIMEDOUT
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, ErrUnsupported):
		return unix.EOPNOTSUPP
	case errors.Is(err, io.ErrShortWrite):
		return unix.ENOSPC
	case errors.Is(err, fs.ErrPermission):
		return unix.EPERM
	}
	return unix.EIO
}
