package sim

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// order is a command of the administrator under way.
type order struct {
	cmd  engine.Command
	at   engine.Instant
	done func(err error)
}

// order gives a command; done gets the answer.
func (n *node) order(cmd engine.Command, done func(err error)) *order {
	id := n.note(cmd, done)
	o := n.orders[id]
	n.hears(id, cmd)
	return o
}

// note keeps what a command is answered to.
func (n *node) note(cmd engine.Command, done func(err error)) (id uint64) {
	n.orderID++
	n.orders[n.orderID] = &order{cmd: cmd, at: n.s.now, done: done}
	n.tell("command %T %+v", cmd, cmd)
	return n.orderID
}

func (n *node) hears(id uint64, cmd engine.Command) {
	if n.sleeps(func() { n.hears(id, cmd) }) {
		return
	}
	n.eng.Command(n.now(), id, cmd)
	n.touched()
}

func (n *node) replied(ev engine.Reply) {
	o := n.orders[ev.ID]
	if o == nil {
		if ev.ID == 0 {
			return
		}
		n.s.fail("%s: command %d is answered twice", n.name, ev.ID)
	}
	delete(n.orders, ev.ID)
	n.tell("answer to %T: %v", o.cmd, ev.Err)
	if ev.Err != nil {
		n.s.counts[Refused]++
	}
	if o.done != nil {
		o.done(ev.Err)
	}
	if n.s.healing {
		n.s.after(time.Millisecond, func() {}) // the next order is given even if nothing else happens
	}
}

// attach takes the disk of a volume into use.
func (n *node) attach(i int, done func(err error)) {
	d := n.disks[i]
	d.open = true
	if e := n.end; e != nil && d.misfits() {
		e.misfit, e.other.misfit = true, true
	}
	before := d.ringErrors()
	n.order(engine.Attach{
		Vol: n.s.vols[i].number, BackingSize: d.data.Size(), MetaSize: d.meta.Size(), BlockSize: d.block,
		DataBlock: d.remembered.Size, DataBlockOf: d.remembered.DeviceUUID,
		Flush: !d.data.WriteThrough, MetaFlush: !d.meta.WriteThrough, DeviceUUID: n.s.rng.Uint64() | 1,
	}, func(err error) {
		var refused sm.Refusal
		if errors.As(err, &refused) {
			d.open = false // not even begun
		}
		d.ringWasRead(before, err)
		d.refusesBlocks(err)
		if done != nil {
			done(err)
		}
	})
}

// attaches reports whether the order to attach the disk of a volume is not answered.
func (n *node) attaches(i int) bool {
	for _, o := range n.orders {
		if cmd, ok := o.cmd.(engine.Attach); ok && cmd.Vol == n.s.vols[i].number {
			return true
		}
	}
	return false
}

// ready reports whether a dead daemon may be started: its disks are its own again.
func (n *node) ready() bool {
	for _, d := range n.disks {
		if d.old > 0 {
			return false
		}
	}
	return !n.alive() && n.s.now >= n.users.away
}

// begins boots the daemon and brings it as far as one goes in a boot script.
func (n *node) begins() {
	n.s.shrink()
	n.corrode()
	n.boot()
	connectFirst := n.s.rng.IntN(3) == 0
	if connectFirst {
		n.order(engine.Connect{}, nil)
	}
	left := len(n.s.vols)
	for i := range n.s.vols {
		n.attach(i, func(error) {
			if left--; left == 0 && !connectFirst && n.state(0).Conn == sm.StandAlone {
				n.order(engine.Connect{}, nil)
			}
		})
	}
}

func sortedKeys[K uint64 | int64, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
