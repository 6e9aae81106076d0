package statemachine

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestChangeWords reads the named changes back: what they are called is what they say.
func TestChangeWords(t *testing.T) {
	s := State{Role: Secondary, Peer: Secondary, Conn: Connected, Disk: Inconsistent, PeerDisk: UpToDate, UserISP: true}
	for _, tc := range []struct {
		name string
		c    Change
		want func(*State)
	}{
		{"promote", PromoteChange, func(s *State) { s.Role = Primary }},
		{"forced promote", ForcedPromoteChange, func(s *State) { s.Role, s.Disk = Primary, UpToDate }},
		{"invalidate", StartingSyncTChange, func(s *State) { s.Conn = StartingSyncT }},
		{"invalidate-remote", StartingSyncSChange, func(s *State) { s.Conn = StartingSyncS }},
		{"verify", VerifyChange, func(s *State) { s.Conn = VerifyS }},
		{"detach", DetachChange, func(s *State) { s.Disk = Failed }},
		{"remove", RemoveVolumeChange, func(s *State) { s.Conn = WFReportParams }},
		{"disconnect", DisconnectChange, func(s *State) { s.Conn = Disconnecting }},
		{"disconnect, peer outdated", DisconnectPeerChange, func(s *State) { s.Conn, s.PeerDisk = Disconnecting, Outdated }},
		{"disconnect, self outdated", DisconnectSelfChange, func(s *State) { s.Conn, s.Disk = Disconnecting, Outdated }},
	} {
		want := s
		tc.want(&want)
		if got := tc.c.Apply(s); got != want {
			t.Errorf("%s: %v, want %v", tc.name, got, want)
		}
		if !tc.c.Mirror().grantable() {
			t.Errorf("%s: nobody would grant it", tc.name)
		}
		if tc.c.grantable() && !tc.c.Mirror().isOneOf(requests) {
			t.Errorf("%s: granted without having been mirrored", tc.name)
		}
	}
}

func (c Change) isOneOf(all []Change) bool { return slices.Contains(all, c) }

// TestMirror holds the conversion of docs/drbd-wire.md 8.1.
func TestMirror(t *testing.T) {
	for _, tc := range []struct{ from, to Change }{
		{PromoteChange, Change{0xC, 0x4}},
		{ForcedPromoteChange, Change{0x1E00C, 0x10004}},
		{StartingSyncTChange, StartingSyncSChange},
		{StartingSyncSChange, StartingSyncTChange},
		{VerifyChange, Change{0x1F0, 0x130}},
		{DetachChange, Change{0x1E000, 0x4000}},
		{RemoveVolumeChange, RemoveVolumeChange},
		{DisconnectChange, Change{0x1F0, 0x70}},
		{DisconnectPeerChange, Change{0x1FF0, 0xA70}},
		{DisconnectSelfChange, Change{0x1E1F0, 0xA070}},
		{Change{0x1F0, 0xA0}, Change{0x1F0, 0xA0}},           // Connected
		{Change{0x1F0, 0x100}, Change{0x1F0, 0}},             // any other
		{Change{1 << 18, 1 << 18}, Change{3 << 18, 3 << 18}}, // aftr_isp stays, peer_isp follows
		{Change{1 << 20, 1 << 20}, Change{3 << 19, 3 << 19}}, // user_isp likewise
		{Change{1 << 19, 1 << 19}, Change{0, 0}},
		{Change{1 << 17, 1 << 17}, Change{1 << 17, 1 << 17}},
	} {
		if got := tc.from.Mirror(); got != tc.to {
			t.Errorf("%v mirrored is %v, want %v", tc.from, got, tc.to)
		}
	}
}

// TestMirrorTwice: roles and disks come back.
func TestMirrorTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const kept = maskRole | maskPeer | maskDisk | maskPeerDisk
		c := Change{rapid.Uint32().Draw(t, "mask"), rapid.Uint32().Draw(t, "val")}
		got := c.Mirror().Mirror()
		if got.Mask&kept != c.Mask&kept || got.Val&kept != c.Val&kept {
			t.Fatalf("%v becomes %v", c, got)
		}
	})
}

