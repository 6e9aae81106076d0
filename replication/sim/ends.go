package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urbd/urbd/replication/disktest"
	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// setup brings two nodes with just created metadata together.
func (s *Sim) setup() {
	s.admin.begin()
	s.app.calls = map[uint64]*call{}
	for _, n := range s.nodes {
		n.begins()
	}
	s.await("the first handshake", func(st sm.State) bool {
		return st.Conn == sm.Connected && st.Disk == sm.Inconsistent && st.PeerDisk == sm.Inconsistent
	})
	a := s.nodes[0]
	if !s.profile.fresh {
		a.order(engine.Promote{Force: true}, func(err error) {
			if err != nil {
				s.fail("forced promotion of a fresh node: %v", err)
			}
			s.counts[FullResync]++
			s.admin.promoted(a)
		})
		s.run(patience, func() bool { return a.primary() && len(a.orders) == 0 })
		return
	}
	left := len(s.vols)
	for _, v := range s.vols {
		a.order(engine.NewCurrentUUID{Vol: v.number, ClearBitmap: true}, func(err error) {
			if left--; err != nil {
				s.fail("skipping the initial sync: %v", err)
			}
		})
	}
	s.run(patience, func() bool { return left == 0 })
	s.await("two equal disks", func(st sm.State) bool { return st.Redundant() })
}

// await goes on until every volume of both nodes is as wanted.
func (s *Sim) await(what string, is func(sm.State) bool) {
	if s.run(10*patience, func() bool {
		for _, n := range s.nodes {
			for i := range s.vols {
				if !n.alive() || !is(n.state(i)) {
					return false
				}
			}
		}
		return true
	}) {
		return
	}
	text := ""
	for _, n := range s.nodes {
		for i, v := range s.vols {
			text += "; " + n.name + " volume " + itoa(uint64(v.number)) + " is " + n.state(i).String()
		}
	}
	s.fail("waiting for %s: it does not come%s", what, text)
}

// heal ends all faults, and waits until both disks are the same.
func (s *Sim) heal() {
	s.run(10*patience, func() bool { return !s.admin.parted })
	s.run(patience, func() bool { return max(s.nodes[0].asleep, s.nodes[1].asleep) < s.now })
	s.tell("the faults cease")
	s.healing = true
	s.link.stalled, s.link.deaf = s.now, [2]engine.Instant{}
	for _, n := range s.nodes {
		s.app.on[n.index] = false
		for _, d := range n.disks {
			d.repair()
		}
		n.refit()
	}
	for range 10 { // what happened before may be noticed only now, a name that a liar has made up only when the nodes meet again
		if !s.run(patience, s.link.intact) {
			s.fail("connection %d was cut, and after %v nobody has noticed", s.link.number, patience)
		}
		s.run(patience, s.mend)
		s.await("Connected and UpToDate", func(st sm.State) bool { return st.Conn == sm.Connected && st.Redundant() })
		s.run(patience, func() bool { return s.link.number != s.link.lied }) // a liar goes after a while, and the link with it
		s.run(patience, func() bool { return s.disksIdle() && s.link.delivered() })
		if s.run(time.Second, nil); s.admin.allInSync() && len(s.app.calls) == 0 && s.disksIdle() && s.link.number != s.link.lied {
			break
		}
	}
	s.finish()
}

// disksIdle reports whether nothing is in flight on any disk: one that has hung ends late what it had.
func (s *Sim) disksIdle() bool {
	for _, n := range s.nodes {
		for _, d := range n.disks {
			if d.flights > 0 {
				return false
			}
		}
	}
	return true
}

// delivered reports whether nothing is on its way: what a stall has held may come late, and with protocol A nobody waits for it.
func (l *link) delivered() bool {
	for _, n := range l.s.nodes {
		if n.end == nil || n.end.closed {
			continue
		}
		for _, st := range n.end.out {
			if st.sending || len(st.pieces) > 0 {
				return false
			}
		}
	}
	return true
}

// intact reports whether no connection is cut that its ends still take for whole.
func (l *link) intact() bool {
	for _, n := range l.s.nodes {
		if n.end != nil && n.end.cut {
			return false
		}
	}
	return true
}

// mend gives the orders that are still needed; true when none is.
func (s *Sim) mend() bool {
	done := true
	for _, n := range s.nodes {
		switch {
		case n.ready():
			n.begins()
			done = false
		case !n.alive() || len(n.orders) > 0 || s.admin.busy[n.index] || n.users.wait:
			done = false
			if n.alive() && len(n.orders) == 0 && !s.admin.busy[n.index] {
				n.mend()
			}
		default:
			done = n.mend() && done
		}
	}
	if done {
		return s.admin.allInSync()
	}
	return false
}

