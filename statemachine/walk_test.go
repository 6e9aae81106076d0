package statemachine

import (
	"errors"
	"reflect"
	"slices"
	"testing"
)

// walkEvents are the events of the walk: every type, with every argument that makes a
// difference, apart from those that pause and freeze. These multiply the states and have walks of their own.
func walkEvents(peers []Event) []Event {
	evs := []Event{
		Connect{}, Connect{DiscardMyData: true}, ReceiverStarted{}, SocketsUp{}, Refused{errors.New("no")}, Cleaned{}, Disconnect{}, Disconnect{Force: true}, Disconnect{Idle: true},
		PeerLost{Timeout}, PeerLost{BrokenPipe}, PeerLost{NetworkFailure}, PeerLost{ProtocolError}, PeerLost{TearDown}, PeerLost{Connected},
		Promote{}, Promote{Force: true}, Demote{},
		Attach{}, AttachFailed{}, Detach{}, Detach{Force: true}, DiskFailed{}, DiskFailed{PassOn: true}, DetachDone{}, Outdate{},
		Fenced{OK: true, PeerDisk: Outdated}, Fenced{OK: true, PeerDisk: DUnknown}, Fenced{},
		OwnBitmapSent{}, OwnBitmapSent{true}, PeerBitmap{}, PeerBitmap{true}, SyncUUIDReceived{}, ConsentHeard{}, BitsSet{}, BitsSet{true},
		ResyncDone{}, ResyncDone{true}, Grown{}, Grown{true}, Congested{}, Decongested{},
		Invalidate{}, InvalidateRemote{}, SkipInitialSync{true}, SkipInitialSync{}, PeerSkipsInitialSync{true}, PeerSkipsInitialSync{},
		Verify{}, VerifyDone{}, RemoveVolume{},
	}
	for _, d := range []Disk{Inconsistent, Outdated, Consistent, UpToDate} {
		evs = append(evs, Attached{d, DUnknown}, Attached{d, Outdated})
	}
	for _, c := range requests {
		evs = append(evs, PeerReply{c, 1}, PeerReply{c, -7}, PeerRequest{Change: c}, PeerRequest{Change: c, Crossing: true})
	}
	return append(evs, peers...)
}

var (
	everySort = []Conn{WFConnection, Connected, WFBitMapS, WFSyncUUID, SyncTarget, Ahead}
	fewSorts  = []Conn{Connected, WFBitMapS, SyncTarget, Ahead}
)

var requests = []Change{
	PromoteChange, ForcedPromoteChange, StartingSyncTChange, StartingSyncSChange, VerifyChange, DetachChange,
	RemoveVolumeChange, DisconnectChange, DisconnectPeerChange, DisconnectSelfChange,
}

// walkPeerStates are P_STATEs of every role and disk, with each decision that a handshake could
// come to, and with and without what makes a difference else. The connection states are
// one of each sort, or fewer if the walk multiplies the states anyway.
func walkPeerStates(conns []Conn, pauses []bool) []Event {
	decisions := []Decision{
		{Target: Connected}, {Target: WFBitMapS, Result: 1}, {Target: WFBitMapT, Result: -1},
		{Target: WFBitMapT, Result: -2, FullSync: true},
		{Err: &HandshakeError{Reason: SplitBrain}}, {Err: &HandshakeError{Reason: DryRun, PeerOnly: true}},
	}
	var evs []Event
	for _, role := range []Role{Primary, Secondary} {
		for _, conn := range conns {
			for d := Diskless; d <= UpToDate; d++ {
				for _, pause := range pauses {
					w := State{Role: role, Conn: conn, Disk: d, UserISP: pause}
					evs = append(evs, PeerState{Word: w, Granted: true, MayBeAhead: true})
					for _, decision := range decisions {
						evs = append(evs, PeerState{Word: w, Granted: true, MayBeAhead: true, UUIDsKnown: true, Decision: decision})
						if len(conns) == len(everySort) {
							evs = append(evs, PeerState{Word: w, Granted: true, MayBeAhead: true, UUIDsKnown: true, UUIDFlags: FlagInconsistent, OOSBits: 1, Decision: decision})
						}
					}
				}
			}
		}
	}
	return evs
}

// walk visits every state that is reachable from the initial one under the rules.
// check is called for every step.
func walk(t *testing.T, rules []Rules, events []Event, check func(s State, ev Event, r Rules, next State, do []Effect, err error)) map[State]bool {
	t.Helper()
	seen := map[State]bool{Initial: true}
	todo := []State{Initial}
	for visited := 0; len(todo) > 0 && !(underRace && visited == 300); visited++ {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, r := range rules {
			for _, ev := range events {
				if peer, ok := ev.(PeerState); ok && pointless(s, peer, r) {
					continue
				}
				next, do, err := s.Step(ev, r)
				check(s, ev, r, next, do, err)
				if t.Failed() {
					t.Fatalf("state %v\nevent %T%+v\nrules %+v\nnext  %v\nerr   %v\n%v", s, ev, ev, r, next, err, effectStrings(do))
				}
				if !seen[next] {
					seen[next] = true
					todo = append(todo, next)
				}
			}
		}
	}
	return seen
}

