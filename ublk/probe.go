package ublk

import (
	"context"
	"errors"
	"fmt"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// A Host is what the running kernel can do.
type Host struct {
	Features Features        // of the ublk driver
	Ring     *uring.Features // of io_uring
}

// ZeroCopy says that ModeAuto chooses zero copy here.
func (h *Host) ZeroCopy() bool { return h.Features.Has(ModeZeroCopy.features()) }

// Probe asks the kernel what it can do. Each absence has its own error: uring.ErrMissing and uring.ErrDisabled,
// ErrNoModule, ErrNoControl, ErrPermission, ErrTooOld, ErrStuck.
func Probe(ctx context.Context) (*Host, error) {
	ring, err := uring.Probe()
	if err != nil {
		return nil, fmt.Errorf("ublk: %w", err)
	}
	if !ring.Has(uring.OpUringCmd) {
		return nil, fmt.Errorf("ublk: %w: io_uring has no driver commands", ErrTooOld)
	}
	f, err := features(ctx)
	if err != nil {
		return nil, fmt.Errorf("ublk: %w", err)
	}
	return &Host{Features: f, Ring: ring}, nil
}

// features asks for the driver's flags.
func features(ctx context.Context) (Features, error) {
	var bits uint64
	err := devExchange(ctx, uapi.CmdGetFeatures, uapi.AnyID, &bits)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return 0, fmt.Errorf("%w: it does not tell its features: %w", ErrTooOld, err)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return 0, fmt.Errorf("%w: %w", ErrPermission, err)
	}
	return Features(bits), err
}
