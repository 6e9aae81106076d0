package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// A stage is how far a daemon is. Its control socket is there from starting on: a disk may let the start wait without bound, so that status
// says for which one, and Down ends the start.
type stage int

const (
	idle     stage = iota // before Run, and after it
	starting              // disks are opened, devices reserved
	serving               // there is a loop
)

// prepare opens the backing stores, reserves the devices and starts the loop. The channel is nil without an error if the start was ended by Down:
// an order that is given while a disk is being opened overtakes the start, which begins anew if the order is refused.
func (r *Resource) prepare(ctx context.Context) (opened openedStores, ended <-chan error, err error) {
	over := new(OvertakenError)
	for again := true; again; again = errors.As(err, &over) {
		err = r.turns.take(ctx, "the start of the daemon", ordering, func(turn context.Context) (err error) {
			if r.downAlready() {
				return nil
			}
			if opened, err = r.openAll(turn); err != nil {
				return err
			}
			if ended, err = r.equipAll(ctx, opened); err != nil { // soon done, and not to be left halfway
				opened.close()
			}
			return err
		})
	}
	if ended == nil {
		r.enter(idle, nil)
	}
	return opened, ended, err
}

// equipAll gives opened stores their devices and the loop.
func (r *Resource) equipAll(ctx context.Context, opened openedStores) (ended <-chan error, err error) {
	if err := r.cfg.machine.enoughMemory(r.memoryNeed(opened)); err != nil {
		return nil, err
	}
	warning, err := r.cfg.machine.enoughTasks(len(r.cfg.Local.Volumes))
	if err != nil {
		return nil, err
	}
	if warning != "" {
		r.log.Warn(warning)
	}
	if err := r.addDevices(ctx, opened); err != nil {
		return nil, err
	}
	if err := r.recallUsers(); err != nil {
		return nil, errors.Join(err, r.deleteDevices(ctx))
	}
	if !r.cfg.tame {
		harden(r.log)
	}
	if ended, err = r.startLoop(); err != nil {
		return nil, errors.Join(err, r.deleteDevices(ctx))
	}
	return ended, nil
}

// dropStart is Down of a daemon that has nothing yet: what the last one has left goes, unless it is in use.
func (r *Resource) dropStart(ctx context.Context) error {
	if r.cfg.Devices != nil {
		for i := range r.cfg.Local.Volumes {
			v := &r.cfg.Local.Volumes[i]
			if err := r.cfg.Devices.Clear(ctx, DeviceConfig{Resource: r.name(), Volume: v.Number, Minor: v.Minor}); err != nil {
				return err
			}
		}
	}
	close(r.down)
	return nil
}

// statusOfStart is what there is to say before there is an engine.
func (r *Resource) statusOfStart() engine.Status {
	st := engine.Status{Role: statemachine.Secondary}
	for _, n := range r.volumeNumbers() {
		st.Volumes = append(st.Volumes, engine.VolumeStatus{Number: n, State: statemachine.State{Disk: statemachine.Attaching, PeerDisk: statemachine.DUnknown}})
	}
	return st
}

// heldUp is how long a start may be held up by a disk before that is news.
const heldUp = 5 * time.Second

// watchStart says once if a disk holds up the start, which ctx is for.
func (r *Resource) watchStart(ctx context.Context) {
	tick := time.NewTicker(heldUp)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		st, err := r.report(ctx)
		if err != nil {
			continue
		}
		var waits []string
		for _, d := range st.Devices {
			if d.DiskWaits != "" {
				waits = append(waits, d.DiskWaits)
			}
		}
		if why := strings.Join(waits, "; "); why != "" {
			r.log.Warn("the start waits for a disk", "why", why)
			if r.cfg.HeldUp != nil {
				r.cfg.HeldUp(why)
			}
			return
		}
	}
}

// opens are the backing stores that are being opened, by volume, since when. Nobody can take an open back from a disk that does not answer:
// it outlives the order that it was for, and there is no second one beside it.
type opens struct {
	mu    sync.Mutex // leaf
	since map[int]time.Time
}

func (o *opens) begin(vol int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.since[vol]; ok {
		return false
	}
	if o.since == nil {
		o.since = make(map[int]time.Time)
	}
	o.since[vol] = time.Now()
	return true
}

func (o *opens) end(vol int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.since, vol)
}

func (o *opens) of(vol int) (since time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	since, ok = o.since[vol]
	return since, ok
}

// opening says in words that the disk of a volume has been being opened for long; nothing otherwise.
func (r *Resource) opening(vol int) string {
	since, ok := r.opens.of(vol)
	took := time.Since(since)
	v := r.cfg.Local.Volume(vol)
	if !ok || v == nil || took < time.Second {
		return ""
	}
	files := v.Disk
	if !v.MetaDisk.Internal {
		files += " or " + v.MetaDisk.Device
	}
	end := ""
	if r.at() == starting {
		end = "; urbd down ends the start"
	}
	return fmt.Sprintf("the disk of volume %d does not answer: the open of %s began at %s, %v ago, and has not returned%s", vol, files, since.Format(time.TimeOnly), took.Round(100*time.Millisecond), end)
}

// waitsFor is what a volume's disk owes, in words: an answer to I/O, or its open.
func (r *Resource) waitsFor(v *engine.VolumeStatus) string {
	return cmp.Or(v.DiskWaits, r.opening(v.Number))
}
