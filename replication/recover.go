package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// meetPeer bounds how long the users of an adopted device wait for the peer
// before this node goes on alone; meetNobody does where the metadata says that there was none when the last daemon
// died. It is for a peer that comes back in that moment.
const (
	meetPeer   = 15 * time.Second
	meetNobody = 2 * time.Second
)

// recover gives adopted devices back to their users: applications that were
// writing when the last daemon died, and have been waiting since. Order: the backing
// stores are attached and their activity logs replayed; the peer is met, or was waited for; this
// node is Primary again; only then requests are taken, the re-issued ones first. When the peer was promoted meanwhile, they go on waiting.
func (r *Resource) recover(ctx context.Context) {
	var waiting []*volumeDevice
	for _, d := range r.devices {
		if d.adopted {
			waiting = append(waiting, d)
		}
	}
	if len(waiting) == 0 {
		return
	}
	r.waitPeer(ctx)
	for {
		changed := r.changes.wait()
		err := r.alone(ctx, func() error { return r.letGo(ctx, waiting) })
		if err == nil {
			return
		}
		r.log.Error("the users of the block device wait: this node cannot be Primary again", "err", err)
		select {
		case <-changed:
		case <-time.After(meetPeer):
		case <-ctx.Done():
			return
		case <-r.dead:
			return
		}
	}
}

// letGo makes this node Primary and serves the adopted devices. One that was stopped meanwhile has no users any more.
func (r *Resource) letGo(ctx context.Context, waiting []*volumeDevice) error {
	waiting = slices.DeleteFunc(waiting, func(d *volumeDevice) bool { return d.path() == "" })
	if len(waiting) == 0 {
		return nil
	}
	if err := r.order(ctx, engine.Promote{}); err != nil {
		return err
	}
	var failed error
	err := r.on(ctx, func(l *loop) {
		for _, d := range waiting {
			if err := d.device.Serve(l.ring, l.submit); err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", d.device.Path(), err))
			}
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	r.log.Info("the users of the block device go on")
	return r.startDevices(ctx)
}

// waitPeer returns when the peers have been introduced, or after meetPeer or meetNobody.
func (r *Resource) waitPeer(ctx context.Context) {
	limit := meetPeer
	if r.lastUse.without() {
		limit = meetNobody
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		changed := r.changes.wait()
		st, err := r.Status(ctx)
		if err != nil || st.Conn == statemachine.Connected {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
