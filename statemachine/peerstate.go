package statemachine

import "fmt"

// PeerState is P_STATE. The packet is processed in the order of
// docs/drbd-wire.md 9.5; facts that State does not hold come along.
//
// Ask [State.HandshakeDue] first, and if it is, let [Handshake] decide. After
// the event the marks discard-my-data and, if a handshake was due, "consider
// resync" are used up.
type PeerState struct {
	Word       State    // as received, in the peer's perspective
	UUIDsKnown bool     // P_UUIDS was received in this connection, and since the last attach here
	UUIDFlags  uint64   // its flags
	OOSBits    int64    // set bits of the own bitmap
	Leaving    bool     // this node waits for the answer to its own detach
	Decision   Decision // of [Handshake], if one was due
	Granted    bool     // the peer, Secondary here, has asked to be Primary in this connection, and was let
	MayBeAhead bool     // the protocol is A, which a peer needs to pull ahead
}

// BadPeerState says that a P_STATE made no sense here.
type BadPeerState struct {
	Own, Word State // the peer's word in the peer's perspective
	Reason    string
}

// Error names both sides' views.
func (e *BadPeerState) Error() string {
	return fmt.Sprintf("peer's state %v does not fit %v: %s", e.Word, e.Own, e.Reason)
}

// realDisk is the peer's disk, with Negotiating replaced by what it is worth.
// Source: docs/drbd-wire.md 9.1.
func (ev PeerState) realDisk() Disk {
	if ev.Word.Disk != Negotiating {
		return ev.Word.Disk
	}
	if ev.UUIDFlags&FlagInconsistent != 0 {
		return Inconsistent
	}
	return Consistent
}

// HandshakeDue says that ev needs the decision of [Handshake]: the UUIDs are known,
// both disks are there, and something calls for it. Beside the triggers of the source that is a peer's disk that
// becomes UpToDate where both were Inconsistent: the promotion by force that makes it so may have been
// granted while a disk was still being attached, which leaves no mark.
// Source: docs/drbd-wire.md 9.1.
func (s State) HandshakeDue(ev PeerState, r Rules) bool {
	if !ev.UUIDsKnown || ev.Word.Disk < Negotiating || s.Disk < Negotiating || s.Conn < WFReportParams {
		return false
	}
	if s.Conn < Connected {
		return true
	}
	forced := s.Disk == Inconsistent && s.PeerDisk == Inconsistent && ev.Word.Disk == UpToDate
	return s.Conn == Connected && (ev.Word.Disk == Negotiating || s.Disk == Negotiating || r.ConsiderResync || forced ||
		ev.Word.Conn >= StartingSyncS && ev.Word.Conn <= WFBitMapT)
}

func (ev PeerState) apply(s State, r Rules) turn {
	switch {
	case s.Conn < WFReportParams:
		return stay(s) // the connection is going away, or is not there
	case !ev.Word.Known():
		return ev.bad(s, r, "a field holds no value that exists")
	case ev.unproven(s):
		return ev.bad(s, r, "a disk appeared that cannot be compared")
	case ev.usurps(s, r):
		return ev.bad(s, r, "it has become Primary without this node's consent")
	case ev.revives(s, r):
		return ev.bad(s, r, "its disk has become UpToDate without a resync, and lacks what is marked here")
	case ev.Word.Conn == Ahead && !(ev.MayBeAhead && s.Disk != Negotiating && s.Role == Secondary && ev.Word.Role == Primary && ev.Word.Disk == UpToDate):
		return ev.bad(s, r, "only a Primary with an UpToDate disk can be ahead, with protocol A, of a Secondary that knows its disk")
	}
	disk := ev.realDisk()
	switch {
	case s.Disk == UpToDate && disk == UpToDate && (s.PeerDisk == Inconsistent || s.PeerDisk == Consistent) && s.Conn > Connected:
		if ev.Word.Conn >= StartingSyncS && ev.Word.Conn <= WFSyncUUID {
			disk = Inconsistent // it has not been overwritten yet
			break
		}
		if s.Conn >= SyncSource && ev.Word.Conn == Connected {
			return turn{next: ev.introduce(s)} // ResyncDone follows, when no bit is left
		}
	case s.Conn == VerifyT && s.Disk == UpToDate && disk == UpToDate && ev.Word.Conn == Connected:
		s.Conn = Connected
		return turn{next: ev.introduce(s)}
	case s.Conn == Connected && s.PeerDisk == UpToDate && disk == Inconsistent && ev.Word.Conn > SyncSource:
		disk = UpToDate // sent before the resync ended
	case s.PeerDisk == Failed && disk >= Inconsistent:
		disk = Failed // sent before the detach that was granted here; a disk comes back by an attach only
	}
	return ev.meet(s, disk, r)
}

