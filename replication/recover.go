package replication

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

const (
	// meetPeer bounds how long the users of an adopted device wait for the peer
	// before this node goes on alone; meetNobody does where the metadata says that there was none when the last daemon
	// died. It is for a peer that comes back in that moment.
	meetPeer   = 15 * time.Second
	meetNobody = 2 * time.Second
	// goOnLimit bounds how long their devices may take when they go on.
	goOnLimit = time.Minute
	// lookAgain is how often it is looked whether users who get errors have ended.
	lookAgain = 2 * time.Second
)

// recallUsers finds out what is known of users that a dead daemon has left, and for whom it is kept.
func (r *Resource) recallUsers() (err error) {
	inUse := slices.ContainsFunc(r.devices, isLeft)
	if r.users, err = readUsers(filepath.Join(r.cfg.RunDir, r.name()+".users"), inUse); err != nil {
		return err
	}
	return r.users.adopt(r.inUse)
}

// inUse reports whether the device of a volume was found with users that wait.
func (r *Resource) inUse(vol int) bool {
	return slices.ContainsFunc(r.devices, func(d *volumeDevice) bool { return d.vol.Number == vol && d.left.Load() != nil })
}

// recover gives adopted devices back to their users: applications that were
// writing when the last daemon died, and have been waiting since. Order: the backing
// stores are attached and their activity logs replayed; the peer is met, or was waited for; this
// node is Primary again; only then requests are taken, the re-issued ones first.
//
// The engine knows what data they worked on, and lets this node be Primary on no other (engine.Users). As long as that may still be
// granted they wait. When their data is lost, because the peer was promoted meanwhile, they get errors for everything, the
// re-issued requests included; and the device goes when they have ended.
func (r *Resource) recover(ctx context.Context) {
	if !slices.ContainsFunc(r.devices, isLeft) {
		return
	}
	go r.prepareLeft()
	r.waitPeer(ctx)
	for {
		changed := r.changes.wait()
		over := new(OvertakenError)
		err := r.turns.take(ctx, "the return of the users that the last daemon has left", recovering, r.attend)
		pause := lookAgain
		switch {
		case !slices.ContainsFunc(r.devices, isLeft):
			return
		case err != nil && !errors.As(err, &over):
			pause = meetPeer
			r.log.Error("the users of the block device wait: this node cannot be Primary again", "err", err,
				"to give them up", "urbd secondary "+r.name())
		}
		select {
		case <-changed:
		case <-time.After(pause):
		case <-ctx.Done():
			return
		case <-r.dead:
			return
		}
	}
}

func isLeft(d *volumeDevice) bool { return d.left.Load() != nil }

// prepareLeft makes serveLeft short, which stops the loop.
func (r *Resource) prepareLeft() {
	for _, d := range r.devices {
		if a, ok := d.device.(Adopter); ok && isLeft(d) {
			a.Prepare()
		}
	}
}

// attend does what can be done now for the users that were left.
func (r *Resource) attend(ctx context.Context) error {
	if err := r.refuseLost(ctx); err != nil {
		return err
	}
	waiting := false
	for _, d := range r.devices {
		switch u := d.left.Load(); {
		case u == nil:
		case d.path() == "", u.refused:
			var busy *BusyError
			if err := r.stopDevice(ctx, d); err != nil && !errors.As(err, &busy) {
				return err
			}
		default:
			waiting = true
		}
	}
	if !waiting {
		return nil
	}
	if err := r.order(ctx, engine.Promote{}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goOnLimit) // what is served is not looked at again
	defer cancel()
	if err := r.serveLeft(ctx); err != nil {
		return err
	}
	return r.startDevices(ctx)
}

// serveLeft serves those who wait: this node is Primary, on their data.
func (r *Resource) serveLeft(ctx context.Context) error {
	if !slices.ContainsFunc(r.devices, isLeft) {
		return nil
	}
	var failed error
	err := r.on(ctx, func(l *loop) {
		for _, d := range r.devices {
			if d.left.Load() == nil {
				continue
			}
			if err := d.device.Serve(l.ring, d.submitTo(l)); err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", d.device.Path(), err))
				continue
			}
			d.left.Store(nil)
		}
	})
	if err = errors.Join(err, failed); err == nil {
		r.log.Info("the users of the block device go on")
	}
	return err
}

