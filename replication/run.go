package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
	"github.com/urbd/urbd/ublk/uring"
)

// Run is the daemon: it takes the lock of the resource, opens its control socket, opens and attaches the backing stores, adds the
// block devices, looks for the peer, and serves until it is told Down (then it
// returns nil), the context ends (then it shuts down cleanly within Config.ShutdownTimeout, below users of
// a block device as a crash would, and returns nil), or something it cannot live without fails.
func (r *Resource) Run(ctx context.Context) error {
	if err := r.cfg.machine.fit(len(r.cfg.Local.Volumes)); err != nil {
		return err
	}
	for _, warning := range unlimited() {
		r.log.Warn(warning)
	}
	release, err := LockForDaemon(ctx, r.cfg.RunDir, r.name())
	if err != nil {
		return err
	}
	defer release()
	if err := r.checkAddress(ctx); err != nil {
		return err
	}
	if exposed := r.cfg.Resource.Exposed(); exposed != "" {
		r.log.Warn(exposed)
	}
	edges, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r.enter(starting, nil)
	control, err := r.startControl(edges)
	if err != nil {
		r.enter(idle, nil)
		return err
	}
	start, started := context.WithCancel(edges)
	defer started()
	go r.watchStart(start)
	opened, ended, err := r.prepare(ctx)
	if ended == nil {
		control.stop()
		return err
	}
	stop, handled := make(chan struct{}), make(chan struct{})
	go func() { defer close(handled); r.handleEvents(stop) }()
	if err = r.start(ctx, opened); err == nil {
		started()
		r.serve(ctx, edges)
	} else {
		err = r.endStart(edges, err)
	}
	control.stop()
	cancel()
	r.endLoop()
	err = errors.Join(err, <-ended)
	close(stop)
	<-handled
	r.blocks.end()
	return err
}

// openedStores are backing stores before the engine has them.
type openedStores []openedStore

type openedStore struct {
	vol int
	b   *backing
}

// openAll opens every backing store, so that a busy or missing one is found before anything has begun.
func (r *Resource) openAll(ctx context.Context) (all openedStores, err error) {
	for i := range r.cfg.Local.Volumes {
		v := &r.cfg.Local.Volumes[i]
		b, err := r.open(ctx, v)
		if err != nil {
			all.close()
			return nil, err
		}
		all = append(all, openedStore{v.Number, b})
	}
	return all, nil
}

func (o openedStores) close() {
	for _, s := range o {
		s.b.close()
	}
}

// startLoop makes ring and engine on a thread of their own. The channel gives the loop's error when it has ended.
func (r *Resource) startLoop() (<-chan error, error) {
	ready, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and its flags with it
		l, err := r.newLoop()
		ready <- err
		if err != nil {
			return
		}
		err = l.run()
		l.stop(r.errNotRunning())
		close(r.dead)
		over, failed := r.endRing(l)
		ended <- errors.Join(err, failed)
		if !over {
			select {} // with the thread the kernel would begin to take the ring back
		}
	}()
	return ended, <-ready
}

// newLoop is called on the loop's thread.
func (r *Resource) newLoop() (*loop, error) {
	l := &loop{replies: make(map[uint64]func(error)), volumes: make(map[int]Device), tell: r.events.put}
	var err error
	volumes := len(r.cfg.Local.Volumes)
	l.ring, err = uring.New(uring.Config{
		Entries: ringEntries, Slots: ringSlots, Files: ringFiles + 2*volumes, Buffers: ringBuffers, Workers: workers(volumes),
	})
	if err != nil {
		return nil, err
	}
	l.began = l.ring.Now()
	if err := r.equip(l); err != nil {
		return nil, errors.Join(err, l.ring.Close(time.Time{}))
	}
	r.enter(serving, l)
	return l, nil
}

