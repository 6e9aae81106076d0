package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
)

// resizeLimit bounds how long a block device may take to get another size.
const resizeLimit = 30 * time.Second

// volumeDevice is the block device of one volume through its life: added,
// started while this node is Primary, stopped, deleted.
type volumeDevice struct {
	vol    *config.Volume
	device Device

	turn  chan struct{} // held over calls of device: they come one at a time
	size  int64         // bytes, of the device when it was started last; the turn's
	block int           // its logical block size, bytes; the turn's

	started atomic.Bool  // changes in the turn
	wanted  atomic.Int64 // bytes, for resize
	follows atomic.Int64 // times that wanted has changed and is not followed yet

	left atomic.Pointer[leftUsers] // who were found, and are not served yet; nil: nobody
}

// leftUsers are users whose daemon has died: they wait for this one.
type leftUsers struct {
	refused  bool         // they are served with errors: their data is not here
	requests atomic.Int64 // that were answered so
}

func newVolumeDevice(v *config.Volume, dev Device) *volumeDevice {
	d := &volumeDevice{vol: v, device: dev, turn: make(chan struct{}, 1)}
	if a, ok := dev.(Adopter); ok && a.Adopted() {
		d.left.Store(new(leftUsers))
		d.started.Store(true)
	}
	return d
}

// submitTo is where the device's requests go: to the engine of a loop, or back with errors.
func (d *volumeDevice) submitTo(l *loop) func(*engine.Request) {
	return func(r *engine.Request) {
		if u := d.left.Load(); u != nil && u.refused {
			u.requests.Add(1)
			r.Err = engine.EIO
			d.device.Complete(r)
			return
		}
		l.submit(r)
	}
}

// alone runs f when no other call of the device is under way.
func (d *volumeDevice) alone(ctx context.Context, f func() error) error {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
		return f()
	case <-ctx.Done():
		return fmt.Errorf("%s is still being changed: %w", d.device.Path(), ctx.Err())
	}
}

// start makes the device appear with size bytes and logical blocks of block bytes, or gives it that size.
func (d *volumeDevice) start(ctx context.Context, size int64, block int) error {
	return d.alone(ctx, func() error {
		d.block = block
		return d.fit(ctx, size)
	})
}

// restart is start with the size that it had.
func (d *volumeDevice) restart(ctx context.Context) error {
	return d.alone(ctx, func() error { return d.fit(ctx, d.size) })
}

// resize follows the size that is wanted last while the device is there.
func (d *volumeDevice) resize(ctx context.Context) error {
	return d.alone(ctx, func() error {
		if !d.started.Load() {
			return nil
		}
		return d.fit(ctx, d.wanted.Load())
	})
}

func (d *volumeDevice) fit(ctx context.Context, size int64) error {
	switch {
	case size <= 0:
		return nil // the size comes with the first disk or the peer
	case !d.started.Load():
		if err := d.device.Start(ctx, size, d.block); err != nil {
			return fmt.Errorf("%s: %w", d.device.Path(), err)
		}
		d.started.Store(true)
	case d.size != size:
		if err := d.device.Resize(ctx, size); err != nil {
			return fmt.Errorf("%s: resize to %d bytes: %w", d.device.Path(), size, err)
		}
	}
	d.size = size
	return nil
}

// stop makes the device go away; a *BusyError while it is held.
func (d *volumeDevice) stop(ctx context.Context) error {
	return d.alone(ctx, func() error {
		if d.started.Load() {
			if err := d.device.Stop(ctx); err != nil {
				return err
			}
		}
		d.started.Store(false)
		d.left.Store(nil)
		return nil
	})
}

func (d *volumeDevice) delete(ctx context.Context) error {
	return d.alone(ctx, func() error { return d.device.Delete(ctx) })
}

// path is where the device is, "" while it is not there. It does not wait for a call that is under way.
func (d *volumeDevice) path() string {
	if !d.started.Load() {
		return ""
	}
	return d.device.Path()
}

// addDevices reserves the devices of all volumes, at the same time: applications may be waiting for them, and the driver takes
// its time for each. On an error none is left, and of several errors the first volume's is told.
func (r *Resource) addDevices(ctx context.Context, opened openedStores) error {
	if r.cfg.Devices == nil {
		return nil
	}
	err := r.together(opened, func(_ int, cfg DeviceConfig) error { return r.cfg.Devices.Clear(ctx, cfg) })
	if err != nil {
		return err
	}
	added := make([]Device, len(opened))
	err = r.together(opened, func(i int, cfg DeviceConfig) (err error) {
		added[i], err = r.cfg.Devices.Add(ctx, cfg)
		return err
	})
	for i, dev := range added {
		if dev != nil {
			r.devices = append(r.devices, newVolumeDevice(&r.cfg.Local.Volumes[i], dev))
		}
	}
	if err != nil {
		return errors.Join(err, r.deleteDevices(ctx))
	}
	return nil
}

// together does something about the devices of all volumes at the same time. Of several errors the first volume's is told.
func (r *Resource) together(opened openedStores, do func(i int, cfg DeviceConfig) error) error {
	errs := make([]error, len(opened))
	var all sync.WaitGroup
	for i, o := range opened {
		v := &r.cfg.Local.Volumes[i]
		all.Go(func() {
			errs[i] = do(i, DeviceConfig{
				Resource: r.name(), Volume: v.Number, Minor: v.Minor, BlockSize: o.b.data.block, DiscardUnit: o.b.data.discards.unit, Recover: r.cfg.Recover,
			})
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("block device of volume %d: %w", r.cfg.Local.Volumes[i].Number, err)
		}
	}
	return nil
}

func (r *Resource) deleteDevices(ctx context.Context) (err error) {
	for _, d := range r.devices {
		if derr := d.delete(ctx); derr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", d.device.Path(), derr))
		}
	}
	return err
}

// startDevices makes every device appear that has a size.
func (r *Resource) startDevices(ctx context.Context) error {
	st, err := r.Status(ctx)
	if err != nil {
		return err
	}
	for _, d := range r.devices {
		for i := range st.Volumes {
			if st.Volumes[i].Number == d.vol.Number {
				err = errors.Join(err, d.start(ctx, st.Volumes[i].Size, int(st.Volumes[i].BlockSize)))
			}
		}
	}
	return err
}

// stopDevice makes a device go away. The users that a dead daemon has left are gone with it.
func (r *Resource) stopDevice(ctx context.Context, d *volumeDevice) error {
	left := d.left.Load()
	if err := d.stop(ctx); err != nil {
		return err
	}
	if left == nil {
		return nil
	}
	r.log.Info("the users that the last daemon had left have ended", "device", d.device.Path(), "requests answered with errors", left.requests.Load())
	ctx, cancel := r.undoing(ctx) // nobody says it again
	defer cancel()
	return r.order(ctx, engine.Unused{Vol: d.vol.Number})
}

// stopDevices makes all devices go away, or none: while one of them is held, those
// that have been stopped come back.
func (r *Resource) stopDevices(ctx context.Context) error {
	for i, d := range r.devices {
		err := r.stopDevice(ctx, d)
		if err == nil {
			continue
		}
		for _, before := range r.devices[:i] {
			err = errors.Join(err, before.restart(ctx))
		}
		return err
	}
	return nil
}
