package replication

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
)

// slowDevice takes its time to stop and to change its size.
type slowDevice struct {
	*FakeDevice
	begun, goOn chan struct{}
}

func newSlowDevice(f *FakeDevice) *slowDevice {
	return &slowDevice{f, make(chan struct{}, 1), make(chan struct{})}
}

func (s *slowDevice) wait(ctx context.Context) error {
	s.begun <- struct{}{}
	select {
	case <-s.goOn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slowDevice) Stop(ctx context.Context) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.FakeDevice.Stop(ctx)
}

func (s *slowDevice) Resize(ctx context.Context, size int64) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.FakeDevice.Resize(ctx, size)
}

// While a device is being stopped, status says how things are.
func TestStatusDoesNotWaitForADevice(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.up()
	slow := newSlowDevice(n.devices.Volume(0))
	n.res.devices[0].device = slow
	n.must(engine.Promote{Force: true})
	ended := make(chan error)
	go func() { ended <- n.do(engine.Demote{}) }()
	<-slow.begun
	c, err := Dial(n.cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	st, err := c.Status(ctx)
	if err != nil || st.Role != "Primary" || st.Devices[0].Path != "/dev/fake0" {
		t.Errorf("%+v, %v", st, err)
	}
	close(slow.goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A device that does not take its new size keeps no later command waiting for ever, and the last size counts.
func TestResizeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := newSlowDevice(&FakeDevice{})
		d := newVolumeDevice(&config.Volume{}, slow)
		if err := d.start(t.Context(), 4096, 512); err != nil {
			t.Fatal(err)
		}
		r, err := New(Config{Resource: &config.Resource{Name: "r0"}, Local: &config.Host{}, Peer: &config.Host{}})
		if err != nil {
			t.Fatal(err)
		}
		r.devices = []*volumeDevice{d}
		r.handle(t.Context(), engine.ResizeDevice{Size: 8192})
		<-slow.begun
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.stop(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop meanwhile: %v", err)
		}
		time.Sleep(resizeLimit) // of the bubble's clock
		synctest.Wait()
		close(slow.goOn)
		r.handle(t.Context(), engine.ResizeDevice{Size: 12288})
		r.handle(t.Context(), engine.ResizeDevice{Size: 16384})
		<-slow.begun
		synctest.Wait()
		if size := slow.Size(); size != 16384 {
			t.Errorf("the device has %d bytes", size)
		}
	})
}

// slowDriver takes a while for each device, has no place for one volume, and counts what is deleted. Each volume has left a device that
// has the minor of another one now.
type slowDriver struct {
	full    int // the volume without a device; below 0: none
	cleared [4]atomic.Bool
	deleted atomic.Int32
}

type slowlyAdded struct {
	*FakeDevice
	driver *slowDriver
}

func (s *slowDriver) Clear(_ context.Context, cfg DeviceConfig) error {
	time.Sleep(time.Duration(cfg.Volume) * time.Second / 4) // of the bubble's clock
	s.cleared[cfg.Volume].Store(true)
	return nil
}

func (s *slowDriver) Add(_ context.Context, cfg DeviceConfig) (Device, error) {
	if !s.cleared[3-cfg.Volume].Load() {
		return nil, errors.New("the minor is taken")
	}
	time.Sleep(time.Second) // of the bubble's clock
	if cfg.Volume >= s.full && s.full >= 0 {
		return nil, errors.New("no place")
	}
	return slowlyAdded{&FakeDevice{cfg: cfg}, s}, nil
}

func (s slowlyAdded) Delete(context.Context) error {
	s.driver.deleted.Add(1)
	return nil
}

// Applications may wait for every device of a resource: none of them waits for the others to be reserved.
func TestDevicesAreAddedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			full    int
			deleted int32
			err     string
		}{
			{-1, 0, ""},
			{2, 2, "block device of volume 2: no place"},
		} {
			driver := &slowDriver{full: tt.full}
			r := &Resource{cfg: Config{Resource: &config.Resource{Name: "r0"}, Devices: driver, Local: &config.Host{}}}
			var opened openedStores
			for i := range 4 {
				r.cfg.Local.Volumes = append(r.cfg.Local.Volumes, config.Volume{Number: i, Minor: i})
				opened = append(opened, openedStore{i, &backing{data: new(store)}})
			}
			began := time.Now()
			err := r.addDevices(t.Context(), opened)
			if took := time.Since(began); took != 1750*time.Millisecond {
				t.Errorf("four devices took %v", took)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
				t.Errorf("error %v, not %q", err, tt.err)
			}
			if n := driver.deleted.Load(); n != tt.deleted {
				t.Errorf("%d devices are deleted, not %d", n, tt.deleted)
			}
			for i, d := range r.devices {
				if tt.err == "" && d.vol.Number != i {
					t.Errorf("device %d is that of volume %d", i, d.vol.Number)
				}
			}
			if tt.err == "" && len(r.devices) != 4 {
				t.Errorf("%d devices", len(r.devices))
			}
		}
	})
}