func (r *Resource) equip(l *loop) error {
	cfg := engineConfig(r.cfg.Resource, r.cfg.Local)
	l.users = r.users
	for i := range cfg.Volumes {
		if r.inUse(cfg.Volumes[i].Number) {
			cfg.Volumes[i].Users = l.users.known[cfg.Volumes[i].Number].Adopted()
		}
	}
	var err error
	if l.memory, err = uring.MapMemory(bufferSize(&cfg)); err != nil {
		return err
	}
	if _, err := l.ring.AddBuffer(l.memory); err != nil {
		r.log.Warn("disk I/O for the peer costs more than it need: its buffers cannot be registered", "err", err)
	}
	cfg.Buffers = l.memory
	if l.engine, err = engine.New(cfg); err != nil {
		return err
	}
	if l.disks, err = newDisks(l, r.closeStore); err != nil {
		return err
	}
	if err := l.conn.init(l, r.connector.run, r.connector.judge); err != nil {
		return err
	}
	for _, d := range r.devices {
		l.volumes[d.vol.Number] = d.device
		if d.left.Load() != nil {
			continue // its users wait until it is known who is Primary: see recover
		}
		if err := d.device.Serve(l.ring, d.submitTo(l)); err != nil {
			return fmt.Errorf("%s: %w", d.device.Path(), err)
		}
	}
	return nil
}

// closeStore closes a backing store in the background.
func (r *Resource) closeStore(b *backing) {
	r.closing.Add(1)
	go func() {
		defer r.closing.Add(-1)
		b.close()
	}()
}

// stuckLimit bounds how long the end of a daemon waits for I/O that was given up already.
const stuckLimit = time.Second

// endRing gives back what the loop had. I/O on a disk that does not answer is left to the kernel, which keeps the backing
// device, and nothing else, until it has ended.
func (r *Resource) endRing(l *loop) (over bool, err error) {
	limit := r.cfg.ShutdownTimeout
	if l.engine.Abandoned() > 0 {
		limit = min(limit, stuckLimit)
	}
	over, err = l.end(time.Now().Add(limit))
	if stuck := new(uring.InFlightError); errors.As(err, &stuck) {
		r.log.Warn("the kernel still works on a disk that does not answer: its device is in use until that has ended", "operations", stuck.Count)
		return over, nil
	}
	return over, err
}

// end gives back what the loop had, on its thread. Not over: devices are served still, because their users wait for the next
// daemon. The ring stays as it is then, without I/O, for the end of the process to take back, as after a crash.
func (l *loop) end(deadline time.Time) (over bool, err error) {
	l.conn.end()
	commands, err := l.ring.Drain(deadline)
	if commands > 0 {
		return false, err
	}
	if err := l.ring.Close(deadline); err != nil {
		return true, err // a disk that does not answer still works on our memory: it stays mapped
	}
	l.conn.closed()
	for _, a := range l.disks.stores {
		a.backing.close()
	}
	return true, errors.Join(uring.UnmapMemory(l.memory), uring.UnmapMemory(l.disks.zeroes))
}

// endLoop stops the loop; it may have stopped by itself.
func (r *Resource) endLoop() {
	l := r.serving()
	r.enter(idle, nil)
	l.post(context.Background(), func() { l.stopped = true })
	r.changes.changed()
}

// serve is the life of a daemon that has started, until something ends it. If that is the loop, Run gets its error.
func (r *Resource) serve(ctx, edges context.Context) {
	go r.watchLinks(edges)
	go r.recover(edges)
	if r.cfg.Ready != nil && !r.downAlready() {
		r.cfg.Ready()
	}
	select {
	case <-r.down:
	case <-r.dead:
	case <-ctx.Done():
		r.shutdown(edges)
	}
}

// start attaches every volume, at the same time, because applications may be waiting, and begins to look for the peer. Of several
// errors the first volume's is told. A disk that does not answer, and is given up, is done without, as later.
func (r *Resource) start(ctx context.Context, opened openedStores) error {
	errs := make([]error, len(opened))
	var all sync.WaitGroup
	for i, o := range opened {
		all.Go(func() { errs[i] = r.attachOpened(ctx, &r.cfg.Local.Volumes[i], o.b) })
	}
	all.Wait()
	for _, err := range errs {
		if late := new(engine.GivenUpError); errors.As(err, &late) {
			r.log.Warn("the start goes on without a disk", "err", err)
		} else if err != nil {
			return err
		}
	}
	return r.turns.take(ctx, "the start of the daemon", ordering, func(ctx context.Context) error {
		if r.downAlready() {
			return nil
		}
		return r.order(ctx, engine.Connect{})
	})
}

