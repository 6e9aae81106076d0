package statemachine

// Events that change roles, and the answers of the peer to what it was asked.
type (
	// Promote makes the volume writable here. Force does it on data that is not
	// UpToDate, and without a fenced peer.
	Promote struct{ Force bool }
	// Demote gives the role up. Application I/O has ended, the own disk is flushed, and the peer has confirmed
	// everything: who is not Primary starts no generation when contact is lost, so a write that is
	// on one disk only would never be found. InTransientState means that this is still to come.
	Demote struct{}
	// PeerReply is the peer's answer to [SendRequest].
	PeerReply struct {
		Change Change
		Code   int32
	}
)

// apply of Promote decides alone, or has the peer asked. Source: docs/drbd-wire.md 14.4.
func (ev Promote) apply(s State, r Rules) turn {
	if s.Role == Primary {
		return stay(s)
	}
	wish, next, err := promotion(s, r, ev.Force)
	if err != nil {
		return refuse(s, err)
	}
	if s.Conn.Established() {
		return stay(s, SendPing{}, SendRequest{wish, false})
	}
	return turn{next: next, how: How{Forced: wish.forces()}}
}

// promotion is the mildest change that makes s Primary, and what it leads to.
func promotion(s State, r Rules, force bool) (Change, State, error) {
	wish := PromoteChange
	next, err := s.soft(wish.Apply(s), r)
	if err == NoUpToDateDisk && force && s.Disk.Usable() {
		wish = ForcedPromoteChange
		next, err = s.soft(wish.Apply(s), r)
	}
	if err == NoUpToDateDisk && s.Disk == Outdated {
		err = OutdatedDisk
	}
	if err == PrimaryNOP && force {
		wish = Change{wish.Mask | maskPeerDisk, wish.Val | uint32(Outdated)<<shiftPeerDisk}
		next, err = s.soft(wish.Apply(s), r)
	}
	return wish, next, err
}

// forces says that the change declares the own disk UpToDate.
func (c Change) forces() bool { return c.Mask&maskDisk != 0 && FromWord(c.Val).Disk == UpToDate }

func (Demote) apply(s State, r Rules) turn {
	if s.Role == Secondary {
		return stay(s)
	}
	if r.Unconfirmed {
		return refuse(s, InTransientState)
	}
	next := s
	next.Role = Secondary
	next, err := s.soft(next, r)
	if err != nil {
		return refuse(s, err)
	}
	return turn{next: next}
}

// apply of PeerReply makes the change on the state as it is now.
// Source: docs/drbd-wire.md 14.1.
func (ev PeerReply) apply(s State, r Rules) turn {
	leaving := ev.Change == DisconnectChange || ev.Change == DisconnectPeerChange || ev.Change == DisconnectSelfChange
	if !Consents(ev.Code) {
		why := &PeerRefusal{ev.Code}
		if leaving && ev.Change != DisconnectSelfChange && s.Conn.Established() {
			return disconnectRefused(s, r, why)
		}
		return refuse(s, why)
	}
	switch {
	case leaving && !s.Conn.HasSockets():
		return stay(s)
	case !leaving && !s.Conn.Established():
		return refuse(s, NeedConnection)
	}
	from, wish := s, ev.Change
	if leaving {
		from = s.alone(r)
		wish = wish.within(from)
	}
	next := from
	wanted := wish.Apply(from).invalidated(from)
	err := from.mayServe(wanted)
	if err == nil {
		next, err = from.soft(wanted, r)
	}
	if err != nil {
		return s.outdatedConsent(ev.Change, err, r)
	}
	return turn{next: next, how: How{Forced: ev.Change.forces() && next.Role != s.Role && s.Disk < UpToDate}}
}

// outdatedConsent is the turn of a change that the peer has made already and that has become
// impossible here meanwhile: the two views have to meet again, by telling the peer, or, where it
// waits for a resync or a verify that will not come or takes a disk for gone, by connecting anew.
func (s State) outdatedConsent(c Change, why error, r Rules) turn {
	if c.Mask&maskConn != 0 || c == DetachChange && s.Disk.Usable() {
		return s.drop(ProtocolError, why, r)
	}
	return turn{next: s, do: []Effect{SendState{}}, err: why}
}

// invalidated is the state that a change leads to, with the own disk given up at once if the peer is going to
// overwrite it. Equal generations would make the next handshake forget that, should the
// connection break before the sync UUID has come.
func (s State) invalidated(old State) State {
	if s.Conn == StartingSyncT && old.Conn != StartingSyncT {
		s.Disk = Inconsistent
	}
	return s
}

// mayServe refuses a resync whose source would not be UpToDate, and a verify of
// anything but two UpToDate disks: the clamps of [State.Sanitise] would declare
// UpToDate what is not.
func (s State) mayServe(next State) error {
	if next.Conn == s.Conn {
		return nil
	}
	if next.Conn.StartingSync() || next.Conn.Verifying() {
		switch {
		case s.Disk == Attaching || s.Disk == Negotiating:
			return InTransientState // it is not known yet what is on the disk
		case s.Disk.Gone():
			return NoLocalDisk
		}
	}
	switch next.Conn {
	case StartingSyncS:
		if s.Disk != UpToDate {
			return NoUpToDateDisk
		}
	case StartingSyncT:
		if s.PeerDisk != UpToDate {
			return NoUpToDateDisk
		}
	case VerifyS, VerifyT:
		if !s.Redundant() {
			return NoUpToDateDisk
		}
	}
	return nil
}
