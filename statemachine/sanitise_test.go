package statemachine

import "testing"

// eachState calls f with every combination that a state can be made of, except freezes,
// which nothing corrects.
func eachState(f func(State)) {
	for _, role := range []Role{Primary, Secondary} {
		for _, peer := range []Role{RoleUnknown, Primary, Secondary} {
			for _, conn := range Conns() {
				for own := Diskless; own <= UpToDate; own++ {
					for theirs := Diskless; theirs <= UpToDate; theirs++ {
						for pauses := range 8 {
							f(State{Role: role, Peer: peer, Conn: conn, Disk: own, PeerDisk: theirs,
								AfterISP: pauses&1 != 0, PeerISP: pauses&2 != 0, UserISP: pauses&4 != 0})
						}
					}
				}
			}
		}
	}
}

// TestSanitiseTwice: one pass is enough, whatever it starts from.
func TestSanitiseTwice(t *testing.T) {
	eachState(func(s State) {
		once := s.Sanitise()
		if twice := once.Sanitise(); twice != once {
			t.Fatalf("%v becomes %v, and that %v", s, once, twice)
		}
		if once.Role != s.Role || once.UserISP != s.UserISP {
			t.Fatalf("%v becomes %v", s, once)
		}
	})
}

// TestSanitiseBounds holds the table of docs/drbd-wire.md 8.2 the other way round: what may be left.
func TestSanitiseBounds(t *testing.T) {
	within := func(d, low, high Disk) bool { return low <= d && d <= high }
	eachState(func(s State) {
		c := s.Sanitise()
		ok := true
		switch c.Conn {
		case WFBitMapT, PausedSyncT, StartingSyncT, WFSyncUUID, Behind:
			ok = within(c.Disk, Inconsistent, Outdated) && c.PeerDisk == UpToDate
		case SyncTarget:
			ok = c.Disk == Inconsistent && c.PeerDisk == UpToDate && !c.Pausing()
		case WFBitMapS, PausedSyncS, StartingSyncS, Ahead:
			ok = c.Disk == UpToDate && within(c.PeerDisk, Inconsistent, Consistent)
		case SyncSource:
			ok = c.Disk == UpToDate && c.PeerDisk == Inconsistent && !c.Pausing()
		case VerifyS, VerifyT:
			ok = c.Disk == UpToDate && c.PeerDisk == UpToDate
		case Connected:
			ok = c.Disk != Consistent && c.PeerDisk != Consistent
		default:
			ok = c.Peer == RoleUnknown && !c.PeerISP && within(c.PeerDisk, Inconsistent, DUnknown)
		}
		if c.Conn.Paused() && !c.Pausing() {
			ok = false
		}
		if c.Conn > Connected && (s.Disk.Gone() || s.PeerDisk.Gone()) {
			ok = false
		}
		if !ok {
			t.Fatalf("%v becomes %v", s, c)
		}
	})
}

// TestSanitiseRows has the rows where it is not the bound that matters.
func TestSanitiseRows(t *testing.T) {
	for _, tc := range []struct{ name, from, to string }{
		{"a known Outdated peer is remembered", "Primary/Secondary WFConnection UpToDate/Outdated", "Primary/Unknown WFConnection UpToDate/Outdated"},
		{"an UpToDate one is not", "Primary/Secondary WFConnection UpToDate/UpToDate", "Primary/Unknown WFConnection UpToDate/DUnknown"},
		{"nor a diskless one", "Primary/Secondary Timeout UpToDate/Diskless", "Primary/Unknown Timeout UpToDate/DUnknown"},
		{"own disk fails as source", "Primary/Secondary WFBitMapS Failed/Consistent", "Primary/Secondary Connected Failed/Outdated"},
		{"own disk fails as target", "Secondary/Primary SyncTarget Failed/UpToDate", "Secondary/Primary Connected Failed/UpToDate"},
		{"the source's disk fails", "Secondary/Primary WFBitMapT Outdated/Failed", "Secondary/Primary Connected Outdated/Failed"},
		{"compared and good", "Secondary/Primary Connected Outdated/UpToDate", "Secondary/Primary Connected UpToDate/UpToDate"},
		{"nothing to compare with", "Secondary/Secondary Connected Outdated/Diskless", "Secondary/Secondary Connected Outdated/Diskless"},
		{"not compared yet", "Secondary/Secondary Connected Negotiating/Outdated", "Secondary/Secondary Connected Negotiating/Outdated"},
		{"a target that was Inconsistent stays so", "Secondary/Primary WFBitMapT Inconsistent/UpToDate", "Secondary/Primary WFBitMapT Inconsistent/UpToDate"},
		{"a target that was good is Outdated", "Secondary/Primary WFBitMapT UpToDate/UpToDate", "Secondary/Primary WFBitMapT Outdated/UpToDate"},
		{"pause", "Primary/Secondary SyncSource UpToDate/Inconsistent peer_isp", "Primary/Secondary PausedSyncS UpToDate/Inconsistent peer_isp"},
		{"resume", "Secondary/Primary PausedSyncT Outdated/UpToDate", "Secondary/Primary SyncTarget Inconsistent/UpToDate"},
		{"unconfigured", "Secondary/Unknown StandAlone Diskless/DUnknown aftr_isp", "Secondary/Unknown StandAlone Diskless/DUnknown"},
	} {
		if got := parseState(t, tc.from).Sanitise(); got != parseState(t, tc.to) {
			t.Errorf("%s: %s becomes %v, want %s", tc.name, tc.from, got, tc.to)
		}
	}
}