// mend gives a node one order that it still needs; true when it needs none. A Primary that has lost its disk and
// its peer works on data that the disk may lack: then it refuses the disk and has to be connected first. Or
// the data is on that disk only, and the other way round is the right one. If the peer has begun a generation on that
// data, it may be for writes of this node that it never heard of, or for those of others: the applications have to end.
func (n *node) mend() bool {
	alone := n.state(0).Conn == sm.StandAlone
	if alone && n.refuses {
		n.refuses = false
		n.connectOrEnd()
		return false
	}
	if n.rescue() {
		return false
	}
	for k := range n.disks {
		i := (n.attached + k) % len(n.disks) // of two that are refused without each other, both are tried
		d := n.disks[i]
		switch {
		case n.state(i).Disk == sm.Diskless && n.state(i).Conn.Established() && n.primary() && n.missing.data != 0 && n.missing.vol == n.s.vols[i].number:
			n.missing.data = 0 // its disk was refused for the data that its applications work on
			n.s.admin.demote(n)
			return false
		case n.state(i).Disk == sm.Diskless && !d.open:
			n.attached = i + 1
			n.attach(i, func(err error) { n.refuses = err != nil })
			return false
		case n.state(i).UserISP:
			n.s.admin.pause(n, i, false)
			return false
		}
	}
	if alone {
		n.connectOrEnd()
	}
	return !alone
}

// connectOrEnd connects a node, or, if that was refused for the data that its applications work on, or believe that they do, has them end.
func (n *node) connectOrEnd() {
	if n.primary() && (n.peer().continued(n.missing.vol, n.missing.data) || n.s.link.beganByLie(fmt.Sprintf("%016X", n.missing.data))) {
		n.s.admin.demote(n)
		return
	}
	n.order(engine.Connect{}, nil)
}

// continued reports whether the data of a volume here comes from what was data. Once a resync has begun, that is in the history.
func (n *node) continued(vol int, data uint64) bool {
	if n.eng == nil || data == 0 {
		return false
	}
	for _, v := range n.eng.Status().Volumes {
		if v.Number == vol && slices.ContainsFunc([]uint64{v.UUIDs.Bitmap, v.UUIDs.History[0], v.UUIDs.History[1]}, func(u uint64) bool { return (u^data)&^sm.RoleBit == 0 }) {
			return true
		}
	}
	return false
}

// finish brings both down and compares their disks, also after a last power cut.
func (s *Sim) finish() {
	for _, n := range s.nodes {
		for i, v := range s.vols {
			// A lie about a disk can have a node mark what does not differ: that costs the next resync, and no data.
			if out := n.eng.Status().Volumes[i].OutOfSync; out != 0 && !s.link.smeared {
				s.fail("%s: volume %d: %d bytes are marked at the end", n.name, v.number, out)
			}
			v.verify(n, "the end")
		}
	}
	for i, v := range s.vols {
		a, b := s.nodes[0].eng.Status().Volumes[i].UUIDs, s.nodes[1].eng.Status().Volumes[i].UUIDs
		if a.Current&^sm.RoleBit != b.Current&^sm.RoleBit || a.Bitmap != 0 || b.Bitmap != 0 {
			s.fail("volume %d: both disks are UpToDate, and the generations are %v and %v", v.number, a, b)
		}
	}
	for _, n := range s.nodes {
		n.order(engine.Down{}, func(err error) {
			if left := new(engine.LeaveError); err != nil && !errors.As(err, &left) { // both leave at the same time, and one may not have heard what the other is
				s.fail("%s: down: %v", n.name, err)
			}
			n.leaves()
		})
	}
	if !s.run(patience, func() bool { return !s.nodes[0].alive() && !s.nodes[1].alive() }) {
		s.fail("down is not done")
	}
	for range 2 {
		for i, v := range s.vols {
			if err := s.identical(i, v); err != nil {
				s.fail("at the end: %v", err)
			}
		}
		for _, n := range s.nodes {
			for _, d := range n.disks {
				d.data.PowerCut()
			}
		}
	}
	s.counts[EndedIdentical]++
}

var errDiffer = errors.New("the disks differ")

func (s *Sim) identical(i int, v *volume) error {
	a, b := s.nodes[0].disks[i].data, s.nodes[1].disks[i].data
	for off := int64(0); off < v.size; off += blockSize {
		if !disktest.SamePage(a, b, off, v.size) {
			return errDiffer
		}
	}
	return nil
}
