package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk/uring"
)

// FakeDevices is Devices without a kernel, for tests: its devices take requests
// from the program itself.
type FakeDevices struct {
	mu   sync.Mutex
	all  map[int]*FakeDevice // by volume
	next error
}

// Clear finds nothing.
func (f *FakeDevices) Clear(_ context.Context, cfg DeviceConfig) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.all[cfg.Volume]
	if d == nil || cfg.Recover {
		return nil
	}
	if err := d.Stop(context.Background()); err != nil {
		return err
	}
	delete(f.all, cfg.Volume)
	return nil
}

// Add makes a FakeDevice. Asked to recover, it gives the one that a predecessor has left running.
func (f *FakeDevices) Add(_ context.Context, cfg DeviceConfig) (Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != nil {
		return nil, f.next
	}
	if f.all == nil {
		f.all = make(map[int]*FakeDevice)
	}
	if d := f.all[cfg.Volume]; cfg.Recover && d != nil && d.Size() > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.adopted, d.ring = true, nil
		return d, nil
	}
	d := &FakeDevice{cfg: cfg, waiting: make(map[*engine.Request]fakeCall)}
	f.all[cfg.Volume] = d
	return d, nil
}

// Fail makes every Add fail with err from now on; nil ends that.
func (f *FakeDevices) Fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = err
}

// Volume is the device of a volume, nil before it was added.
func (f *FakeDevices) Volume(n int) *FakeDevice {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[n]
}

// fakeCall is one Do.
type fakeCall struct {
	done chan<- engine.Errno
	data []byte // the caller's memory
}

// A FakeDevice is a Device whose user is a test.
type FakeDevice struct {
	cfg     DeviceConfig
	ring    *uring.Ring
	submit  func(*engine.Request)
	waiting map[*engine.Request]fakeCall // the loop's, like the next

	complete func(*engine.Request) // gets the requests in place of Do, for benchmarks

	mu     sync.Mutex
	size   int64 // bytes, 0 while it is stopped
	holder string
	onStop func(context.Context) // is called by a Stop that succeeds; may be nil

	adopted  bool
	prepared bool // before it was served
}

// Serve implements Device.
func (d *FakeDevice) Serve(ring *uring.Ring, submit func(*engine.Request)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ring, d.submit = ring, submit
	return nil
}

// Start implements Device.
func (d *FakeDevice) Start(_ context.Context, size int64, block int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.size != 0 {
		return errors.New("fake device: started twice")
	}
	d.size, d.cfg.BlockSize = size, block
	return nil
}

// Resize implements Device.
func (d *FakeDevice) Resize(_ context.Context, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size = size
	return nil
}

// Stop implements Device.
func (d *FakeDevice) Stop(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holder != "" {
		return &BusyError{d.Path(), d.holder}
	}
	if d.onStop != nil {
		d.onStop(ctx)
	}
	d.size = 0
	return nil
}

// Delete implements Device.
func (d *FakeDevice) Delete(context.Context) error { return nil }

// Adopted implements Adopter.
func (d *FakeDevice) Adopted() bool { return d.adopted }

// Prepare implements Adopter.
func (d *FakeDevice) Prepare() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prepared = d.ring == nil
}

// Prepared reports whether it was before it was served.
func (d *FakeDevice) Prepared() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.prepared
}

// Path implements Device.
func (d *FakeDevice) Path() string { return fmt.Sprintf("/dev/fake%d", d.cfg.Minor) }

// Hold makes Stop refuse; "" lets go.
func (d *FakeDevice) Hold(holder string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holder = holder
}

// Size is the size in bytes of the started device, 0 while it is stopped.
func (d *FakeDevice) Size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.size
}

// Complete implements Device.
func (d *FakeDevice) Complete(r *engine.Request) {
	if d.complete != nil {
		d.complete(r)
		return
	}
	c := d.waiting[r]
	delete(d.waiting, r)
	if r.Op == engine.OpRead && r.Err == engine.OK && unsafe.SliceData(c.data) != unsafe.SliceData(r.Data) {
		copy(c.data, r.Data)
	}
	c.done <- r.Err
}

// Keep implements Device.
func (d *FakeDevice) Keep(r *engine.Request) (release func(), ok bool) {
	mem, err := uring.MapMemory(int64(len(r.Data)))
	if err != nil {
		return nil, false
	}
	r.Data = mem[:len(r.Data)]
	return func() {}, true // what a test has, it keeps
}

// Do carries out one request and waits for its end. It is safe from any goroutine.
func (d *FakeDevice) Do(ctx context.Context, r engine.Request) (engine.Errno, error) {
	d.mu.Lock()
	ring, submit := d.ring, d.submit
	d.mu.Unlock()
	if ring == nil {
		return 0, errors.New("fake device: not served")
	}
	r.Vol = d.cfg.Volume
	done := make(chan engine.Errno, 1)
	err := ring.Post(func() {
		req := &r
		d.waiting[req] = fakeCall{done, r.Data}
		submit(req)
	})
	if err != nil {
		return 0, err
	}
	select {
	case errno := <-done:
		return errno, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
