package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// Do carries out one command and waits for its outcome or the end of ctx: nil,
// a statemachine.Refusal, a *BusyError, an *engine.LeaveError, or an error that says what to do next.
// Of engine.Attach only Vol matters. It is safe from any goroutine.
func (r *Resource) Do(ctx context.Context, cmd engine.Command) error {
	switch cmd := cmd.(type) {
	case engine.Attach:
		return r.alone(ctx, func() error { return r.attach(ctx, cmd.Vol) })
	case engine.Promote:
		return r.alone(ctx, func() error { return r.promote(ctx, cmd) })
	case engine.Demote:
		return r.alone(ctx, func() error { return r.demote(ctx) })
	case engine.Down:
		return r.alone(ctx, func() error { return r.doDown(ctx, cmd) })
	case engine.PauseSync:
		return r.pauseSync(ctx, cmd)
	case engine.Connect:
		r.connector.pace.reset()
	}
	return r.order(ctx, cmd)
}

// alone keeps commands apart that open backing stores or start and stop devices.
func (r *Resource) alone(ctx context.Context, f func() error) error {
	select {
	case r.admin <- struct{}{}:
		defer func() { <-r.admin }()
		return f()
	case <-r.dead:
		return r.errNotRunning()
	case <-ctx.Done():
		return fmt.Errorf("another command is still at work: %w", ctx.Err())
	}
}

// attach opens the backing store of a volume and gives it to the engine.
func (r *Resource) attach(ctx context.Context, vol int) error {
	v, err := r.volume(vol)
	if err != nil {
		return err
	}
	has := false
	if err := r.on(ctx, func(l *loop) { has = l.disks.stores[vol] != nil }); err != nil {
		return err
	}
	if has {
		return r.hasDisk(ctx, vol)
	}
	b, err := r.open(ctx, v)
	if err != nil {
		return err
	}
	return r.attachOpened(ctx, v, b)
}

// hasDisk says why a volume takes no disk: it has one, or one that was given up is not free yet.
func (r *Resource) hasDisk(ctx context.Context, vol int) error {
	st, err := r.Status(ctx)
	if err != nil {
		return err
	}
	for _, v := range st.Volumes {
		if v.Number == vol && v.State.Disk == statemachine.Failed {
			return fmt.Errorf("the disk before it was given up and has not ended yet: %s; attach again when it has (or remove that device)", v.DiskWaits)
		}
	}
	return statemachine.AlreadyAttached
}

// open takes a backing store. One that was just detached may not be closed yet, and a
// predecessor that has just died holds it until its last I/O has ended.
func (r *Resource) open(ctx context.Context, v *config.Volume) (*backing, error) {
	return r.openWith(ctx, func() (*backing, error) { return openBacking(v) })
}