// pointless says that the decision is not asked for and the event comes without one as well, or
// that no handshake comes to it with these disks.
func pointless(s State, ev PeerState, r Rules) bool {
	if !s.HandshakeDue(ev, r) {
		return ev.Decision.Made() && (ev.Decision.Target != Connected || ev.Decision.Err != nil)
	}
	mine, theirs := s.settled(r).Disk, ev.realDisk()
	switch {
	case ev.Decision.Err != nil:
		return false
	case ev.Decision.Target == WFBitMapS:
		return mine <= Inconsistent
	case ev.Decision.Target == WFBitMapT:
		return theirs <= Inconsistent || s.Role == Primary && s.Disk >= Consistent
	}
	return mine == Inconsistent != (theirs == Inconsistent)
}

func effectStrings(do []Effect) []string {
	var s []string
	for _, e := range do {
		s = append(s, EffectString(e))
	}
	return s
}

// walkRules are the rules that the walks apply, each at every state.
func walkRules() []Rules {
	var all []Rules
	for _, negotiated := range []Disk{Diskless, Inconsistent, Outdated, UpToDate} {
		all = append(all, Rules{Negotiated: negotiated})
	}
	return append(all,
		Rules{HasBitmapUUID: true, PeerIsCurrent: true, TwoPrimaries: true, HaveVerifyAlg: true, Negotiated: Consistent},
		Rules{Open: true, Handshaking: true, ResolveConflicts: true, Negotiated: UpToDate},
		Rules{ConsiderResync: true, OtherPeerPrimary: true},
	)
}

// TestWalk visits every reachable state with every event and checks what has to hold always.
func TestWalk(t *testing.T) {
	met := map[[2]Conn]bool{}
	states := walk(t, walkRules(), walkEvents(walkPeerStates(everySort, []bool{false})), func(s State, ev Event, r Rules, next State, do []Effect, err error) {
		checkStep(t, s, ev, r, next, do, err)
		met[[2]Conn{s.Conn, next.Conn}] = true
	})
	for _, tr := range Transitions() {
		if !underRace && !met[[2]Conn{tr.From, tr.To}] && !tr.From.Paused() && !tr.To.Paused() {
			t.Errorf("%v -> %v (%s) is in the table and nothing leads that way", tr.From, tr.To, tr.Label)
		}
	}
	t.Logf("%d states", len(states))
}

// TestWalkPauses does the same with everybody pausing resync.
func TestWalkPauses(t *testing.T) {
	met := map[[2]Conn]bool{}
	events := append(walkEvents(walkPeerStates(fewSorts, []bool{false, true})), Pause{true}, Pause{false}, AfterPause{true}, AfterPause{false})
	states := walk(t, []Rules{{Negotiated: UpToDate}}, events, func(s State, ev Event, r Rules, next State, do []Effect, err error) {
		checkStep(t, s, ev, r, next, do, err)
		met[[2]Conn{s.Conn, next.Conn}] = true
	})
	for _, tr := range Transitions() {
		if !underRace && !met[[2]Conn{tr.From, tr.To}] && (tr.From.Paused() || tr.To.Paused()) {
			t.Errorf("%v -> %v (%s) is in the table and nothing leads that way", tr.From, tr.To, tr.Label)
		}
	}
	t.Logf("%d states", len(states))
}

// TestWalkFreezes does the same with I/O suspended for every reason.
func TestWalkFreezes(t *testing.T) {
	reasons := map[reflect.Type]bool{}
	rules := []Rules{
		{Fencing: ResourceAndStonith, SuspendOnNoData: true, Negotiated: UpToDate},
		{Fencing: ResourceOnly, NewUUIDPending: true, Negotiated: Inconsistent},
	}
	events := append(walkEvents(walkPeerStates(fewSorts, []bool{false})), SuspendIO{}, ResumeIO{})
	states := walk(t, rules, events, func(s State, ev Event, r Rules, next State, do []Effect, err error) {
		checkStep(t, s, ev, r, next, do, err)
		checkFreeze(t, ev, r, next, do)
		for _, e := range do {
			reasons[reflect.TypeOf(e)] = true
		}
	})
	for _, e := range []Effect{RememberNewUUID{}, ForgetNewUUID{}, FencePeer{}, NewCurrentUUID{}, MarkUnacked{}} {
		if !underRace && !reasons[reflect.TypeOf(e)] {
			t.Errorf("%T never happened", e)
		}
	}
	t.Logf("%d states", len(states))
}

// checkFreeze holds what freezing is for: while it lasts nothing is marked and no generation is
// begun, and afterwards none is left over.
func checkFreeze(t *testing.T, ev Event, r Rules, next State, do []Effect) {
	if _, skip := ev.(SkipInitialSync); skip {
		return
	}
	forced := false
	switch ev := ev.(type) {
	case Promote:
		forced = ev.Force
	case PeerReply:
		forced = ev.Change.forces()
	}
	for _, e := range do {
		switch e.(type) {
		case MarkUnacked, NewCurrentUUID:
			if next.Suspended() && !forced {
				t.Errorf("%T while I/O is frozen", e)
			}
		case RememberNewUUID:
			if !next.Suspended() || r.NewUUIDPending {
				t.Errorf("nothing to remember a generation for")
			}
		}
	}
}

