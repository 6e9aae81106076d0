package replication

import (
	"context"
	"fmt"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk/uring"
)

// Devices makes the block devices in front of volumes. cmd/urbd joins it to
// package ublk; tests use a fake.
type Devices interface {
	// Clear removes what a dead predecessor has left of a volume, except what Add will adopt; a *BusyError while it is in use. It comes for every volume
	// before the first Add: with other minors in the configuration one may have left what is in another's way. It is called as Add is.
	Clear(ctx context.Context, cfg DeviceConfig) error
	// Add reserves a device without making it appear, so that a taken minor or a limit is
	// found at `up` and not in a failover. It is called off the loop, for several volumes at a time, and may block.
	Add(ctx context.Context, cfg DeviceConfig) (Device, error)
}

// DeviceConfig names a device to add.
type DeviceConfig struct {
	Resource    string
	Volume      int
	Minor       int   // it appears as /dev/ublkb<Minor>
	Size        int64 // bytes; 0 when it is not known yet
	BlockSize   int   // logical block size in bytes, 512 to 4096, until Start says more
	DiscardUnit int   // granularity of discards in bytes, a multiple of 4096; 0: none are offered
	Depth       int   // requests in flight; 0 = what the implementation likes
	Recover     bool  // adopt the device that a dead predecessor left behind, if there is one
}

// A Device is one block device. Serve and Complete belong to the loop's
// thread; the other methods are called off the loop, one at a time, and may block.
type Device interface {
	// Serve puts the device's fetches on the loop's ring. From then on requests come by calls of submit on
	// the loop's thread; each belongs to the replication until Complete.
	Serve(ring *uring.Ring, submit func(*engine.Request)) error
	// Start makes the block device appear with size bytes, a multiple of its logical block size of block bytes. After
	// an error it is not there.
	Start(ctx context.Context, size int64, block int) error
	// Complete answers a request; its Err holds the result. Called on the loop's thread.
	Complete(r *engine.Request)
	// Keep takes the memory of a request out of use, because a disk may still use it, and gives the request other memory. False:
	// there is none. release gives it back. Both are called on the loop's thread.
	Keep(r *engine.Request) (release func(), ok bool)
	// Resize changes the size of a started device.
	Resize(ctx context.Context, size int64) error
	// Stop makes the block device go away; Start brings it back. It refuses with
	// a *BusyError while the device is mounted or held.
	Stop(ctx context.Context) error
	// Delete gives the minor back. The device is stopped, or its users get errors.
	Delete(ctx context.Context) error
	// Path is where the block device appears.
	Path() string
}

// An Adopter is a Device that can tell whether Add found it running, left by a
// predecessor that died while it was in use.
type Adopter interface {
	Adopted() bool
	// Prepare does what can be done of Serve while it is not known yet whether the users may go on. It may block, and Serve may come
	// meanwhile.
	Prepare()
}

// A BusyError says that a block device or a backing store is in use.
type BusyError struct {
	Device string // path
	Holder string // "process 71 (fio)", "the mount at /mnt"; empty if it could not be found
}

func (e *BusyError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("%s is in use", e.Device)
	}
	return fmt.Sprintf("%s is in use by %s", e.Device, e.Holder)
}
