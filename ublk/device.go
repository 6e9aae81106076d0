package ublk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/urbd/urbd/ublk/internal/uapi"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

const paramsLen = uint32(unsafe.Sizeof(uapi.Params{}))

// phase is where a device is in its life.
type phase uint8

const (
	phaseGone    phase = iota // deleted, or handed over: nothing works any more
	phaseAdded                // the driver knows it; there is no disk
	phaseRecover              // found without server; the disk is there, its requests wait
	phaseLive                 // served
	phaseStopped              // the disk has gone, the driver still has the device
	phaseAway                 // in the middle of a Stop: the driver has deleted it and not added it again
)

func (p phase) String() string {
	return [...]string{"deleted", "added", "recovering", "live", "stopped", "not added again"}[p]
}

// A Device is one ublk device of this process.
//
//	Create  --> added --Serve, Start--> live --Stop--> added --Delete--> gone
//	Recover --> recovering --Serve, Start--> live
//	                                    live --Quiesce--> gone (the disk waits for the next server)
//
// Serve and ServeQueue are for the threads of the rings; the other methods block and are for any other goroutine, one
// at a time (they wait for each other).
type Device struct {
	cfg  Config       // completed; fixed by the first add, but for Size
	info uapi.DevInfo // as the first add was granted; later ones must be granted the same

	control chan struct{} // held by the method that talks to the driver

	mu      sync.Mutex // leaf: guards what follows
	size    int64      // bytes; cfg.Size in force
	phase   phase
	char    int // the character device; -1 when closed
	serving *session

	prepared map[int][]byte // memory for queues that are not served yet, by number
}

// A session is one time of being served, from the first ServeQueue to the end of the last queue.
type session struct {
	queues []*queue      // by number, nil where not served yet
	left   int           // queues that have not ended
	over   bool          // being ended: no more queues are served
	ended  chan struct{} // closed when left is 0
	failed chan struct{} // closed at the first failure
	err    error         // why failed
	report chan error    // gets err; closed with ended
}

func newSession(queues int) *session {
	return &session{
		queues: make([]*queue, queues), left: queues,
		ended: make(chan struct{}), failed: make(chan struct{}), report: make(chan error, 1),
	}
}

// ID is N of /dev/ublkbN.
func (d *Device) ID() int { return int(d.info.DevID) }

// Path is the block device: "/dev/ublkb0". It exists from Start to Stop.
func (d *Device) Path() string { return BlockPath(d.ID()) }

// BlockPath is the block device with a number.
func BlockPath(id int) string { return fmt.Sprintf("/dev/ublkb%d", id) }

// Mode is how requests carry data; never ModeAuto.
func (d *Device) Mode() Mode { return modeOf(Features(d.info.Flags)) }

// Config is the configuration in force: defaults filled in, queues and depth as the driver granted them.
func (d *Device) Config() Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.cfg
	c.Size = d.size
	return c
}

func (d *Device) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &OpError{Op: op, Device: d.Path(), Err: err}
}

// Create adds a device. The disk appears with Start. It fails when the number is taken (ErrExist), when the driver's
// limit is reached (ErrTooMany), and when the kernel cannot do what is asked (ErrUnsupported); and as Probe does.
// What it blocks on is the driver, until ctx ends.
func Create(ctx context.Context, cfg Config) (*Device, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("ublk: %w", err)
	}
	host, err := features(ctx)
	if err != nil {
		return nil, fmt.Errorf("ublk: %w", err)
	}
	if cfg.Mode == ModeAuto {
		if cfg.Mode = ModeCopy; host.Has(ModeZeroCopy.features()) {
			cfg.Mode = ModeZeroCopy
		}
	}
	if need := cfg.Mode.features() | cfg.Recovery.features(); !host.Has(need) {
		return nil, fmt.Errorf("ublk: %w: %v", ErrUnsupported, need&^host)
	}
	d := &Device{cfg: cfg, size: cfg.Size, control: make(chan struct{}, 1), char: -1}
	d.cfg.NoPartitionScan = cfg.NoPartitionScan && host.Has(FeatureNoPartitionScan)
	if err := d.add(ctx, host); err != nil {
		return nil, err
	}
	return d, nil
}

// wanted are the flags to ask for.
func (d *Device) wanted(host Features) Features {
	f := d.cfg.Mode.features() | d.cfg.Recovery.features() | Features(uapi.FIoctlEncode)
	f |= host & FeatureResize
	if d.cfg.Recovery != RecoverNone {
		f |= host & FeatureQuiesce
	}
	if d.cfg.NoPartitionScan {
		f |= FeatureNoPartitionScan
	}
	return f
}

