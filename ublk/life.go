package ublk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

// Start makes the disk appear, or lets the waiting requests of a recovered one go. Every queue must have been
// served, and the rings' owners must be waiting: the kernel reads the partition table through the handler before
// Start returns. It must not be called on the thread of a ring. When it fails, the device is as before, and Start or
// Delete can follow.
func (d *Device) Start(ctx context.Context) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("start", err)
	}
	defer d.unlock()
	ses, from, err := d.readyToStart()
	if err != nil {
		return d.fail("start", err)
	}
	cmd := uapi.CmdStartDev
	if from == phaseRecover {
		cmd = uapi.CmdEndUserRecovery
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ses.failed: // a tag that is not fetched would keep Start waiting for ever
			cancel(ses.err)
		case <-ctx.Done():
		}
	}()
	if err := devCommand(ctx, cmd, d.ID(), uint64(os.Getpid())); err != nil {
		if c := context.Cause(ctx); c != nil {
			err = c
		}
		return d.fail("start", err)
	}
	d.setPhase(phaseLive)
	d.keepPagesStable()
	return nil
}

func (d *Device) readyToStart() (*session, phase, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.phase != phaseAdded && d.phase != phaseRecover:
		return nil, 0, fmt.Errorf("%w: %v", ErrState, d.phase)
	case d.size == 0:
		return nil, 0, fmt.Errorf("%w: the device has no size", ErrState)
	case d.serving == nil:
		return nil, 0, fmt.Errorf("%w: no queue is served", ErrState)
	}
	for i, q := range d.serving.queues {
		if q == nil {
			return nil, 0, fmt.Errorf("%w: queue %d is not served", ErrState, i)
		}
	}
	return d.serving, d.phase, nil
}

// keepPagesStable asks the page cache to leave pages alone while zero copy reads them. The disk is there and may be in
// use: that this fails is no reason to take it away again, and a handler that reads a page once is right without it.
func (d *Device) keepPagesStable() {
	if d.Mode() != ModeZeroCopy {
		return
	}
	if err := d.Tune("stable_writes", "1"); err != nil {
		d.cfg.Logger.Error("pages may change while they are written", "device", d.Path(), "err", err)
	}
}

// Tune writes a setting of the disk's queue (/sys/block/ublkbN/queue), such as "scheduler". The disk must be started.
func (d *Device) Tune(name, value string) error {
	path := fmt.Sprintf("/sys/block/ublkb%d/queue/%s", d.ID(), name)
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return d.fail("tune", err)
	}
	return nil
}

// Stop makes the disk go, in use or not: its users get errors. Requests in flight are awaited, so the ring's owner must
// go on waiting and the handler must go on completing. Afterwards the device is as Create left it: the number stays
// ours, and Serve and Start bring the disk back. (The driver cannot start a stopped device again; this deletes and
// adds it.) While somebody still holds the dead disk open that cannot be finished: at ctx's end the error is
// ErrBusy, and Stop or Delete can be tried again.
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
	if err := d.endDisk(ctx, cmd); err != nil {
		return err
	}
	if err := d.del(ctx); err != nil {
		return err
	}
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
				if ses.left--; ses.left == 0 {
					close(ses.ended)
				}
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
		d.setPhase(phaseGone)
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
	if d.getPhase() != phaseLive {
		return d.fail("stop", d.stop(ctx, uapi.CmdStopDev))
	}
	if Features(d.info.Flags).Has(FeatureSafeStop) {
		err := d.stop(ctx, uapi.CmdTryStopDev)
		if errors.Is(err, unix.EBUSY) && d.getPhase() == phaseLive {
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
	if d.getPhase() == phaseGone {
		return nil
	}
	var err error
	if d.idle() {
		err = d.closeChar()
	} else {
		err = d.endDisk(ctx, uapi.CmdStopDev)
	}
	if err == nil {
		err = d.del(ctx)
	}
	return d.fail("delete", err)
}

// Quiesce hands the disk over in order: requests with the handler are finished, others wait in the kernel, and the next
// server may Recover. This Device is gone afterwards. It needs FeatureQuiesce and a recovery other than RecoverNone.
// (Without the feature, close the ring and Abandon the device: held requests are re-issued.)
func (d *Device) Quiesce(ctx context.Context) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("quiesce", err)
	}
	defer d.unlock()
	if d.getPhase() != phaseLive {
		return d.fail("quiesce", fmt.Errorf("%w: %v", ErrState, d.getPhase()))
	}
	if !Features(d.info.Flags).Has(FeatureQuiesce) {
		return d.fail("quiesce", fmt.Errorf("%w: %v", ErrUnsupported, FeatureQuiesce))
	}
	ms := uint64(0) // no limit
	if end, ok := ctx.Deadline(); ok {
		ms = uint64(max(time.Until(end).Milliseconds(), 1))
	}
	err := devCommand(ctx, uapi.CmdQuiesceDev, d.ID(), ms)
	if err == nil {
		err = d.awaitQueues(ctx)
	}
	if err != nil {
		return d.fail("quiesce", err)
	}
	d.setPhase(phaseGone)
	return d.fail("quiesce", d.closeChar())
}

// Abandon leaves the disk as a crash would, to be recovered as Config.Recovery says: requests with the handler stay
// unanswered. The rings that served the device must have been closed (else ErrState). This Device is gone afterwards.
func (d *Device) Abandon(ctx context.Context) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("abandon", err)
	}
	defer d.unlock()
	d.mu.Lock()
	ses := d.serving
	d.mu.Unlock()
	if ses != nil {
		for _, q := range ses.queues {
			if q != nil && !q.ring.Closed() {
				return d.fail("abandon", fmt.Errorf("%w: the ring of queue %d is not closed", ErrState, q.id))
			}
		}
		for _, q := range ses.queues {
			if q != nil && q.alive > 0 { // the ring's thread is done with it: what is alive is with the handler
				q.alive = 0
				q.end()
			}
		}
	}
	if err := d.awaitQueues(ctx); err != nil {
		return d.fail("abandon", err)
	}
	d.setPhase(phaseGone)
	return d.fail("abandon", d.closeChar())
}

// Resize changes the size in bytes. On a started disk it needs FeatureResize (Linux 6.16); its users see
// the new size at once.
func (d *Device) Resize(ctx context.Context, size int64) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("resize", err)
	}
	defer d.unlock()
	if size <= 0 || size%int64(d.cfg.LogicalBlock) != 0 {
		return d.fail("resize", fmt.Errorf("size %d is no multiple of the logical block of %d bytes", size, d.cfg.LogicalBlock))
	}
	return d.fail("resize", d.resize(ctx, size))
}

func (d *Device) resize(ctx context.Context, size int64) error {
	old := d.Config().Size
	switch p := d.getPhase(); p {
	case phaseAdded:
		d.setSize(size)
		if err := d.setParams(ctx); err != nil {
			d.setSize(old)
			return err
		}
	case phaseLive:
		if !Features(d.info.Flags).Has(FeatureResize) {
			return fmt.Errorf("%w while the disk is there: %v", ErrUnsupported, FeatureResize)
		}
		if err := devCommand(ctx, uapi.CmdUpdateSize, d.ID(), uint64(size)>>uapi.SectorShift); err != nil {
			return err
		}
		d.setSize(size)
	default:
		return fmt.Errorf("%w: %v", ErrState, p)
	}
	return nil
}

func (d *Device) setSize(size int64) {
	d.mu.Lock()
	d.size = size
	d.mu.Unlock()
}
