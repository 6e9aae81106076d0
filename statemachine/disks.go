package statemachine

// Events of the own disk.
type (
	// Attach begins to take a disk into use.
	Attach struct{}
	// Attached says that the metadata was read: what it makes of the disk, and of the peer's. Connected, the disk is negotiated first, and Disk goes
	// into Rules.Negotiated; InTransientState means that a handshake is under way and
	// Attached is to be tried again after it.
	Attached struct{ Disk, PeerDisk Disk }
	// AttachFailed says that it could not be read.
	AttachFailed struct{}
	// Detach is the administrator's. Connected, the peer is asked first, unless Force.
	Detach struct{ Force bool }
	// DiskFailed says that the own disk returned an error. PassOn keeps it, as
	// Inconsistent, by the policy on-io-error pass_on.
	DiskFailed struct{ PassOn bool }
	// DetachDone says that the last request on a Failed disk has ended.
	DetachDone struct{}
	// Outdate is the administrator's word that there is newer data elsewhere.
	Outdate struct{}
	// Fenced is the fence-peer handler's answer: what the peer's disk is now known to be.
	// Not OK means that it found out nothing. Source: docs/drbd-metadata.md 8.10.
	Fenced struct {
		OK       bool
		PeerDisk Disk
	}
)

func (Attach) apply(s State, r Rules) turn {
	if s.Disk != Diskless {
		return refuse(s, AlreadyAttached)
	}
	next := s
	next.Disk = Attaching
	next, err := s.soft(next, r)
	if err != nil {
		return refuse(s, err)
	}
	return turn{next: next}
}

// apply of Attached. Source: docs/drbd-wire.md 14.7, 14.10; docs/drbd-metadata.md 6.2.
func (ev Attached) apply(s State, r Rules) turn {
	switch {
	case s.Disk != Attaching || !ev.Disk.Usable() || ev.Disk == DUnknown:
		return refuse(s, NotAttaching)
	case s.Conn.Established():
		s.Disk = Negotiating
	case s.Conn == WFReportParams && r.Handshaking:
		return refuse(s, InTransientState)
	default:
		s.Disk, s.PeerDisk = ev.Disk, ev.PeerDisk
	}
	return turn{next: s}
}

func (AttachFailed) apply(s State, _ Rules) turn {
	if s.Disk != Attaching {
		return refuse(s, NotAttaching)
	}
	s.Disk = Diskless
	return turn{next: s}
}

func (ev Detach) apply(s State, r Rules) turn {
	switch {
	case s.Disk == Diskless:
		return refuse(s, IsDiskless)
	case s.Disk == Failed:
		return stay(s)
	case !s.Disk.Usable() && !ev.Force:
		return refuse(s, InTransientState)
	}
	next := s
	next.Disk = Failed
	if ev.Force {
		return turn{next: next}
	}
	next, err := s.soft(next, r)
	if err != nil {
		return refuse(s, err)
	}
	if s.Conn.Established() {
		return stay(s, SendRequest{DetachChange, false})
	}
	return turn{next: next}
}

// apply of DiskFailed: a disk that is passed on is not worth verifying; a
// resync's source stays what it is, because the clamps allow nothing else, and the blocks that
// failed are marked.
func (ev DiskFailed) apply(s State, _ Rules) turn {
	switch {
	case s.Disk.Gone() && s.Disk != Attaching:
		return stay(s)
	case ev.PassOn && s.Disk.Usable():
		s.Disk = min(s.Disk, Inconsistent)
		if s.Conn.Verifying() {
			s.Conn = Connected
		}
	default:
		s.Disk = Failed
	}
	return turn{next: s}
}

func (DetachDone) apply(s State, _ Rules) turn {
	if s.Disk == Failed {
		s.Disk = Diskless
	}
	return turn{next: s}
}

func (Outdate) apply(s State, r Rules) turn {
	if s.Disk == Outdated {
		return stay(s)
	}
	next := s
	next.Disk = Outdated
	if s.Conn.Established() {
		return refuse(s, ConnectedOutdates)
	}
	next, err := s.soft(next, r)
	if err != nil {
		return refuse(s, err)
	}
	return turn{next: next}
}

func (ev Fenced) apply(s State, _ Rules) turn {
	if !ev.OK || s.Conn.Established() {
		return stay(s)
	}
	s.SuspFencing = false
	if ev.PeerDisk == Inconsistent || ev.PeerDisk == Outdated {
		s.PeerDisk = ev.PeerDisk
		if s.Disk == Consistent {
			s.Disk = UpToDate // nobody has newer data
		}
	}
	return turn{next: s}
}