// checkStep holds the invariants of one step.
func checkStep(t *testing.T, s State, ev Event, r Rules, next State, do []Effect, err error) {
	var illegal *IllegalTransition
	switch {
	case errors.As(err, &illegal):
		t.Errorf("%T is not guarded: %v", ev, err)
	case err != nil && next != s:
		t.Errorf("refused, and changed")
	case next != next.Sanitise():
		t.Errorf("not sanitised, that would be %v", next.Sanitise())
	case !next.Known():
		t.Errorf("a field holds no value that exists")
	case next.Conn.Syncing() && next.Conn.Paused() != next.Pausing():
		t.Errorf("paused, and nobody pauses, or the other way round")
	case next.Conn < Connected && (next.Peer != RoleUnknown || next.PeerDisk > DUnknown):
		t.Errorf("knows of a peer that is not there")
	case next.Conn.Target() && next.Disk >= Consistent, next.Conn.Source() && next.PeerDisk >= UpToDate:
		t.Errorf("the target is UpToDate")
	case next.Conn == SyncTarget && next.Disk != Inconsistent:
		t.Errorf("being overwritten and not Inconsistent")
	}
	if lErr := Legal(s, next); lErr != nil {
		t.Error(lErr)
	}
	checkData(t, s, ev, r, next)
	checkEffects(t, s, ev, next, do)
}

// checkData holds that no disk becomes good by itself, and nobody Primary without
// good data. Source: docs/drbd-metadata.md 6, 5.3.
func checkData(t *testing.T, s State, ev Event, r Rules, next State) {
	settled := s.Disk == Negotiating && r.Negotiated == UpToDate
	if s.Disk < UpToDate && next.Disk == UpToDate && !settled {
		switch ev := ev.(type) {
		case Attached, SkipInitialSync, PeerSkipsInitialSync, Fenced:
		case Promote:
			if !ev.Force {
				t.Errorf("declared UpToDate by a promotion without force")
			}
		case PeerReply:
			if !ev.Change.forces() {
				t.Errorf("declared UpToDate by a reply")
			}
		case ResyncDone:
			if ev.Failed {
				t.Errorf("declared UpToDate by a resync with failed blocks")
			}
		case PeerState:
			held := s.HandshakeDue(ev, r) && ev.Decision.Err == nil && ev.Decision.Target != WFBitMapT
			was := s.settled(r).Disk
			if !held && was != Consistent || was == Inconsistent {
				t.Errorf("declared UpToDate by the peer's state")
			}
		case BitsSet:
			if !ev.Failed || s.Disk != Outdated {
				t.Errorf("declared UpToDate by setting bits")
			}
		default:
			t.Errorf("declared UpToDate")
		}
	}
	if s.Role != Primary && next.Role == Primary && !next.HasData() {
		t.Errorf("Primary without UpToDate data")
	}
	if _, lost := ev.(PeerLost); lost && next.Disk > s.Disk && s.Disk != Negotiating {
		t.Errorf("a disk is worth more because the peer is lost")
	}
}

// checkEffects holds the order that doc.go promises.
func checkEffects(t *testing.T, s State, ev Event, next State, do []Effect) {
	var written, sent bool
	var generations int
	for _, e := range do {
		switch e.(type) {
		case NewCurrentUUID, RenewCurrentUUID, SetAllBits, StartSourceUUIDs, StartTargetUUIDs, FinishSourceUUIDs, FinishTargetUUIDs, SetRoleBit, AdoptCurrentUUID:
			if e == (NewCurrentUUID{}) || e == (RenewCurrentUUID{}) {
				generations++
			}
			if sent || written {
				t.Errorf("%T after the packets or the write that should tell of it", e)
			}
		case WriteMetadata:
			written = true
			if _, skip := ev.(SkipInitialSync); sent && !skip {
				t.Errorf("metadata written after a packet")
			}
		case SendState, SendUUIDs, SendSyncUUID, SendReply, SendBitmap:
			sent = true
		}
	}
	if generations > 1 {
		t.Errorf("two generations at once")
	}
	if _, answers := ev.(PeerRequest); sent && !answers && !s.Conn.HasSockets() {
		t.Errorf("sent without a connection")
	}
	if next.Disk.Usable() && s.Disk.Usable() && s.Durable() != next.Durable() && !written {
		t.Errorf("the flags changed and are not written")
	}
	if ending := !s.Conn.Ending() && next.Conn.Ending(); ending != slices.ContainsFunc(do, isCloseConn) {
		t.Errorf("CloseConn and the state disagree")
	}
}

func isCloseConn(e Effect) bool { _, ok := e.(CloseConn); return ok }