// TestGrantable tries every change of whole fields: only what docs/drbd-wire.md 14.1 lists may be asked for.
func TestGrantable(t *testing.T) {
	granted := map[Change]bool{}
	for fields := range 16 {
		var mask uint32
		for i, m := range []uint32{maskPeer, maskConn, maskDisk, maskPeerDisk} {
			if fields>>i&1 == 1 {
				mask |= m
			}
		}
		for val := range uint32(1 << 17) {
			if c := (Change{mask, val}); val&^mask == 0 && c.grantable() {
				granted[c] = true
			}
		}
	}
	want := map[Change]bool{}
	for _, c := range requests {
		want[c.Mirror()] = true
	}
	// Who leaves may outdate both sides at once; no node is known to ask for it.
	want[Change{maskConn | maskDisk | maskPeerDisk, uint32(TearDown)<<shiftConn | uint32(Outdated)<<shiftDisk | uint32(Outdated)<<shiftPeerDisk}] = true
	for c := range granted {
		if !want[c] {
			t.Errorf("%v would be granted: %v", c, FromWord(c.Val))
		}
	}
	for c := range want {
		if !granted[c] {
			t.Errorf("%v would not be granted", c)
		}
	}
}

// A disk that is being negotiated is worth what its metadata says, when the peer lets
// the connection go before it has said what it thinks.
func TestDisconnectWhileNegotiating(t *testing.T) {
	s := State{Role: Secondary, Peer: Primary, Conn: Connected, Disk: Negotiating, PeerDisk: UpToDate}
	next, _, err := s.Step(PeerReply{DisconnectChange, CodeSuccess}, Rules{Negotiated: Outdated})
	if err != nil || next.Conn != Disconnecting || next.Disk != Outdated {
		t.Errorf("%v, %v", next, err)
	}
}

// A disk that was to be compared with the good one of a Primary lacks what that has written, for all that is known: neither the loss of that disk, nor
// that of the peer, makes it good. One beside a Secondary is what its metadata says.
func TestComparisonThatNeverCame(t *testing.T) {
	for _, tc := range []struct {
		peer Role
		ev   Event
		want Disk
	}{
		{Primary, PeerState{Word: State{Role: Primary, Peer: Secondary, Conn: Connected, Disk: Failed, PeerDisk: Diskless}}, Outdated},
		{Primary, PeerState{Word: State{Role: Secondary, Peer: Secondary, Conn: Connected, Disk: Diskless, PeerDisk: Diskless}}, Outdated},
		{Primary, PeerLost{NetworkFailure}, Outdated},
		{Secondary, PeerState{Word: State{Role: Secondary, Peer: Secondary, Conn: Connected, Disk: Failed, PeerDisk: Diskless}}, UpToDate},
		{Secondary, PeerLost{NetworkFailure}, UpToDate},
	} {
		s := State{Role: Secondary, Peer: tc.peer, Conn: Connected, Disk: Negotiating, PeerDisk: UpToDate}
		next, _, err := s.Step(tc.ev, Rules{Negotiated: UpToDate})
		if err != nil || next.Disk != tc.want {
			t.Errorf("%v, %+v: %v, %v", s, tc.ev, next, err)
		}
	}
}

// The initial sync that runs already cannot be skipped: that, and not the connection, is
// what is in the way.
func TestSkipInitialSyncRefused(t *testing.T) {
	s := State{Role: Secondary, Peer: Secondary, Conn: SyncSource, Disk: UpToDate, PeerDisk: Inconsistent}
	for _, tc := range []struct {
		conn Conn
		want Refusal
	}{{SyncSource, ResyncRunning}, {StandAlone, NeedConnection}} {
		s.Conn = tc.conn
		if _, _, err := s.Step(SkipInitialSync{Fresh: true}, Rules{}); err != tc.want {
			t.Errorf("%v: %v, want %v", tc.conn, err, tc.want)
		}
	}
}