// refuseLost answers those with errors whose data is lost.
func (r *Resource) refuseLost(ctx context.Context) error {
	st, err := r.Status(ctx)
	if err != nil {
		return err
	}
	for _, d := range r.devices {
		lost := slices.ContainsFunc(st.Volumes, func(v engine.VolumeStatus) bool { return v.Number == d.vol.Number && usersLost(v) })
		if u := d.left.Load(); u == nil || u.refused || !lost {
			continue
		}
		var failed error
		err := r.on(ctx, func(l *loop) {
			// Whoever hears that they are refused finds the device served; its requests come in a later turn.
			if failed = d.device.Serve(l.ring, d.submitTo(l)); failed == nil {
				d.left.Store(&leftUsers{refused: true})
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return fmt.Errorf("%s: %w", d.device.Path(), err)
		}
		r.log.Error("the users of the block device get errors: what they worked on is not here any more; what they wrote and was not confirmed is dropped",
			"device", d.device.Path(), "next", "unmount it, or end what uses it; it goes by itself then")
	}
	return nil
}

func usersLost(v engine.VolumeStatus) bool { return v.Users.State == engine.UsersLost }

// giveUpLeft ends the waiting of those who were left.
func (r *Resource) giveUpLeft(ctx context.Context) error {
	for _, d := range r.devices {
		if u := d.left.Load(); u != nil && !u.refused {
			if err := r.order(ctx, engine.LoseUsers{Vol: d.vol.Number}); err != nil {
				return err
			}
		}
	}
	return r.refuseLost(ctx)
}

// endRefused has the devices go whose users got errors, before they are served to others.
func (r *Resource) endRefused(ctx context.Context) error {
	for _, d := range r.devices {
		if u := d.left.Load(); u != nil && u.refused {
			if err := r.stopDevice(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// leftWord is what status says of users that a dead daemon has left.
func (d *volumeDevice) leftWord() string {
	switch u := d.left.Load(); {
	case u == nil:
		return ""
	case u.refused:
		return "refused"
	}
	return "waiting"
}

// metPeer reports whether the peer is there and has said what data it has. One whose disk is still being attached cannot yet, and says
// the same as one that has lost its disk.
func metPeer(st engine.Status) bool {
	return st.Conn == statemachine.Connected && !slices.ContainsFunc(st.Volumes, func(v engine.VolumeStatus) bool { return !v.State.PeerDisk.Usable() })
}

// lastUse is how volumes were used last: of those that were Primary when the node was shut down or died, how many
// had no peer, and how many had one.
type lastUse struct{ alone, together int }

// degraded reports whether a volume was Primary without its peer. Source: docs/drbd-metadata.md 6.2.
func (u lastUse) degraded() bool { return u.alone > 0 }

// without reports whether there was no peer, whichever volume is asked.
func (u lastUse) without() bool { return u.alone > 0 && u.together == 0 }

// lastUseOf is what the disks said when they were attached first. One that was not says nothing.
func lastUseOf(st engine.Status) (u lastUse) {
	for _, v := range st.Volumes {
		switch v.LastUse {
		case engine.PrimaryAlone:
			u.alone++
		case engine.PrimaryTogether:
			u.together++
		}
	}
	return u
}

// waitPeer returns when the peers have been introduced, or after meetPeer or meetNobody; or when this node cannot be Primary in any case.
func (r *Resource) waitPeer(ctx context.Context) {
	limit := meetPeer
	if st, err := r.Status(ctx); err == nil && lastUseOf(st).without() {
		limit = meetNobody
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		changed := r.changes.wait()
		st, err := r.Status(ctx)
		if err != nil || metPeer(st) || slices.ContainsFunc(st.Volumes, usersLost) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