func (r *Resource) openWith(ctx context.Context, open func() (*backing, error)) (*backing, error) {
	patience := time.Now()
	if r.cfg.Recover {
		patience = patience.Add(10 * time.Second)
	}
	for {
		closing := r.closing.Load() > 0 // before the attempt: what is closed during it is tried once more
		b, err := open()
		var busy *BusyError
		if err == nil || !errors.As(err, &busy) || !closing && time.Now().After(patience) {
			return b, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// attachOpened hands an open backing store over. From then on it is the loop's, also when nobody waits for the answer any
// more.
func (r *Resource) attachOpened(ctx context.Context, v *config.Volume, b *backing) error {
	if !b.data.direct || !b.meta.direct {
		r.log.Warn("the file system of the backing store has no direct I/O: data goes through the page cache", "device", b.data.path)
	}
	if w := b.data.discards.warning; w != "" {
		r.log.Warn(w, "device", b.data.path)
	}
	cmd := engine.Attach{
		Vol: v.Number, BackingSize: b.data.size, MetaSize: b.meta.size,
		BlockSize: int64(b.data.block), Flush: b.data.flush, MetaFlush: b.meta.flush, DeviceUUID: random(),
	}
	cmd.DataBlockOf, cmd.DataBlock = r.dataBlock(v.Number)
	var failed error
	o, err := r.begin(ctx, func(l *loop, reply func(error)) uint64 {
		if failed = l.disks.add(v.Number, b); failed != nil {
			return 0
		}
		return l.command(cmd, func(err error) {
			var refused statemachine.Refusal
			if errors.As(err, &refused) { // the engine has not even begun; otherwise it gives the store back itself
				l.disks.giveBack(v.Number)
			}
			reply(err)
		})
	})
	if err = errors.Join(err, failed); err != nil {
		b.close()
		return err
	}
	err = o.wait(ctx)
	var refused statemachine.Refusal
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("attach %s: %w", v.Disk, err)
}

// pauseSync sets or clears this node's reason to pause; what is so already is refused, as drbdsetup does.
func (r *Resource) pauseSync(ctx context.Context, cmd engine.PauseSync) error {
	st, err := r.Status(ctx)
	if err != nil {
		return err
	}
	for _, v := range st.Volumes {
		switch {
		case v.Number != cmd.Vol || v.State.UserISP != cmd.On:
		case cmd.On:
			return PausedAlready
		default:
			return NotPaused
		}
	}
	return r.order(ctx, cmd)
}

// promote makes this node Primary and the devices appear; without them it is no promotion.
func (r *Resource) promote(ctx context.Context, cmd engine.Promote) error {
	if err := r.endRefused(ctx); err != nil {
		return err
	}
	if err := r.order(ctx, cmd); err != nil {
		r.afterwards(err, r.unpromote)
		return err
	}
	err := r.serveLeft(ctx)
	if err == nil {
		err = r.startDevices(ctx)
	}
	if err == nil {
		return nil
	}
	back := context.WithoutCancel(ctx)
	back, cancel := context.WithTimeout(back, r.cfg.ShutdownTimeout)
	defer cancel()
	return errors.Join(err, r.stepDown(back))
}

// unpromote takes back a promotion that came after its time, unless another one has been given since.
func (r *Resource) unpromote(ctx context.Context) error {
	for _, d := range r.devices {
		if d.path() != "" {
			return nil
		}
	}
	r.log.Warn("the promotion came after its time: this node is Secondary again")
	return r.order(ctx, engine.Demote{})
}

// demote stops the devices first: as long as one is held, this node stays Primary. Users that a dead daemon has left, and who
// wait still, are given up by it: they cannot end before they get an answer.
func (r *Resource) demote(ctx context.Context) error {
	if err := r.giveUpLeft(ctx); err != nil {
		return err
	}
	return r.stepDown(ctx)
}

func (r *Resource) stepDown(ctx context.Context) error {
	if err := r.stopDevices(ctx); err != nil {
		return err
	}
	err := r.order(ctx, engine.Demote{})
	late := new(UnfinishedError)
	if err == nil || errors.As(err, &late) && late.GoesOn {
		return err
	}
	return errors.Join(err, r.startDevices(context.WithoutCancel(ctx)))
}

// doDown ends everything. Refused while a device is held. An *engine.LeaveError is said of what is down.
func (r *Resource) doDown(ctx context.Context, cmd engine.Down) error {
	if err := r.stopDevices(ctx); err != nil {
		return err
	}
	err := r.order(ctx, cmd)
	if left := new(engine.LeaveError); err != nil && !errors.As(err, &left) {
		r.afterwards(err, r.isDown)
		return err
	}
	return errors.Join(err, r.isDown(ctx))
}

// isDown ends the daemon of a resource that is down.
func (r *Resource) isDown(ctx context.Context) error {
	err := r.deleteDevices(ctx)
	select {
	case <-r.down:
	default:
		close(r.down)
	}
	return err
}

// DeviceBusy reports whether err says that something is held, mounted or locked.
func DeviceBusy(err error) bool {
	var busy *BusyError
	return errors.As(err, &busy) || errors.Is(err, unix.EBUSY)
}
