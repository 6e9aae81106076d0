package statemachine

import "testing"

// TestGates has the states of docs/drbd-wire.md 17.2, with what is stricter here.
func TestGates(t *testing.T) {
	const hw, hr, rl, rr, rep, oos = "holds writes", "holds reads", "reads locally", "reads remotely", "replicates", "notes"
	for _, tc := range []struct {
		state string
		is    []string
	}{
		{"Primary/Unknown StandAlone UpToDate/DUnknown", []string{rl}},
		{"Primary/Unknown WFReportParams UpToDate/DUnknown", []string{rl}},
		{"Primary/Secondary Connected UpToDate/UpToDate", []string{rl, rr, rep}},
		{"Primary/Secondary Connected UpToDate/Inconsistent", []string{rl}},
		{"Primary/Secondary Connected Diskless/UpToDate", []string{rr, rep}},
		{"Primary/Secondary Connected Attaching/UpToDate", []string{hw, hr, rr, rep}},
		{"Primary/Secondary Connected Negotiating/UpToDate", []string{hw, hr, rr, rep}},
		{"Primary/Secondary StartingSyncS UpToDate/Consistent", []string{hw, rl}},
		{"Primary/Secondary StartingSyncT Inconsistent/UpToDate", []string{hw, hr, rr, rep}},
		{"Primary/Secondary WFBitMapS UpToDate/Consistent", []string{hw, rl, oos}},
		{"Primary/Secondary WFBitMapT Outdated/UpToDate", []string{hw, hr, rr, rep}},
		{"Primary/Secondary WFSyncUUID Outdated/UpToDate", []string{hw, hr, rr, rep}},
		{"Primary/Secondary SyncSource UpToDate/Inconsistent", []string{rl, rep}},
		{"Primary/Secondary PausedSyncS UpToDate/Inconsistent user_isp", []string{rl, rep}},
		{"Primary/Secondary SyncTarget Inconsistent/UpToDate", []string{rr, rep}},
		{"Primary/Secondary PausedSyncT Inconsistent/UpToDate user_isp", []string{rr, rep}},
		{"Primary/Secondary VerifyS UpToDate/UpToDate", []string{rl, rr, rep}},
		{"Primary/Secondary Ahead UpToDate/Consistent", []string{rl, oos}},
		{"Primary/Secondary Behind Outdated/UpToDate", []string{rr, rep}},
		{"Primary/Secondary Connected UpToDate/UpToDate susp", []string{hw, hr, rl, rr, rep}},
		{"Primary/Unknown Timeout UpToDate/DUnknown susp_fen", []string{hw, hr, rl}},
	} {
		s := parseState(t, tc.state)
		if s != s.Sanitise() {
			t.Errorf("%s: cannot be", tc.state)
		}
		want := map[string]bool{}
		for _, name := range tc.is {
			want[name] = true
		}
		for name, got := range map[string]bool{hw: s.HoldsWrites(), hr: s.HoldsReads(), rl: s.ReadsLocally(),
			rr: s.ReadsRemotely(), rep: s.ReplicatesData(), oos: s.SendsOutOfSync()} {
			if got != want[name] {
				t.Errorf("%s: %s is %v", tc.state, name, got)
			}
		}
	}
}

// TestGatesAgree holds what the gates promise each other in every state there is.
func TestGatesAgree(t *testing.T) {
	eachState(func(s State) {
		s = s.Sanitise()
		switch {
		case s.HoldsReads() && !s.HoldsWrites():
			t.Fatalf("%v: reads are held and writes are not", s)
		case s.ReplicatesData() && s.SendsOutOfSync():
			t.Fatalf("%v: data and notes", s)
		case (s.ReplicatesData() || s.SendsOutOfSync() || s.ReadsRemotely()) && !s.Conn.Established():
			t.Fatalf("%v: sends without a peer", s)
		case s.Conn.BitmapExchange() && !s.HoldsWrites():
			t.Fatalf("%v: a write gets in between the bitmaps", s)
		case s.MaySetInSync() != (s.Conn.Syncing() || s.Conn.Verifying()):
			t.Fatalf("%v: MaySetInSync", s)
		case s.Conn.Syncing() && !s.ReplicatesData():
			t.Fatalf("%v: a write during resync is not replicated", s)
		}
	})
}