// introduce is s with what the peer says of its role and its pauses; that is never out of date.
func (ev PeerState) introduce(s State) State {
	s.Peer, s.PeerISP = ev.Word.Role, ev.Word.AfterISP || ev.Word.UserISP
	return s
}

// meet takes over what the peer says of itself, with the handshake's decision.
// Source: docs/drbd-wire.md 9.5 steps 5 to 10.
func (ev PeerState) meet(s State, disk Disk, r Rules) turn {
	next := s
	if next.Conn == WFReportParams {
		next.Conn = Connected
	}
	if ev.Word.Conn == Ahead {
		next.Conn = Behind
	}
	next = ev.introduce(next)
	how := How{LetGo: ev.Leaving && ev.Word.Role == Primary && ev.Word.PeerDisk.Gone()}
	switch due := s.HandshakeDue(ev, r); {
	case due && ev.Decision.Err != nil:
		switch {
		case s.Disk == Negotiating:
			next.Conn, next.Disk, how.Why = Connected, Failed, ev.Decision.Err
		case ev.Word.Disk == Negotiating:
			// Its disk stays out. It comes to the same decision, once it is told; the kernel's
			// driver says nothing here and leaves the peer waiting.
			next.Conn, disk, how.PeerMissedIt = Connected, Diskless, true
		default:
			return s.drop(ev.Decision.drop(), ev.Decision.Err, r)
		}
	case due && !ev.Decision.Made():
		panic("statemachine: a handshake was due and none was held")
	case due:
		next.Conn, how.FullSync = ev.Decision.Target, ev.Decision.FullSync
		next = next.settled(r)
	case s.Disk == Negotiating && ev.Word.Disk < Negotiating:
		next.Disk = s.alone(r).Disk // nothing to compare with
	}
	next.PeerDisk = disk
	return ev.commit(s, next, how, r)
}

// commit checks where the packet leads.
func (ev PeerState) commit(s, next State, how How, r Rules) turn {
	if s.Conn < Connected {
		if next.PeerDisk == Consistent && next.Conn == Connected && s.Suspended() && r.NewUUIDPending {
			// Frozen writes waited for a peer that has gone on without them.
			t := s.drop(ProtocolError, &BadPeerState{s, ev.Word, "own I/O is frozen and the peer's disk is only Consistent"}, r)
			t.next.Susp, t.next.SuspFencing, t.next.SuspNoData = false, false, false
			return t
		}
		if err := Validate(s, next.Sanitise(), r); err != nil {
			return s.drop(Disconnecting, err, r)
		}
	}
	after := next.Sanitise()
	if err := Legal(s, after); err != nil {
		return ev.bad(s, r, "no way leads there")
	}
	how.PeerMissedIt = how.PeerMissedIt || s.Conn > WFReportParams && after.Conn > Connected &&
		ev.Word.Conn <= Connected && ev.Word.Disk != Negotiating
	return turn{next: next, how: how}
}

// unproven says that the peer's disk would become usable beside ours and no
// handshake would compare them: its generations are not known, or it came up without being
// negotiated. The kernel's driver accepts that; here the connection is made anew, which brings both.
func (ev PeerState) unproven(s State) bool {
	if !s.Disk.Usable() || ev.Word.Disk < Negotiating {
		return false
	}
	if s.Conn < Connected {
		return !ev.UUIDsKnown
	}
	return s.PeerDisk < Failed && !(ev.UUIDsKnown && ev.Word.Disk == Negotiating)
}

// revives says that the peer's disk, which was Inconsistent beside the good one here, would be good again although nothing was copied to it that
// this node has marked meanwhile. Who has marked it has named it, too, when the connection is lost: the next handshake knows what to copy.
func (ev PeerState) revives(s State, r Rules) bool {
	return s.Conn == Connected && s.Disk == UpToDate && s.PeerDisk == Inconsistent && ev.Word.Disk == UpToDate && ev.OOSBits > 0 && !s.HandshakeDue(ev, r)
}

// usurps reports whether the peer says that it is Primary, and nobody has let it. When the nodes meet that is judged with the rest.
func (ev PeerState) usurps(s State, r Rules) bool {
	if !s.Conn.Established() || ev.Word.Role != Primary {
		return false
	}
	return s.Role == Primary && !r.TwoPrimaries || s.Peer != Primary && !ev.Granted
}

// bad is the turn of a packet that is against the protocol.
func (ev PeerState) bad(s State, r Rules, reason string) turn {
	return s.drop(ProtocolError, &BadPeerState{s, ev.Word, reason}, r)
}
