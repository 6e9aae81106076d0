package engine

import (
	"errors"
	"fmt"
)

// A PeerError says what the peer did that the protocol does not allow. The
// connection is dropped and looked for again.
type PeerError struct{ Reason string }

func (e *PeerError) Error() string { return "protocol error of the peer: " + e.Reason }

func protocolErrorf(format string, args ...any) error {
	return &PeerError{fmt.Sprintf(format, args...)}
}

// A Mismatch says that two nodes are configured, or have data, so that they
// cannot replicate. The connection becomes StandAlone.
type Mismatch struct {
	Vol    int // the volume that does not fit, -1: the nodes do not
	Reason string
}

func (e *Mismatch) Error() string {
	if e.Vol < 0 {
		return e.Reason
	}
	return fmt.Sprintf("volume %d: %s", e.Vol, e.Reason)
}

func mismatchf(format string, args ...any) error {
	return &Mismatch{-1, fmt.Sprintf(format, args...)}
}

func (v *volume) mismatchf(format string, args ...any) error {
	return &Mismatch{v.number, fmt.Sprintf(format, args...)}
}

// ofVolume is what a notice about a volume says of an error: the notice names the volume itself.
func ofVolume(err error) string {
	if m := new(Mismatch); errors.As(err, &m) {
		return m.Reason
	}
	return err.Error()
}

// A LeaveError answers an order to leave that was carried out: the nodes are disconnected. But it is not known, or not so, that the disk that the
// other node may be written without is Outdated, which is what an orderly leave promises.
type LeaveError struct {
	Peers bool // the disk is the peer's; otherwise this node's
	Why   string
}

func (e *LeaveError) Error() string {
	if e.Peers {
		return "the nodes are disconnected, and whether the peer's disk is marked Outdated is not known: " + e.Why + "; do not promote the peer while this node may be Primary"
	}
	return "the nodes are disconnected, and this node's disk is not marked Outdated: " + e.Why + "; do not promote this node while the peer may be Primary"
}

// A GivenUpError answers an attach whose disk was given up meanwhile: by an order to detach it, or because it did not answer.
type GivenUpError struct{ Vol int }

func (e *GivenUpError) Error() string {
	return fmt.Sprintf("volume %d: the disk was given up while it was being attached: it was detached, or did not answer in time", e.Vol)
}

// A DiskError is what the administrator is told of a disk or its metadata.
type DiskError struct {
	Vol   int
	What  string
	Errno Errno
	Err   error
}

func (e *DiskError) Error() string {
	s := fmt.Sprintf("volume %d: %s", e.Vol, e.What)
	if e.Errno != OK {
		s += fmt.Sprintf(" (%v)", e.Errno)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *DiskError) Unwrap() error { return e.Err }
