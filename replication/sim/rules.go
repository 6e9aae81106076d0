package sim

import (
	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// The rules of this file are the simulator's own. They are said in other words than the tables of statemachine, and of
// whose data is good they ask the model, which knows what the application was told, and no generation.

// conns is a set of connection states.
type conns uint32

func states(list ...sm.Conn) (set conns) {
	for _, c := range list {
		set |= 1 << c
	}
	return set
}

func (set conns) has(c sm.Conn) bool { return set>>c&1 != 0 }

// within lists the states from first to last.
func within(first, last sm.Conn) (set conns) {
	for c := first; c <= last; c++ {
		set |= 1 << c
	}
	return set
}

var (
	failing    = states(sm.Timeout, sm.BrokenPipe, sm.NetworkFailure, sm.ProtocolError)
	together   = within(sm.Connected, sm.PausedSyncT) &^ states(sm.VerifyS, sm.VerifyT)
	resyncing  = states(sm.SyncSource, sm.SyncTarget, sm.PausedSyncS, sm.PausedSyncT)
	targets    = states(sm.SyncTarget, sm.PausedSyncT)
	sources    = states(sm.SyncSource, sm.PausedSyncS)
	announcing = states(sm.WFBitMapS, sm.StartingSyncS) // the Source, before a resync
)

// comesFrom says from where a connection state may be entered (invariant I7). What is not here is not entered at all.
var comesFrom = map[sm.Conn]conns{
	// There is one way in: somebody orders it, the peer is looked for, both sockets are there, both say what they have.
	sm.Unconnected:    states(sm.StandAlone, sm.TearDown) | failing,
	sm.WFConnection:   states(sm.Unconnected),
	sm.WFReportParams: states(sm.WFConnection),
	sm.Connected:      states(sm.WFReportParams) | together,

	// Whose blocks are copied is known before one is: by a handshake, or an order that the other node has agreed to.
	sm.WFBitMapS:     states(sm.WFReportParams, sm.Connected),
	sm.WFBitMapT:     states(sm.WFReportParams, sm.Connected),
	sm.StartingSyncS: states(sm.Connected),
	sm.StartingSyncT: states(sm.Connected),
	sm.WFSyncUUID:    states(sm.WFBitMapT, sm.StartingSyncT),
	sm.SyncSource:    announcing | states(sm.PausedSyncS),
	sm.PausedSyncS:   announcing | states(sm.SyncSource),
	sm.SyncTarget:    states(sm.WFSyncUUID, sm.PausedSyncT),
	sm.PausedSyncT:   states(sm.WFSyncUUID, sm.SyncTarget),

	// There are three ways out: the connection fails, the peer goes, somebody orders it. Each is cleaned up.
	sm.Timeout:        states(sm.WFReportParams) | together,
	sm.BrokenPipe:     states(sm.WFReportParams) | together,
	sm.NetworkFailure: states(sm.WFReportParams) | together,
	sm.ProtocolError:  states(sm.WFReportParams) | together,
	sm.TearDown:       states(sm.WFReportParams) | together,
	sm.Disconnecting:  states(sm.Unconnected, sm.WFConnection, sm.WFReportParams, sm.TearDown) | together | failing,
	sm.StandAlone:     states(sm.Disconnecting),
}

// follows checks a logged change against the rules.
func (v *volume) follows(n *node, from, to sm.State) {
	s := v.s
	removed := from.Conn == sm.Connected && to.Conn == sm.WFReportParams && n.believes() // a volume is taken out on the peer's wish
	if from.Conn != to.Conn && !comesFrom[to.Conn].has(from.Conn) && !removed {
		s.fail("%s: volume %d: %v is entered from %v", n.name, v.number, to.Conn, from.Conn)
	}
	if s.admin.parted {
		return // both have data of their own, and who loses his is said by a person
	}
	if began := !targets.has(from.Conn) && targets.has(to.Conn); began && n.disks[v.index].block != n.peer().disks[v.index].block {
		s.counts[BlocksDiffer]++
	}
	began := !targets.has(from.Conn) && targets.has(to.Conn)
	if began && n.alive() && targets.has(n.state(v.index).Conn) {
		v.stale(n.peer(), n.name+" becomes the Target of a resync, and the Source lacks what was answered")
	}
	if to.Role == sm.Primary && to.Disk == sm.UpToDate && !to.ReplicatesData() {
		s.admin.has[n.peer().index][v.index] = false // also where it is Secondary a moment later
	}
	if n.forces() {
		return
	}
	if from.Role != sm.Primary && to.Role == sm.Primary {
		n.peer().users.doom()
		switch {
		case to.Disk == sm.UpToDate:
			v.stale(n, n.name+" is promoted, and lacks what was answered")
		case to.PeerDisk == sm.UpToDate && together.has(to.Conn):
			v.stale(n.peer(), n.name+" is promoted for the disk of its peer, which lacks what was answered")
		default:
			s.fail("%s: volume %d: promoted without an UpToDate disk: %v", n.name, v.number, to)
		}
		if s.admin.behind[n.index] && to.Disk == sm.UpToDate && !v.inSync() {
			v.early = n // it may be the newer one from now on, also when its daemon dies before it says so
		}
	}
	// A peer without a disk, or with one that is still being attached, is nobody to compare with: then it is as if this node were alone, as it
	// is when the peer has left already and what it sent is still being read.
	if from.Disk != sm.UpToDate && to.Disk == sm.UpToDate && together.has(to.Conn) && !resyncing.has(to.Conn) && !to.PeerDisk.Gone() && n.meets() {
		v.stale(n, "the disk of "+n.name+" becomes UpToDate beside its peer, and lacks what was answered")
	}
}

// forces reports whether a node has been ordered to be Primary whatever its disk is worth.
func (n *node) forces() bool {
	for _, o := range n.orders {
		if cmd, ok := o.cmd.(engine.Promote); ok && cmd.Force {
			return true
		}
	}
	return false
}

// stale fails the run if a disk lacks something that the application was told to be there: where the disks differ, it has
// content that no read may return any more (invariants I2 and I3).
//
// What nobody promises is left out: of a node that has lost power, what no flush has made durable; with protocols A and B,
// of the other node after the Primary has died, everything.
func (v *volume) stale(n *node, why string) {
	m, a := v.model, &v.s.admin
	if a.behind[n.index] {
		return
	}
	if a.lost[n.index] {
		m = m.clone()
		m.lose(PardonPowerLoss)
	}
	v.compare()
	b, d := make([]byte, sectorSize), n.disks[v.index].data
	for _, blk := range sorted(v.differ) {
		if v.inFlight(n.peer(), blk) {
			continue // a write on its way here, with protocols A and B perhaps answered
		}
		for sector := blk * blockSize / sectorSize; sector < min((blk+1)*blockSize, v.size)/sectorSize; sector++ {
			d.ReadAt(b, sector*sectorSize)
			if id := contentID(b, sector); !v.may(m, sector, id) {
				v.s.fail("volume %d: %s: sector %d has content %d, the application may expect %s",
					v.number, why, sector, int64(id), m.describe(sector))
			}
		}
	}
}

// meets reports whether both nodes hold the two ends of one connection.
func (n *node) meets() bool { return n.end != nil && n.peer().end == n.end.other }

// oneWay checks that the two nodes of a connection do not both give, nor both take (invariant I2).
func (v *volume) oneWay() {
	a, b := v.s.nodes[0], v.s.nodes[1]
	if a.end == nil || b.end != a.end.other {
		return
	}
	ca, cb := a.state(v.index).Conn, b.state(v.index).Conn
	if targets.has(ca) && targets.has(cb) || sources.has(ca) && sources.has(cb) {
		v.s.fail("volume %d: A is %v, B is %v", v.number, ca, cb)
	}
}