// add makes the driver's device and brings it to phaseAdded, or leaves nothing behind.
func (d *Device) add(ctx context.Context, host Features) error {
	want := d.wanted(host)
	info := uapi.DevInfo{
		Queues: uint16(d.cfg.Queues), Depth: uint16(d.cfg.Depth), MaxIOBytes: uint32(d.cfg.MaxIO),
		DevID: uint32(d.cfg.ID), PID: int32(os.Getpid()), Flags: uint64(want), OwnerTag: d.cfg.Owner,
	}
	if err := devExchange(ctx, uapi.CmdAddDev, info.DevID, &info); err != nil {
		return &OpError{Op: "add", Device: addName(d.cfg.ID), Err: addError(err)}
	}
	if d.info == (uapi.DevInfo{}) { // the first time
		d.info, d.cfg.ID, d.cfg.Queues = info, int(info.DevID), int(info.Queues)
	}
	err := d.granted(want, &info)
	if err == nil && d.Config().Size > 0 {
		err = d.setParams(ctx)
	}
	if err == nil {
		err = d.openChar(ctx)
	}
	if err != nil {
		// The caller's deadline may be what ended it; the device must not stay.
		undo, cancel := anyway(ctx)
		defer cancel()
		return d.fail("add", errors.Join(err, devCommand(undo, uapi.CmdDelDev, d.ID(), 0)))
	}
	d.setPhase(phaseAdded)
	return nil
}

func addName(id int) string {
	if id == AnyID {
		return "/dev/ublkb*"
	}
	return BlockPath(id)
}

func addError(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	return means(errno, map[unix.Errno]error{
		unix.EEXIST: ErrExist, unix.EACCES: ErrTooMany, unix.EPERM: ErrPermission, unix.ENOSPC: ErrTooMany,
	})
}

// granted compares what the driver made with what was asked: it drops what it does not know without a word.
func (d *Device) granted(want Features, info *uapi.DevInfo) error {
	got := Features(info.Flags)
	switch {
	case !got.Has(want):
		return fmt.Errorf("%w: the driver dropped %v", ErrUnsupported, want&^got)
	case int(info.Queues) != d.cfg.Queues || int(info.Depth) != d.cfg.Depth:
		return fmt.Errorf("%w: the driver gives %d queues of depth %d instead of %d of %d", ErrUnsupported,
			info.Queues, info.Depth, d.cfg.Queues, d.cfg.Depth)
	case int(info.MaxIOBytes) != d.cfg.MaxIO:
		return fmt.Errorf("%w: the driver gives requests of %d bytes instead of %d", ErrUnsupported, info.MaxIOBytes, d.cfg.MaxIO)
	}
	return nil
}

// setParams tells the driver the geometry and reads back what it understood.
func (d *Device) setParams(ctx context.Context) error {
	cfg := d.Config()
	p := cfg.params()
	if err := devExchange(ctx, uapi.CmdSetParams, d.info.DevID, &p); err != nil {
		return fmt.Errorf("set parameters: %w", err)
	}
	got, err := d.getParams(ctx)
	if err != nil {
		return err
	}
	if got.Types&p.Types != p.Types || got.Basic != p.Basic || p.Types&uapi.ParamDiscard != 0 && got.Discard != p.Discard {
		return fmt.Errorf("%w: the driver changed the parameters", ErrUnsupported)
	}
	return nil
}

func (d *Device) getParams(ctx context.Context) (uapi.Params, error) { return getParams(ctx, d.ID()) }

func getParams(ctx context.Context, id int) (uapi.Params, error) {
	p := uapi.Params{Len: paramsLen}
	if err := devExchange(ctx, uapi.CmdGetParams, uint32(id), &p); err != nil {
		return p, fmt.Errorf("get parameters: %w", err)
	}
	return p, nil
}

// openChar opens the character device. udev may hold it for an instant, or not have made it yet.
func (d *Device) openChar(ctx context.Context) error {
	limit := time.Now().Add(10 * time.Second)
	for {
		fd, err := driver.open(d.ID())
		if err == nil {
			d.mu.Lock()
			d.char = fd
			d.mu.Unlock()
			return nil
		}
		if !momentary(err) || time.Now().After(limit) {
			return fmt.Errorf("open %s: %w", charPath(d.ID()), err)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("open %s: %w", charPath(d.ID()), err)
		}
	}
}

// momentary says that a character device that could not be opened may be openable a moment later.
func momentary(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINTR)
}

// closeChar closes the character device and gives back what was prepared; no queue may be served.
func (d *Device) closeChar() error {
	d.mu.Lock()
	fd, prepared := d.char, d.prepared
	d.char, d.prepared = -1, nil
	d.mu.Unlock()
	var errs []error
	for _, mem := range prepared {
		errs = append(errs, uring.UnmapMemory(mem))
	}
	if fd >= 0 {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

func (d *Device) setPhase(p phase) {
	d.mu.Lock()
	d.phase = p
	d.mu.Unlock()
}

func (d *Device) getPhase() phase {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.phase
}

// lock takes the right to talk to the driver about this device.
func (d *Device) lock(ctx context.Context) error {
	select {
	case d.control <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another operation on the device is under way: %w", ctx.Err())
	}
}

func (d *Device) unlock() { <-d.control }

// anyway is ctx without its end, for what must not be left half done; it has a limit of its own.
func anyway(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}

// pause waits for the next look at something that the kernel does not announce.
func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
