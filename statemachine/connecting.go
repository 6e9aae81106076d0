package statemachine

// Events of the connection. All volumes of a resource get them alike.
type (
	// Connect is the administrator's: StandAlone becomes Unconnected. DiscardMyData gives the
	// own data up should the handshake find a split brain; not that of a Primary, whose users work on it.
	Connect struct{ DiscardMyData bool }
	// ReceiverStarted says that an attempt to connect has begun.
	ReceiverStarted struct{}
	// SocketsUp says that both sockets are chosen, the features agreed and the peer
	// authenticated: the parameter block is next.
	SocketsUp struct{}
	// PeerLost says that the connection failed. Why is one of Timeout,
	// BrokenPipe, NetworkFailure, ProtocolError, TearDown; anything else counts as
	// NetworkFailure. Only the first one sticks. Source: docs/drbd-wire.md 15.4.
	PeerLost struct{ Why Conn }
	// Refused says that the peers do not agree about something essential, or that this
	// node cannot listen: the connection is given up, not retried.
	// Source: docs/drbd-wire.md 7.7.
	Refused struct{ Why error }
	// Cleaned says that CloseConn is done: sockets closed, local I/O on behalf of the peer
	// finished, unconfirmed writes marked.
	Cleaned struct{}
	// Disconnect is the administrator's. Connected, the peer is asked first, unless Force. Idle says that nothing more is
	// written here: that the peer's disk is left without this one does not make it old.
	Disconnect struct{ Force, Idle bool }
)

func (ev Connect) apply(s State, _ Rules) turn {
	switch {
	case ev.DiscardMyData && s.Role == Primary:
		return refuse(s, DiscardOnPrimary)
	case s.Conn != StandAlone:
		return refuse(s, AlreadyConnecting)
	}
	s.Conn = Unconnected
	return turn{next: s}
}

func (ReceiverStarted) apply(s State, _ Rules) turn {
	if s.Conn != Unconnected {
		return stay(s)
	}
	s.Conn = WFConnection
	return turn{next: s}
}

func (SocketsUp) apply(s State, _ Rules) turn {
	if s.Conn != WFConnection {
		return stay(s)
	}
	s.Conn = WFReportParams
	return turn{next: s, do: []Effect{SendParameters{}}}
}

func (ev PeerLost) apply(s State, r Rules) turn {
	if !s.Conn.HasSockets() {
		return stay(s)
	}
	why := ev.Why
	if !why.Trouble() || why == TearDown && s.Conn < WFReportParams {
		why = NetworkFailure
	}
	return s.drop(why, nil, r)
}

func (ev Refused) apply(s State, r Rules) turn {
	if !s.Conn.HasSockets() && s.Conn != Unconnected {
		return stay(s)
	}
	return s.drop(Disconnecting, ev.Why, r)
}

func (Cleaned) apply(s State, _ Rules) turn {
	switch {
	case s.Conn == Disconnecting:
		s.Conn = StandAlone
	case s.Conn.Trouble():
		s.Conn = Unconnected
	}
	return turn{next: s}
}

// apply of Disconnect asks the peer, so that it need not find out, and in a
// form that leaves both able to tell whose data is old: a Primary goes on writing, and the disk that it writes without is
// Outdated from then on, whoever leaves. The driver asks for that with fencing only. Source: docs/drbd-wire.md 14.6.
func (ev Disconnect) apply(s State, r Rules) turn {
	switch {
	case s.Conn == StandAlone:
		return refuse(s, AlreadyStandAlone)
	case s.Conn == Disconnecting:
		return stay(s)
	case ev.Force && s.Conn.Established():
		t := s.drop(Disconnecting, nil, r)
		t.do = []Effect{SendLeave{}}
		return t
	case ev.Force || !s.Conn.Established():
		return s.drop(Disconnecting, nil, r)
	}
	wish := s.leave()
	if ev.Idle && s.Role == Primary {
		wish = DisconnectChange
	}
	_, err := s.soft(wish.within(s).Apply(s), r)
	if err == PrimaryNOP {
		wish = DisconnectPeerChange
		_, err = s.soft(wish.within(s).Apply(s), r)
	}
	if err != nil {
		return refuse(s, err)
	}
	return stay(s, SendRequest{wish, true})
}

// leave is the request to let this node go. One of the disks is outdated by it if the other is that of a Primary, and good: what
// is the last good copy stays UpToDate.
func (s State) leave() Change {
	switch {
	case s.Role == Primary && s.Disk == UpToDate && s.PeerDisk >= Outdated:
		return DisconnectPeerChange
	case s.Role != Primary && s.Peer == Primary && s.PeerDisk == UpToDate && s.Disk >= Outdated:
		return DisconnectSelfChange
	}
	return DisconnectChange
}

// LeavingRank orders the volumes of a connection, which all leave by one request: the highest speaks for all of them. It is
// one that outdates a disk, or else one that has something to lose.
func (s State) LeavingRank() int {
	switch {
	case s.leave() != DisconnectChange:
		return 2
	case s.Disk >= Outdated:
		return 1
	}
	return 0
}

// disconnectRefused is the next try after the peer did not let this node go: to
// leave as the outdated one, or, if that says nothing, without asking. A Primary that refuses because it has no good disk
// needs this one as it is.
func disconnectRefused(s State, r Rules, why *PeerRefusal) turn {
	if s.Disk < Outdated {
		return s.drop(Disconnecting, why, r)
	}
	if _, err := s.soft(DisconnectSelfChange.Apply(s), r); err != nil || why.Reason() == NoUpToDateDisk {
		return refuse(s, why)
	}
	return stay(s, SendRequest{DisconnectSelfChange, true})
}
