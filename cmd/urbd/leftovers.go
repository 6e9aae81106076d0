package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/ublk"
)

const (
	patience     = 3 * time.Second // for udev and its like, which look at every device for a moment
	patienceStep = 50 * time.Millisecond
)

// leftovers are the block devices of daemons that have died. Whoever looks at them holds the lock of the resource, so that
// no daemon is adding or adopting one meanwhile.
type leftovers struct {
	driver driver
	names  deviceNames
}

// A driver is what package ublk finds and removes; tests have one without a kernel.
type driver struct {
	list    func(context.Context, func(*ublk.Info) bool) ([]ublk.Info, error)
	holders func(id int) ([]ublk.Holder, error)
	claimed func(path string) bool
	remove  func(ctx context.Context, id int) error
}

// left are the leftovers of this machine.
func left(runDir string) leftovers {
	return leftovers{driver{ublk.List, ublk.Holders, claimed, ublk.Remove}, deviceNames{"/dev", runDir}}
}

// sweep removes what the daemon of a resource left behind when it died, unless somebody uses it.
func (l leftovers) sweep(ctx context.Context, t target) error {
	return l.each(ctx, t, func(id int) error { return l.drop(ctx, id, "unmount it or end what uses it, or "+startAgain(t)) })
}

// spare is a *usedError if somebody uses a device that the daemon of a target left behind: his data is on the disk.
func (l leftovers) spare(ctx context.Context, t target) error {
	return l.each(ctx, t, func(id int) error { return l.unusedFor(ctx, id, startAgain(t)+", or unmount it or end what uses it") })
}

func startAgain(t target) string { return "start the daemon again with: urbd up " + t.resource }

// each goes through the devices that the daemon of a target left behind, until do fails.
func (l leftovers) each(ctx context.Context, t target, do func(id int) error) error {
	found, err := l.driver.list(ctx, func(i *ublk.Info) bool { return owns(t, i) })
	if errors.Is(err, ublk.ErrNoModule) || errors.Is(err, ublk.ErrNoControl) || errors.Is(err, ublk.ErrPermission) {
		return nil // without the driver, or the right to talk to it, nothing is left behind that we could work on
	}
	if err != nil {
		return err
	}
	for _, i := range found {
		if !i.Orphan {
			continue
		}
		if err := do(i.ID); err != nil {
			return err
		}
	}
	return nil
}

// owns says that a device is one of the target's.
func owns(t target, i *ublk.Info) bool {
	if t.local == nil {
		return false
	}
	for _, v := range t.volumes() {
		if i.Owner == ownerTag(t.local.Name(), t.resource, v.Number) {
			return true
		}
	}
	return false
}

// A usedError is the refusal to remove a device that somebody uses, as its daemon would say it if it lived.
type usedError struct{ *replication.BusyError }

func (e *usedError) Unwrap() error { return e.BusyError }

// drop removes a device that nobody serves. While somebody uses it, it is a *usedError that ends with advice.
func (l leftovers) drop(ctx context.Context, id int, advice string) error {
	if err := l.unusedFor(ctx, id, advice); err != nil {
		return err
	}
	if err := l.driver.remove(ctx, id); err != nil {
		return fmt.Errorf("remove what a dead daemon left behind: %w", err)
	}
	l.names.remove(id)
	return nil
}

// unusedFor is a *usedError that ends with advice while somebody uses a device.
func (l leftovers) unusedFor(ctx context.Context, id int, advice string) error {
	path := ublk.BlockPath(id)
	err := patiently(ctx, func() error { return l.unused(id) })
	if busy := new(ublk.BusyError); errors.As(err, &busy) {
		return &usedError{&replication.BusyError{Device: path, Holder: holders(busy.Holders) + ", and its daemon has died; " + advice}}
	}
	if err != nil {
		return fmt.Errorf("look for the users of %s: %w", path, err)
	}
	return nil
}

// unused is a *ublk.BusyError that names the users of a device, if it has some.
func (l leftovers) unused(id int) error {
	path := ublk.BlockPath(id)
	held, err := l.driver.holders(id)
	if err == nil && len(held) == 0 && l.driver.claimed(path) {
		held = []ublk.Holder{{What: "a mount in another namespace, or another exclusive user"}}
	}
	if len(held) > 0 {
		return &ublk.BusyError{Device: path, Holders: held}
	}
	return err
}

// claimed says that somebody has opened a block device for himself alone: a mount, a device on top.
func claimed(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err == unix.EBUSY
}

// patiently repeats try while it is a *ublk.BusyError about processes: udev looks at a device after every change, and is
// gone a moment later.
func patiently(ctx context.Context, try func() error) error {
	limit := time.After(patience)
	for {
		err := try()
		busy := new(ublk.BusyError)
		if !errors.As(err, &busy) || lasting(busy) {
			return err
		}
		select {
		case <-limit:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(patienceStep):
		}
	}
}

// lasting says that a holder will not go by itself: a mount, swap, a device on top.
func lasting(busy *ublk.BusyError) bool {
	for _, h := range busy.Holders {
		if h.PID == 0 {
			return true
		}
	}
	return false
}
