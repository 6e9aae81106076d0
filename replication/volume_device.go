package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/urbd/urbd/replication/config"
)

// volumeDevice is the block device of one volume through its life: added,
// started while this node is Primary, stopped, deleted.
type volumeDevice struct {
	vol    *config.Volume
	device Device

	mu      sync.Mutex // held over calls of device: they come one at a time
	started bool
	adopted bool  // found running, left by a predecessor
	size    int64 // bytes, of the started device
}

// start makes the device appear with size bytes, or gives it that size.
func (d *volumeDevice) start(ctx context.Context, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case size <= 0:
		return nil // the size comes with the first disk or the peer
	case !d.started:
		if err := d.device.Start(ctx, size); err != nil {
			return fmt.Errorf("%s: %w", d.device.Path(), err)
		}
		d.started = true
	case d.size != size:
		if err := d.device.Resize(ctx, size); err != nil {
			return fmt.Errorf("%s: resize to %d bytes: %w", d.device.Path(), size, err)
		}
	}
	d.size = size
	return nil
}

// resize follows the size of the volume while the device is there.
func (d *volumeDevice) resize(ctx context.Context, size int64) error {
	d.mu.Lock()
	started := d.started
	d.mu.Unlock()
	if !started {
		return nil
	}
	return d.start(ctx, size)
}

// stop makes the device go away; a *BusyError while it is held.
func (d *volumeDevice) stop(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.started {
		return nil
	}
	if err := d.device.Stop(ctx); err != nil {
		return err
	}
	d.started = false
	return nil
}

func (d *volumeDevice) delete(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.device.Delete(ctx)
}

// path is where the device is, "" while it is not there.
func (d *volumeDevice) path() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.started {
		return ""
	}
	return d.device.Path()
}

// addDevices reserves the devices of all volumes. On an error none is left.
func (r *Resource) addDevices(ctx context.Context, blockSizes map[int]int) error {
	if r.cfg.Devices == nil {
		return nil
	}
	for i := range r.cfg.Local.Volumes {
		v := &r.cfg.Local.Volumes[i]
		dev, err := r.cfg.Devices.Add(ctx, DeviceConfig{
			Resource: r.name(), Volume: v.Number, Minor: v.Minor, BlockSize: blockSizes[v.Number], Recover: r.cfg.Recover,
		})
		if err != nil {
			return errors.Join(fmt.Errorf("block device of volume %d: %w", v.Number, err), r.deleteDevices(ctx))
		}
		d := &volumeDevice{vol: v, device: dev}
		if a, ok := dev.(Adopter); ok && a.Adopted() {
			d.adopted, d.started = true, true
		}
		r.devices = append(r.devices, d)
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
				err = errors.Join(err, d.start(ctx, st.Volumes[i].Size))
			}
		}
	}
	return err
}

// stopDevices makes all devices go away, or none: while one of them is held, those
// that have been stopped come back.
func (r *Resource) stopDevices(ctx context.Context) error {
	for i, d := range r.devices {
		err := d.stop(ctx)
		if err == nil {
			continue
		}
		for _, before := range r.devices[:i] {
			if before.size > 0 {
				err = errors.Join(err, before.start(ctx, before.size))
			}
		}
		return err
	}
	return nil
}
