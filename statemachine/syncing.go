package statemachine

// Events of the bitmap exchange and of resync.
type (
	// OwnBitmapSent says that SendBitmap is done: the last packet is queued.
	// PeerReceived says whether the peer's bitmap has come in already.
	OwnBitmapSent struct{ PeerReceived bool }
	// PeerBitmap says that the peer's bitmap has been received completely and merged.
	// OwnSent says whether the own one is out already.
	PeerBitmap struct{ OwnSent bool }
	// SyncUUIDReceived is P_SYNC_UUID. The refusal InTransientState means that it came
	// early: keep it and apply it after the next change of state.
	SyncUUIDReceived struct{}
	// ConsentHeard says that the peer, which asked to be overwritten, has heard that it will be: its
	// own disk is Inconsistent now. Only then the bits are set, and a generation begins.
	ConsentHeard struct{}
	// BitsSet says that the whole bitmap, set for StartingSyncS or StartingSyncT, is on disk,
	// or, Failed, that it could not be written.
	BitsSet struct{ Failed bool }
	// ResyncDone says that no bit is left but those of blocks that failed: on the Target, which then has done a round trip
	// with P_PING, so that every acknowledgement has been processed by the peer; on the Source when the Target has said that it is done, and
	// its last acknowledgement has come. Failed says that blocks failed.
	ResyncDone struct{ Failed bool }
	// Pause is the administrator's pause (user_isp).
	Pause struct{ On bool }
	// AfterPause is the pause by resync-after (aftr_isp).
	AfterPause struct{ On bool }
	// Grown says that the device grew and the new area is to be synced from here (Source), or to here.
	Grown struct{ Source bool }
	// Congested says that too much is unconfirmed: pull ahead of the peer.
	Congested struct{}
	// Decongested says that nothing is unconfirmed any more.
	Decongested struct{}
)

// apply of OwnBitmapSent and PeerBitmap: the Source goes on when both are
// done, the Target answers the peer's bitmap with its own, merged one.
// Source: docs/drbd-wire.md 10.2.
func (ev OwnBitmapSent) apply(s State, _ Rules) turn {
	switch {
	case s.Conn == WFBitMapS && ev.PeerReceived:
		s.Conn = SyncSource
	case s.Conn == WFBitMapT && ev.PeerReceived:
		s.Conn = WFSyncUUID
	}
	return turn{next: s}
}

func (ev PeerBitmap) apply(s State, _ Rules) turn {
	switch {
	case s.Conn == WFBitMapS && ev.OwnSent:
		s.Conn = SyncSource
	case s.Conn == WFBitMapT && ev.OwnSent:
		s.Conn = WFSyncUUID
	case s.Conn == WFBitMapT:
		return stay(s, SendBitmap{})
	}
	return turn{next: s}
}

// apply of SyncUUIDReceived. Source: docs/drbd-wire.md 12.1.
func (SyncUUIDReceived) apply(s State, _ Rules) turn {
	switch {
	case s.Conn.TakesSyncUUID():
		s.Conn, s.Disk = SyncTarget, Inconsistent
		return turn{next: s, how: How{SyncUUID: true}}
	case s.Conn.Established() && s.Disk >= Negotiating:
		return refuse(s, InTransientState)
	}
	return stay(s)
}

func (ConsentHeard) apply(s State, _ Rules) turn {
	if s.Conn != StartingSyncS {
		return stay(s)
	}
	return turn{next: s, how: How{Heard: true}}
}

func (ev BitsSet) apply(s State, _ Rules) turn {
	switch {
	case !s.Conn.StartingSync():
		return stay(s)
	case ev.Failed:
		s.Conn = Connected
	case s.Conn == StartingSyncS:
		s.Conn = SyncSource
	default:
		s.Conn = WFSyncUUID
	}
	return turn{next: s}
}

// apply of ResyncDone. With failed blocks the Target stays Inconsistent, and the
// Source does not end at all: its last bits are still set.
// Source: docs/drbd-wire.md 12.6.
func (ev ResyncDone) apply(s State, _ Rules) turn {
	if !s.Conn.Syncing() {
		return stay(s)
	}
	worth := UpToDate
	if ev.Failed {
		worth = Inconsistent
	}
	if s.Conn.Source() {
		s.PeerDisk = worth
	} else {
		s.Disk = worth
	}
	s.Conn = Connected
	return turn{next: s}
}

func (ev Pause) apply(s State, _ Rules) turn {
	s.UserISP = ev.On
	return turn{next: s}
}

func (ev AfterPause) apply(s State, _ Rules) turn {
	s.AfterISP = ev.On
	return turn{next: s}
}

// apply of Grown. Source: docs/drbd-wire.md 14.8.
func (ev Grown) apply(s State, _ Rules) turn {
	if s.Conn != Connected {
		return refuse(s, InTransientState)
	}
	if !s.Redundant() {
		return refuse(s, NoUpToDateDisk)
	}
	if ev.Source {
		s.Conn = SyncSource
	} else {
		s.Conn = WFSyncUUID
	}
	return turn{next: s}
}

// apply of Congested and Decongested. Source: docs/drbd-wire.md 16.
func (Congested) apply(s State, _ Rules) turn {
	if s.Disk == UpToDate && (s.Conn == SyncSource || s.Conn == Connected && s.PeerDisk.Usable()) {
		s.Conn = Ahead
	}
	return turn{next: s}
}

func (Decongested) apply(s State, _ Rules) turn {
	if s.Conn == Ahead {
		s.Conn = SyncSource
	}
	return turn{next: s}
}
