package sim

import (
	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// forbidAlone lists orders that have to be refused to a node that is StandAlone, whatever comes.
func (a *admin) forbidAlone(n *node, i int) (forbidden []engine.Command) {
	vol, st := a.s.vols[i].number, n.state(i)
	ask := func(is bool, cmd engine.Command) {
		if is {
			forbidden = append(forbidden, cmd)
		}
	}
	ask(st.Role != sm.Primary && st.Disk != sm.UpToDate, engine.Promote{})                          // on data that is old, or none
	ask(st.Role == sm.Primary, engine.Connect{DiscardMyData: true})                                 // of which its users know nothing
	ask(st.Role == sm.Primary, engine.Invalidate{Vol: vol})                                         // with nobody to copy from
	ask(st.Role == sm.Primary && st.Disk == sm.UpToDate, engine.Detach{Vol: vol})                   // the last good disk
	ask(st.Disk.Usable() || st.Disk == sm.Attaching, engine.Attach{Vol: vol, BackingSize: 1 << 20}) // a second one
	ask(true, engine.Disconnect{})
	return forbidden
}

// prohibition is an order that has to be refused in some states, by what the node itself knows.
type prohibition struct {
	is  func(st sm.State) bool // of the volume that the order is for, or of any volume
	cmd func(vol int) engine.Command
	any bool // the order is for all volumes: it is enough that one forbids it
}

// nowhere is the number of a volume that no profile has.
const nowhere = 99

var (
	solitary   = states(sm.StandAlone)
	searching  = states(sm.Unconnected, sm.WFConnection)
	greeting   = states(sm.WFReportParams)
	restless   = together &^ states(sm.Connected) // a resync runs, or is about to
	unattached = func(st sm.State) bool { return st.Disk == sm.Diskless }
	always     = func(sm.State) bool { return true }
)

// goodElsewhere reports whether the peer has good data within reach.
func goodElsewhere(st sm.State) bool { return together.has(st.Conn) && st.PeerDisk == sm.UpToDate }

// undecided reports whether it is not known yet what the disk is worth: then the order waits, and is judged when it is.
func undecided(st sm.State) bool { return st.Disk == sm.Attaching || st.Disk == sm.Negotiating }

// prohibitions are said in the simulator's own words.
var prohibitions = []prohibition{
	// Nobody is Primary on data that is not good, or is somebody else's.
	{any: true, cmd: func(int) engine.Command { return engine.Promote{} }, is: func(st sm.State) bool {
		return st.Role != sm.Primary && st.Disk != sm.UpToDate && !undecided(st) && (solitary.has(st.Conn) || together.has(st.Conn) && st.PeerDisk != sm.UpToDate)
	}},
	{any: true, cmd: func(int) engine.Command { return engine.Promote{Force: true} }, is: func(st sm.State) bool {
		return st.Role != sm.Primary && unattached(st) && solitary.has(st.Conn)
	}},
	// There is one connection at a time, and none is ended twice.
	{any: true, cmd: func(int) engine.Command { return engine.Connect{} }, is: func(st sm.State) bool { return !solitary.has(st.Conn) }},
	{any: true, cmd: func(int) engine.Command { return engine.Connect{DiscardMyData: true} },
		is: func(st sm.State) bool { return !solitary.has(st.Conn) || st.Role == sm.Primary }},
	{any: true, cmd: func(int) engine.Command { return engine.Disconnect{} }, is: func(st sm.State) bool { return solitary.has(st.Conn) }},
	{any: true, cmd: func(int) engine.Command { return engine.Disconnect{Force: true} }, is: func(st sm.State) bool { return solitary.has(st.Conn) }},
	// A volume has one disk, and the last good one stays.
	{cmd: func(vol int) engine.Command { return engine.Attach{Vol: vol, BackingSize: 8 << 20, MetaSize: 8 << 20} },
		is: func(st sm.State) bool { return !unattached(st) }},
	{cmd: func(vol int) engine.Command { return engine.Detach{Vol: vol} }, is: func(st sm.State) bool {
		return unattached(st) || st.Role == sm.Primary && st.Disk == sm.UpToDate && !goodElsewhere(st)
	}},
	{cmd: func(vol int) engine.Command { return engine.Detach{Vol: vol, Force: true} }, is: unattached},
	// Nothing is overwritten without something to overwrite it with, nor while that goes on.
	{cmd: func(vol int) engine.Command { return engine.Invalidate{Vol: vol} }, is: func(st sm.State) bool {
		switch {
		case solitary.has(st.Conn):
			return st.Role == sm.Primary || !st.Disk.Usable()
		case st.Conn == sm.Connected:
			return !st.Disk.Usable() || st.PeerDisk != sm.UpToDate
		}
		return (searching | greeting | restless).has(st.Conn)
	}},
	{cmd: func(vol int) engine.Command { return engine.InvalidateRemote{Vol: vol} }, is: func(st sm.State) bool {
		switch {
		case solitary.has(st.Conn):
			return st.Role != sm.Primary || !st.Disk.Usable()
		case st.Conn == sm.Connected:
			return st.Disk != sm.UpToDate || !st.PeerDisk.Usable()
		}
		return (searching | greeting | restless).has(st.Conn)
	}},
	// A generation is begun by hand on a disk, alone; and disks are declared equal while they are just created.
	{cmd: func(vol int) engine.Command { return engine.NewCurrentUUID{Vol: vol} },
		is: func(st sm.State) bool { return unattached(st) || !solitary.has(st.Conn) }},
	{cmd: func(vol int) engine.Command { return engine.NewCurrentUUID{Vol: vol, ClearBitmap: true} },
		is: func(st sm.State) bool { return unattached(st) || !solitary.has(st.Conn) }},
	// There are the volumes that there are.
	{is: always, cmd: func(int) engine.Command { return engine.Attach{Vol: nowhere, BackingSize: 8 << 20, MetaSize: 8 << 20} }},
	{is: always, cmd: func(int) engine.Command { return engine.Detach{Vol: nowhere, Force: true} }},
	{is: always, cmd: func(int) engine.Command { return engine.Invalidate{Vol: nowhere} }},
	{is: always, cmd: func(int) engine.Command { return engine.InvalidateRemote{Vol: nowhere} }},
	{is: always, cmd: func(int) engine.Command { return engine.PauseSync{Vol: nowhere, On: true} }},
	{is: always, cmd: func(int) engine.Command { return engine.NewCurrentUUID{Vol: nowhere, ClearBitmap: true} }},
	{is: always, cmd: func(int) engine.Command { return engine.LoseUsers{Vol: nowhere} }},
	{is: always, cmd: func(int) engine.Command { return engine.Unused{Vol: nowhere} }},
}

// forbid lists the orders that have to be refused to a node now, in whatever state it is.
func (a *admin) forbid(n *node, i int) (forbidden []engine.Command) {
	for _, p := range prohibitions {
		is := p.is(n.state(i))
		for j := range a.s.vols {
			is = is || p.any && p.is(n.state(j))
		}
		if is {
			forbidden = append(forbidden, p.cmd(a.s.vols[i].number))
		}
	}
	return forbidden
}

// askForbidden gives an order that has to be refused, and looks that nothing has come of it.
func (a *admin) askForbidden(n *node, cmd engine.Command) {
	s := a.s
	if n.asleep > s.now {
		return // it will hear of it in another state
	}
	before := n.standing()
	o := n.note(cmd, func(err error) {
		if err == nil {
			s.fail("%s: %T %+v is carried out; the node was %v", n.name, cmd, cmd, before)
		}
		s.counts[Forbidden]++
	})
	n.eng.Command(n.now(), o, cmd)
	for i, is := range n.standing() {
		if is != before[i] {
			s.fail("%s: %T %+v has to be refused, and volume %d has gone from %v to %v", n.name, cmd, cmd, s.vols[i].number, before[i], is)
		}
	}
	n.touched()
}

// standing is what a refused order may not change.
func (n *node) standing() (all []standing) {
	for _, v := range n.eng.Status().Volumes {
		all = append(all, standing{v.State, v.UUIDs, v.OutOfSync, v.Users})
	}
	return all
}

type standing struct {
	State     sm.State
	UUIDs     sm.UUIDs
	OutOfSync int64
	Users     engine.Users
}
