package ublk

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

// Start makes the disk appear, or lets the waiting requests of a recovered one go. Every queue must have been
// served, and the rings' owners must be waiting: the kernel reads the partition table through the handler before
// Start returns. It must not be called on the thread of a ring. When it fails, the disk is not there, and Start can be tried
// again or Delete follow. There are two exceptions: after ErrServerFailed a tag is lost, so Stop or Delete comes first; and
// after ErrStuck the driver may still do what it was told; the next Start succeeds, if it has.
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
	err = devCommand(ctx, cmd, d.ID(), uint64(os.Getpid()))
	if from == phaseAdded && errors.Is(err, unix.EEXIST) {
		err = nil // a Start that was stuck has ended since
	}
	if err != nil {
		if why := context.Cause(ctx); why != nil && !errors.Is(err, why) {
			err = fmt.Errorf("%w (%w)", why, err) // how it ended counts as well: it may be ErrStuck
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
	case d.serving.err != nil:
		return nil, 0, d.serving.err
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

// SetBlockSize changes the logical block size of a device that is not started, in bytes: a power of two from 512 to
// the physical block size. The size has to be a multiple of it.
func (d *Device) SetBlockSize(ctx context.Context, block int) error {
	if err := d.lock(ctx); err != nil {
		return d.fail("set block size", err)
	}
	defer d.unlock()
	return d.fail("set block size", d.setBlockSize(ctx, block))
}

func (d *Device) setBlockSize(ctx context.Context, block int) error {
	old := d.cfg.LogicalBlock
	switch {
	case d.getPhase() != phaseAdded:
		return fmt.Errorf("%w: %v", ErrState, d.getPhase())
	case !power(block) || block < 512 || block > d.cfg.PhysicalBlock:
		return fmt.Errorf("logical block of %d bytes; powers of two from 512 to %d are possible", block, d.cfg.PhysicalBlock)
	case d.Config().Size%int64(block) != 0:
		return fmt.Errorf("size %d is no multiple of a logical block of %d bytes", d.Config().Size, block)
	}
	d.setLogicalBlock(block)
	if err := d.setParams(ctx); err != nil {
		d.setLogicalBlock(old)
		return err
	}
	return nil
}

func (d *Device) setLogicalBlock(block int) {
	d.mu.Lock()
	d.cfg.LogicalBlock = block
	d.mu.Unlock()
}

func (d *Device) setSize(size int64) {
	d.mu.Lock()
	d.size = size
	d.mu.Unlock()
}
