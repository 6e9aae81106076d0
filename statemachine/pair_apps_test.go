package statemachine

import (
	"errors"
	"fmt"
)

// write is an application's, if the gate lets it through.
func (n *pairNode) write(b, version int) {
	if !n.primary() || n.s.HoldsWrites() || !n.s.HasData() || n.unacked[b] {
		return
	}
	if n.asking {
		return // the answer to a resync request must not overwrite it: docs/drbd-wire.md 12.7
	}
	n.written[b] = version
	if n.s.WritesLocally() {
		n.data[b] = version
	}
	switch {
	case n.s.ReplicatesData():
		n.unacked[b] = true
		n.send(pktWrite{b, version})
	default:
		n.bits[b] = true
		n.complete[b] = version
		if n.s.SendsOutOfSync() {
			n.send(pktOOS{b})
		}
	}
}

// answered ends the wait for the peer; the application is told if the write is anywhere.
func (n *pairNode) answered(b int, done bool) {
	n.unacked[b] = false
	if done {
		n.complete[b] = n.written[b]
	}
}

// read checks that an application reads what it knows to be written, or what it wrote after that.
func (n *pairNode) read(b int) error {
	want, got := n.complete[b], 0
	switch {
	case want == 0 || n.contested || !n.primary() || n.s.HoldsReads():
		return nil
	case n.s.ReadsLocally() || n.s.ReadsCleanLocally() && !n.bits[b]:
		got = n.data[b]
	case n.s.ReadsRemotely() && len(n.peer.inbox) == 0 && n.peer.up && n.peer.s.Disk == UpToDate:
		got = n.peer.data[b]
	default:
		return nil
	}
	if got < want || got > n.written[b] {
		return fmt.Errorf("%s reads version %d of block %d and has written %d", n.name, got, b, want)
	}
	return nil
}

// crash is a power cut and a start: what WriteMetadata wrote is there, the bitmap, and the activity
// log, which makes a bit of every write that was not confirmed.
func (n *pairNode) crash() {
	if n.up {
		n.send(pktClosed{})
	}
	n.down()
	n.disk.crashed = n.disk.crashed || n.disk.flags.Primary
	n.perform(MarkUnacked{})
	n.s, n.todo, n.consider, n.fencing, n.asking, n.why = Initial, nil, false, false, false, nil
	n.written, n.complete = [pairBlocks]int{}, [pairBlocks]int{}
	n.u, n.missedEnd = n.disk.u, 0
}

// attach takes the disk into use.
func (n *pairNode) attach() {
	if n.primary() && n.s.Conn < Connected && n.exposed&^RoleBit != n.u.Current&^RoleBit || n.step(Attach{}) != nil {
		return
	}
	// The mark of a Primary stays on a disk that is let go. Source: docs/drbd-metadata.md 1.3.
	n.disk.crashed = n.disk.crashed || n.disk.flags.Primary
	own, peer := n.restored()
	n.attached, n.known = own, false
	if err := n.step(Attached{own, peer}); errors.Is(err, InTransientState) {
		n.step(AttachFailed{})
	}
}

// restored is what the metadata makes of the disks, without fencing.
// Source: docs/drbd-metadata.md 6.2.
func (n *pairNode) restored() (own, peer Disk) {
	peer = DUnknown
	if n.disk.flags.PeerOutdated {
		peer = Outdated
	}
	switch {
	case !n.disk.flags.Consistent:
		return Inconsistent, peer
	case !n.disk.flags.WasUpToDate:
		return Outdated, peer
	}
	return UpToDate, peer
}
