package statemachine

// PeerRequest is P_STATE_CHG_REQ, or P_CONN_ST_CHG_REQ if Connection: the peer asks for a
// change, in its own perspective. The answer is the effect [SendReply]; a
// refusal is the error too. For a connection-level request every volume is asked,
// nothing is committed unless all grant it, and one reply is sent.
// Source: docs/drbd-wire.md 14.1.
type PeerRequest struct {
	Change     Change
	Connection bool
	Crossing   bool // this node waits for the answer to a request of its own
}

func (ev PeerRequest) apply(s State, r Rules) turn {
	next, err := ev.grant(s, r)
	if err != nil {
		code := CodeUnknown
		if why, ok := err.(Refusal); ok {
			code = why.RefusalCode()
		}
		return turn{next: s, do: []Effect{SendReply{code, ev.Connection}}, err: err}
	}
	return turn{next: next, how: How{Reply: &SendReply{CodeSuccess, ev.Connection}}}
}

// grant is the state that the request leads to. A request that was granted before
// and comes again leads to the same state.
func (ev PeerRequest) grant(s State, r Rules) (State, error) {
	wish := ev.Change.Mirror()
	if !wish.grantable() {
		return s, NotSupported
	}
	if r.ResolveConflicts && ev.Crossing {
		return s, ConcurrentChange
	}
	want := FromWord(wish.Val)
	leaving := wish.Mask&maskConn != 0 && want.Conn == TearDown
	if ev.Connection && !leaving {
		return s, NotSupported // what is asked of a connection is its end; anything else would befall every volume of it
	}
	switch {
	case leaving && s.Conn == TearDown: // the same request again
	case s.Conn < WFReportParams, s.Conn == WFReportParams && !leaving && wish != RemoveVolumeChange.Mirror():
		return s, InTransientState
	}
	if want.PeerDisk == Failed && wish.Mask == maskPeerDisk && s.PeerDisk == Diskless {
		return s, IsDiskless
	}
	if wish.Mask&maskPeer != 0 && wish.Mask&maskPeerDisk != 0 && !s.PeerDisk.Usable() {
		return s, NoRemoteDisk // there is nothing to declare UpToDate
	}
	if wish.Mask&maskPeer != 0 && r.Waiting == WaitForDisk && s.Disk == UpToDate {
		return s, TwoPrimaries // it is about to be one again
	}
	from := s
	if leaving {
		from = s.alone(r)
		wish = wish.within(from)
	}
	if wish.Mask&maskDisk != 0 && from.Disk > Outdated && !(s.Peer == Primary && s.PeerDisk == UpToDate) {
		return s, NoUpToDateDisk // nobody has, or will have, newer data than this disk
	}
	next := wish.Apply(from).invalidated(from)
	if err := from.mayServe(next); err != nil {
		return s, err
	}
	return from.soft(next, r)
}