// endStart ends a daemon that has not come to serve. If it was taken down meanwhile it has done what it was told.
func (r *Resource) endStart(edges context.Context, why error) error {
	ctx, cancel := context.WithTimeout(edges, r.cfg.ShutdownTimeout)
	defer cancel()
	err := r.turns.take(ctx, "the end of a start that has failed", ordering, func(ctx context.Context) error {
		if r.downAlready() {
			why = nil
			return nil
		}
		r.order(ctx, engine.Down{Force: true})
		return r.deleteDevices(ctx)
	})
	return errors.Join(why, err)
}

// shutdown ends cleanly within the bound. A device that is held stays for a successor, which finds it quiesced and goes on
// (Config.Recover). Below its users nothing is ended in order: the loop stops between two turns and the connection breaks, as in a
// crash, so no write is answered that only this disk has, no generation begins, and the peer may be promoted.
func (r *Resource) shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ShutdownTimeout)
	defer cancel()
	r.log.Info("shutting down")
	if err := r.turns.take(ctx, "the end of the daemon", forcing, r.downOrLeave); err != nil {
		r.log.Warn("not down in order", "err", err)
	}
}

// downOrLeave goes down, or where that is refused, has a Secondary, which serves nobody, leave the peer.
func (r *Resource) downOrLeave(ctx context.Context) error {
	err := r.downWithin(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if DeviceBusy(err) {
		r.log.Warn("the block device stays for the next start: it is in use", "err", err)
		err = nil
	}
	st, failed := r.Status(ctx)
	if failed != nil || st.Role == statemachine.Primary || st.Conn == statemachine.StandAlone {
		return errors.Join(err, failed)
	}
	if refused := r.order(ctx, engine.Disconnect{}); refused != nil {
		return errors.Join(err, refused, r.order(ctx, engine.Disconnect{Force: true}))
	}
	return err
}

// downWithin goes down in order, and in the second half of its time by force: a disk may not answer.
func (r *Resource) downWithin(ctx context.Context) error {
	half, cancel := context.WithTimeout(ctx, r.cfg.ShutdownTimeout/2)
	defer cancel()
	err := r.doDown(half, engine.Down{})
	if late := new(UnfinishedError); errors.As(err, &late) {
		r.log.Warn("not down in order yet, now by force", "err", err)
		return r.doDown(ctx, engine.Down{Force: true})
	}
	return err
}

// handleEvents is the supervisor's side of the engine's events. After stop it handles what is left and ends.
func (r *Resource) handleEvents(stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var again <-chan time.Time
	for {
		stopped := false
		select {
		case <-r.events.some:
		case <-again:
		case <-stop:
			stopped = true
		}
		all, pause := r.events.take(time.Now(), stopped)
		for _, ev := range all {
			r.handle(ctx, ev)
		}
		if again = nil; pause > 0 {
			again = time.After(pause)
		}
		r.changes.changed()
		if stopped {
			return
		}
	}
}

func (r *Resource) handle(ctx context.Context, ev engine.Event) {
	switch ev := ev.(type) {
	case engine.StateChange:
		r.log.Log(ctx, level(ev.Level), "state", "device", r.label(ev.Vol), "from", ev.From, "to", ev.To, "cause", ev.Cause)
	case engine.Notice:
		args := []any{}
		if ev.Vol >= 0 {
			args = append(args, "device", r.label(ev.Vol))
		}
		r.log.Log(ctx, level(ev.Level), ev.Text, args...)
	case engine.RememberBlockSize:
		r.blocks.remember(ev)
	case engine.ResizeDevice:
		for _, d := range r.devices {
			if d.vol.Number == ev.Vol {
				d.wanted.Store(ev.Size)
				r.follow(ctx, d)
			}
		}
	}
}

// follow gives a device the size that is wanted last, in one goroutine however often that changes.
func (r *Resource) follow(ctx context.Context, d *volumeDevice) {
	if d.follows.Add(1) > 1 {
		return
	}
	go func() {
		for n := d.follows.Load(); n > 0; n = d.follows.Add(-n) {
			r.resize(ctx, d)
		}
	}()
}

func (r *Resource) resize(ctx context.Context, d *volumeDevice) {
	ctx, cancel := context.WithTimeout(ctx, resizeLimit)
	defer cancel()
	if err := d.resize(ctx); err != nil {
		r.log.Error("the block device keeps its old size", "device", r.label(d.vol.Number), "err", err)
	}
}

func level(l engine.Level) slog.Level {
	switch l {
	case engine.Warn:
		return slog.LevelWarn
	case engine.Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// portInUse names the next step for an address that somebody else listens on.
func portInUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }
