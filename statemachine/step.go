package statemachine

// Event is something that happened to a volume, or was asked of it. The events
// are the types of this package that say so.
type Event interface {
	// apply is what the event wants. It does not sanitise next unless it has to look at
	// the outcome.
	apply(s State, r Rules) turn
}

// turn is the answer to one event.
type turn struct {
	next State
	how  How      // what Consequences cannot see; Step fills in the rules' share
	do   []Effect // what the event itself asks for, before what the transition owes
	err  error    // refused: nothing changes, do is still done
}

// refuse is the turn of a request that is not granted.
func refuse(s State, why error) turn { return turn{next: s, err: why} }

// stay is the turn of an event that changes nothing by itself.
func stay(s State, do ...Effect) turn { return turn{next: s, do: do} }

// Step applies one event to a volume and says what has to be done, in order. The
// same state, event and rules always give the same answer.
//
// A request that is not granted gives a [Refusal] (a *[PeerRefusal] if it was the
// peer that refused) and leaves the state as it was; the effects of a refusal are
// the answer to a peer, or the next try. An event that does not concern the state it
// meets (a socket that fails when the connection is ending already) changes nothing
// and is no error. An *[IllegalTransition] means that the caller broke the order of events.
func (s State) Step(ev Event, r Rules) (State, []Effect, error) {
	t := ev.apply(s, r)
	if t.err != nil {
		return s, t.do, t.err
	}
	next := t.next.Sanitise().freeze(s, r)
	if next == s && t.how == (How{}) {
		return s, t.do, nil
	}
	if err := Legal(s, next); err != nil {
		return s, nil, err
	}
	t.how.HasBitmapUUID, t.how.PeerIsCurrent, t.how.Pending, t.how.Fencing = r.HasBitmapUUID, r.PeerIsCurrent, r.NewUUIDPending, r.Fencing
	return next, append(t.do, Consequences(s, next, t.how)...), nil
}

// freeze suspends I/O, or lets it go again, where a policy says so: no UpToDate
// data within reach, or a peer that may still be writing.
// Source: docs/drbd-metadata.md 8.10.
func (s State) freeze(old State, r Rules) State {
	switch {
	case s.HasData():
		s.SuspNoData = false
	case r.SuspendOnNoData && s.Role == Primary && old.HasData():
		s.SuspNoData = true
	}
	switch {
	case s.Conn.Established() || s.PeerDisk == Outdated:
		s.SuspFencing = false
	case r.Fencing == ResourceAndStonith && s.Role == Primary && old.Conn.Established() && s.PeerDisk == DUnknown:
		s.SuspFencing = true
	}
	return s
}

// soft is next, sanitised, if the rules for soft changes allow it. What no rule but
// the table forbids is refused as ill-timed.
func (s State) soft(next State, r Rules) (State, error) {
	next = next.Sanitise()
	if err := Validate(s, next, r); err != nil {
		return s, err
	}
	if Legal(s, next) != nil {
		return s, InTransientState
	}
	return next, nil
}

// settled is s with a disk that was being negotiated set to what the metadata made of it.
func (s State) settled(r Rules) State {
	if s.Disk == Negotiating {
		s.Disk = r.Negotiated
	}
	return s
}

// alone is s settled when there is nobody left to negotiate with. A disk that the peer's applications have gone on from is old: as it has said, or because
// they work on a good disk there, and nobody has said that this one has what is on it.
// Source: docs/drbd-metadata.md 6.3.
func (s State) alone(r Rules) State {
	switch {
	case s.Disk != Negotiating:
	case r.PeerWentOn, s.Peer == Primary && s.PeerDisk == UpToDate:
		s.Disk = min(r.Negotiated, Outdated)
	}
	return s.settled(r)
}

// drop is s on its way out of the connection, towards conn.
func (s State) drop(conn Conn, why error, r Rules) turn {
	next := s.alone(r)
	next.Conn = conn
	return turn{next: next, how: How{Why: why}}
}
