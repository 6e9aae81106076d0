package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/ublk"
)

// Start makes the block device appear, with its names. One that was adopted is there: only its size may be new.
func (d *device) Start(ctx context.Context, size int64, block int) error {
	adopted := d.adoption.pending()
	if err := d.fetch(ctx); err != nil {
		return err
	}
	if adopted {
		if err := d.adoption.settle(ctx); err != nil {
			return err
		}
		return d.fit(ctx, size)
	}
	if err := d.shape(ctx, size, block); err != nil {
		return err
	}
	if err := d.names.announce(d.dev.ID(), d.resource, d.volume); err != nil {
		return err
	}
	if err := d.dev.Start(ctx); err != nil {
		d.names.remove(d.dev.ID())
		return err
	}
	d.appeared()
	return nil
}

// shape gives a device that is not there yet its size and logical block size, the size first: it is a multiple of both
// the old and the new one.
func (d *device) shape(ctx context.Context, size int64, block int) error {
	if err := d.fit(ctx, size); err != nil || d.dev.Config().LogicalBlock == block {
		return err
	}
	return d.dev.SetBlockSize(ctx, block)
}

func (d *device) fit(ctx context.Context, size int64) error {
	if d.dev.Config().Size == size {
		return nil
	}
	return d.dev.Resize(ctx, size)
}

// appeared does what can be done only when the block device is there. That is no reason to say that it is not: this node
// would be made Secondary again under its users.
func (d *device) appeared() {
	// Write-back throttling expects an answer in 2 ms, which a peer on a network does not give.
	for name, value := range map[string]string{"scheduler": "none", "wbt_lat_usec": "0"} {
		if err := d.dev.Tune(name, value); err != nil {
			d.logger.Debug("queue setting", "device", d.Path(), "err", err)
		}
	}
	err := d.names.announce(d.dev.ID(), d.resource, d.volume)
	if err == nil {
		err = d.names.link(d.dev.ID(), d.resource, d.volume)
	}
	if err != nil {
		d.logger.Error("the block device is there without its name", "device", d.Path(), "err", err)
	}
}

// fetch puts the fetches on the ring again after a Stop, which ended them. It runs on the loop's thread for that.
func (d *device) fetch(ctx context.Context) error {
	if d.served.Load() && !d.adoption.pending() {
		return nil
	}
	if d.ring == nil {
		return errors.New("the device is started before it is served")
	}
	done := make(chan error, 1)
	if err := d.ring.Post(func() {
		done <- d.Serve(d.ring, d.submit)
	}); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resize changes the size. While the users of an adopted device wait, the kernel takes no size; they get it when they go on.
func (d *device) Resize(ctx context.Context, size int64) error {
	if d.adoption.keep(size) {
		return nil
	}
	return d.fit(ctx, size)
}

// Stop makes the block device go, unless it is mounted or held.
func (d *device) Stop(ctx context.Context) error {
	if err := d.adoption.settle(ctx); err != nil {
		// Nobody serves it, so the kernel cannot be asked in the usual way; its users must not be thrown out.
		held, err := d.dev.Holders()
		if err != nil {
			return err
		}
		if len(held) > 0 {
			return &replication.BusyError{Device: d.Path(), Holder: holders(held)}
		}
	}
	err := patiently(ctx, func() error { return d.dev.TryStop(ctx) })
	if busy := new(ublk.BusyError); errors.As(err, &busy) {
		return &replication.BusyError{Device: d.Path(), Holder: holders(busy.Holders)}
	}
	if err != nil {
		return err
	}
	d.served.Store(false)
	d.adoption.forget()
	d.names.remove(d.dev.ID())
	return nil
}

// holders names the users of a device as the end of "in use by ...".
func holders(all []ublk.Holder) string {
	var names []string
	for _, h := range all {
		name := h.String()
		if at, ok := strings.CutPrefix(h.What, "mounted on "); ok {
			name = "the mount at " + at
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// Delete gives the minor back. An adopted device whose users still wait is left to the next daemon: that one may
// succeed, and they have nothing else.
func (d *device) Delete(ctx context.Context) error {
	if d.adoption.settle(ctx) != nil {
		if d.served.Load() {
			return nil // the end of this process gives it back as a crash would
		}
		return d.dev.Abandon(ctx)
	}
	err := d.dev.Delete(ctx)
	if err == nil {
		d.served.Store(false)
		d.names.remove(d.dev.ID())
	}
	return err
}
