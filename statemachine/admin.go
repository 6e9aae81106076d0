package statemachine

// What an administrator asks for beside connecting, roles and disks.
type (
	// Invalidate has the own disk overwritten by the peer's.
	Invalidate struct{}
	// InvalidateRemote has the peer's disk overwritten by the own one.
	InvalidateRemote struct{}
	// SkipInitialSync declares two disks with just created metadata equal. Fresh says that
	// both current UUIDs are [JustCreated].
	SkipInitialSync struct{ Fresh bool }
	// PeerSkipsInitialSync is P_UUIDS with flag 0x8. Fresh says that the own current UUID is
	// exactly [JustCreated].
	PeerSkipsInitialSync struct{ Fresh bool }
	// Verify begins an online verify.
	Verify struct{}
	// VerifyDone says that the last block is compared, or the stop sector reached, and the
	// ping round trip is done.
	VerifyDone struct{}
	// RemoveVolume takes a volume out of a live connection.
	RemoveVolume struct{}
	// SuspendIO freezes application I/O.
	SuspendIO struct{}
	// ResumeIO lets it go again, whatever it was frozen for.
	ResumeIO struct{}
)

// apply of Invalidate. Without a peer it is the own disk's affair, if nobody uses it.
// Source: docs/drbd-wire.md 14.9, docs/drbd-metadata.md 5.3.
func (Invalidate) apply(s State, r Rules) turn {
	if s.Conn != StandAlone || s.Role == Primary {
		return s.ask(StartingSyncTChange, r)
	}
	if !s.Disk.Usable() {
		return refuse(s, NoLocalDisk)
	}
	s.Disk = Inconsistent
	return turn{next: s, how: How{FullSync: true}}
}

func (InvalidateRemote) apply(s State, r Rules) turn {
	if s.Conn != StandAlone || s.Role != Primary {
		return s.ask(StartingSyncSChange, r)
	}
	if !s.Disk.Usable() {
		return refuse(s, NoLocalDisk)
	}
	s.PeerDisk = Inconsistent
	return turn{next: s, how: How{FullSync: true}}
}

func (Verify) apply(s State, r Rules) turn { return s.ask(VerifyChange, r) }

// ask has the peer asked for a change that needs both, if this node may wish it.
func (s State) ask(wish Change, r Rules) turn {
	next := wish.Apply(s)
	switch {
	case s.Conn < Connected:
		return refuse(s, NeedConnection)
	case s.Conn > Connected:
		return refuse(s, ResyncRunning)
	case s.Disk < Inconsistent:
		return refuse(s, NoLocalDisk)
	case s.PeerDisk < Inconsistent:
		return refuse(s, NoRemoteDisk)
	}
	if err := s.mayServe(next); err != nil {
		return refuse(s, err)
	}
	if _, err := s.soft(next, r); err != nil {
		return refuse(s, err)
	}
	return stay(s, SendRequest{wish, false})
}

// apply of SkipInitialSync: one P_UUIDS says it all. The new generation is durable before the peer
// adopts it; should the end get lost, the next handshake finds nothing to copy.
// Source: docs/drbd-wire.md 14.9.
func (ev SkipInitialSync) apply(s State, r Rules) turn {
	switch {
	case s.Conn > Connected:
		return refuse(s, ResyncRunning)
	case s.Conn != Connected:
		return refuse(s, NeedConnection)
	case !ev.Fresh || r.NewUUIDPending:
		return refuse(s, NotFresh)
	case s.Disk != Inconsistent || s.PeerDisk != Inconsistent:
		return refuse(s, NotFresh)
	}
	s.Disk, s.PeerDisk = UpToDate, UpToDate
	return turn{next: s, do: []Effect{
		NewCurrentUUID{}, ClearAllBits{}, WriteMetadata{}, SendUUIDs{SkipInitialSync: true}, ClearBitmapUUID{},
	}}
}

func (ev PeerSkipsInitialSync) apply(s State, r Rules) turn {
	if s.Conn != Connected || !ev.Fresh || r.NewUUIDPending || s.Disk != Inconsistent || s.PeerDisk != Inconsistent {
		return stay(s)
	}
	s.Disk, s.PeerDisk = UpToDate, UpToDate
	return turn{next: s, how: How{Adopted: true}, do: []Effect{AdoptCurrentUUID{}, ClearAllBits{}}}
}

func (VerifyDone) apply(s State, _ Rules) turn {
	if s.Conn.Verifying() {
		s.Conn = Connected
	}
	return turn{next: s}
}

// apply of RemoveVolume. Source: docs/drbd-wire.md 14.10.
func (RemoveVolume) apply(s State, r Rules) turn {
	switch {
	case s.Disk != Diskless || s.Role == Primary:
		return refuse(s, DeviceInUse)
	case s.Conn > Connected:
		return refuse(s, InTransientState)
	case s.Conn < Connected:
		return stay(s)
	}
	if _, err := s.soft(RemoveVolumeChange.Apply(s), r); err != nil {
		return refuse(s, err)
	}
	return stay(s, SendRequest{RemoveVolumeChange, false})
}

func (SuspendIO) apply(s State, _ Rules) turn {
	s.Susp = true
	return turn{next: s}
}

func (ResumeIO) apply(s State, _ Rules) turn {
	s.Susp, s.SuspNoData, s.SuspFencing = false, false, false
	return turn{next: s}
}
