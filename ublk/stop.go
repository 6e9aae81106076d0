package ublk

import (
	"context"
	"errors"
	"fmt"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

// Stop makes the disk go, in use or not: its users get errors. Requests in flight are awaited, so the ring's owner must
// go on waiting and the handler must go on completing. Afterwards the device is as Create left it: the number stays
// ours, and Serve and Start bring the disk back. (The driver cannot start a stopped device again; this deletes and
// adds it.) While somebody still holds the dead disk open that cannot be finished: at ctx's end the error is
// ErrBusy. Once the driver has deleted the device, ctx does not end Stop any more. After an error Stop, which goes on where
// it was, or Delete can be tried again.
func (d *Device) Stop(ctx context.Context) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("stop", err)
	}
	defer d.unlock()
	return d.fail("stop", d.stop(ctx, uapi.CmdStopDev))
}

// stop ends the disk with STOP or TRY_STOP and adds the device again.
func (d *Device) stop(ctx context.Context, cmd uint32) error {
	if d.getPhase() == phaseGone {
		return fmt.Errorf("%w: deleted", ErrState)
	}
	if d.idle() {
		return nil
	}
	if d.getPhase() != phaseAway {
		if err := d.endDisk(ctx, cmd); err != nil {
			return err
		}
		if err := d.del(ctx); err != nil {
			return err
		}
		d.setPhase(phaseAway)
	}
	ctx, cancel := anyway(ctx)
	defer cancel()
	host, err := features(ctx)
	if err != nil {
		return err
	}
	return d.add(ctx, host)
}

// idle says that the device is added and nothing else.
func (d *Device) idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.phase == phaseAdded && d.serving == nil
}

// endDisk stops the disk, waits until the queues have let go, and closes the character device.
func (d *Device) endDisk(ctx context.Context, cmd uint32) error {
	if d.getPhase() != phaseStopped {
		if err := devCommand(ctx, cmd, d.ID(), 0); err != nil {
			return err
		}
		if err := d.awaitQueues(ctx); err != nil {
			return err
		}
		d.setPhase(phaseStopped)
	}
	return d.closeChar()
}

// awaitQueues waits until every served queue has ended, and forgets them.
func (d *Device) awaitQueues(ctx context.Context) error {
	d.mu.Lock()
	ses := d.serving
	if ses != nil && !ses.over {
		ses.over = true
		for _, q := range ses.queues {
			if q == nil { // never served: nothing to wait for
				ses.queueEnded()
			}
		}
	}
	d.mu.Unlock()
	if ses == nil {
		return nil
	}
	select {
	case <-ses.ended:
	case <-ctx.Done():
		return fmt.Errorf("the thread of the ring does not let go (does it wait on its ring, does the handler complete?): %w", ctx.Err())
	}
	d.mu.Lock()
	d.serving = nil
	d.mu.Unlock()
	return nil
}

// del deletes a stopped device. The driver waits until nothing refers to it any more.
func (d *Device) del(ctx context.Context) error {
	err := devCommand(ctx, uapi.CmdDelDev, d.ID(), 0)
	switch {
	case err == nil, errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOENT):
		return nil
	case ctx.Err() != nil && !errors.Is(err, ErrStuck):
		return fmt.Errorf("%w: something still holds the stopped disk open: %w", ErrBusy, ctx.Err())
	}
	return fmt.Errorf("delete: %w", err)
}

// TryStop is Stop unless somebody uses the disk; then the error is a *BusyError that names who, and nothing has changed.
// Kernels before 7.0 cannot do this in one step: a user that comes in the instant between look and stop is not seen.
func (d *Device) TryStop(ctx context.Context) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("stop", err)
	}
	defer d.unlock()
	there, err := d.diskIsThere(ctx)
	if err != nil {
		return d.fail("stop", err)
	}
	if !there {
		return d.fail("stop", d.stop(ctx, uapi.CmdStopDev))
	}
	before := d.getPhase()
	if Features(d.info.Flags).Has(FeatureSafeStop) {
		err := d.stop(ctx, uapi.CmdTryStopDev)
		if errors.Is(err, unix.EBUSY) && d.getPhase() == before {
			err = d.busy()
		}
		return d.fail("stop", err)
	}
	// A file system or another exclusive user keeps us out; plain openers are found in /proc.
	fd, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EBUSY) {
			err = d.busy()
		}
		return d.fail("stop", err)
	}
	held, err := d.Holders()
	unix.Close(fd)
	if err == nil && len(held) > 0 {
		err = &BusyError{Device: d.Path(), Holders: held}
	}
	if err != nil {
		return d.fail("stop", err)
	}
	return d.fail("stop", d.stop(ctx, uapi.CmdStopDev))
}

// diskIsThere says whether somebody can use the disk. A Start that has not ended in time may have ended since.
func (d *Device) diskIsThere(ctx context.Context) (bool, error) {
	switch p := d.getPhase(); {
	case p == phaseLive, p == phaseRecover:
		return true, nil
	case p != phaseAdded || d.idle():
		return false, nil
	}
	info, err := devInfo(ctx, d.ID())
	if err != nil || info.State == uapi.StateDead {
		return false, err
	}
	d.setPhase(phaseLive)
	return true, nil
}

func (d *Device) busy() error {
	held, err := d.Holders()
	return errors.Join(&BusyError{Device: d.Path(), Holders: held}, err)
}

// Delete stops the disk as Stop does and gives the number back. A deleted device stays deleted; Delete again is no error.
func (d *Device) Delete(ctx context.Context) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("delete", err)
	}
	defer d.unlock()
	err := d.delete(ctx)
	if err == nil {
		d.setPhase(phaseGone)
	}
	return d.fail("delete", err)
}

func (d *Device) delete(ctx context.Context) (err error) {
	if p := d.getPhase(); p == phaseGone || p == phaseAway {
		return nil // the driver does not have it
	}
	if d.idle() {
		err = d.closeChar()
	} else {
		err = d.endDisk(ctx, uapi.CmdStopDev)
	}
	if err != nil {
		return err
	}
	return d.del(ctx)
}
