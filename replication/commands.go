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
		return r.turns.take(ctx, VerbAttach, ordering, func(ctx context.Context) error { return r.attach(ctx, cmd.Vol) })
	case engine.Promote:
		return r.turns.take(ctx, VerbPrimary, ordering, func(ctx context.Context) error { return r.promote(ctx, cmd) })
	case engine.Demote:
		return r.turns.take(ctx, VerbSecondary, ordering, r.demote)
	case engine.Down:
		name, as := VerbDown, ordering
		switch {
		case cmd.Force:
			name, as = VerbDown+" --force", forcing
		case r.at() == starting: // nothing is there yet that could end in order
			as = forcing
		}
		return r.turns.take(ctx, name, as, func(ctx context.Context) error { return r.doDown(ctx, cmd) })
	case engine.PauseSync:
		return r.pauseSync(ctx, cmd)
	case engine.Connect:
		r.connector.pace.reset()
	}
	return r.order(ctx, cmd)
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
	return r.openWith(ctx, v.Number, func() (*backing, error) { return r.cfg.open(v) })
}

func (r *Resource) openWith(ctx context.Context, vol int, open func() (*backing, error)) (*backing, error) {
	patience := time.Now()
	if r.cfg.Recover {
		patience = patience.Add(10 * time.Second)
	}
	for {
		closing := r.closing.Load() > 0 // before the attempt: what is closed during it is tried once more
		b, err := r.openInTime(ctx, vol, open)
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

// openInTime is open as long as ctx lasts. Nobody can take an open back from a disk that does not answer: what comes of it later is closed.
func (r *Resource) openInTime(ctx context.Context, vol int, open func() (*backing, error)) (*backing, error) {
	type opened struct {
		b   *backing
		err error
	}
	late := func() error {
		return fmt.Errorf("the disk does not answer: it is still being opened: %w", context.Cause(ctx))
	}
	for !r.opens.begin(vol) { // for an order that nobody waits for any more
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, late()
		}
	}
	done := make(chan opened, 1)
	go func() {
		b, err := open()
		r.opens.end(vol)
		done <- opened{b, err}
	}()
	select {
	case o := <-done:
		return o.b, o.err
	case <-ctx.Done():
	}
	r.closing.Add(1)
	go func() {
		defer r.closing.Add(-1)
		if o := <-done; o.err == nil {
			o.b.close()
		}
	}()
	return nil, late()
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
	block := r.blocks.of(ctx, v.Number)
	cmd.DataBlockOf, cmd.DataBlock = block.uuid, block.size
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
	if err == nil || overtaken(ctx) != nil { // by what takes everything down
		return err
	}
	back, cancel := r.undoing(ctx)
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
	if overtaken(ctx) != nil {
		return err
	}
	back, cancel := r.undoing(ctx)
	defer cancel()
	return errors.Join(err, r.startDevices(back))
}

// undoing is for what takes back an order that has failed, perhaps because its time was up.
func (r *Resource) undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), r.cfg.ShutdownTimeout)
}

// doDown ends everything. Refused while a device is held. An *engine.LeaveError is said of what is down.
func (r *Resource) doDown(ctx context.Context, cmd engine.Down) error {
	if r.at() == starting {
		return r.dropStart(ctx)
	}
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
	if !r.downAlready() {
		close(r.down)
	}
	return err
}

func (r *Resource) downAlready() bool {
	select {
	case <-r.down:
		return true
	default:
		return false
	}
}

// DeviceBusy reports whether err says that something is held, mounted or locked.
func DeviceBusy(err error) bool {
	var busy *BusyError
	return errors.As(err, &busy) || errors.Is(err, unix.EBUSY)
}
