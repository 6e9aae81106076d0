package statemachine

import (
	"errors"
	"strings"
	"testing"
)

// parted are two nodes in split brain, in rule 90.
func parted() HandshakeInput {
	return HandshakeInput{
		Self: UUIDs{0x100, 0x300, [2]uint64{}}, SelfBits: 5,
		Peer: PeerUUIDs{UUIDs: UUIDs{0x200, 0x300, [2]uint64{}}, Bits: 7},
		Role: Secondary, PeerRole: Secondary, Disk: UpToDate, DiskNow: UpToDate, PeerDisk: UpToDate,
		FeatureWSame: true,
	}
}

// mirrored is the same meeting as the other node sees it.
func (in HandshakeInput) mirrored() HandshakeInput {
	m := in
	m.Self, m.Peer.UUIDs, m.SelfBits, m.Peer.Bits = in.Peer.UUIDs, in.Self, in.Peer.Bits, in.SelfBits
	m.Role, m.PeerRole, m.Disk, m.PeerDisk, m.DiskNow = in.PeerRole, in.Role, in.PeerDisk, in.Disk, in.PeerDisk
	m.DryRun, m.PeerDryRun, m.ResolveConflicts = in.PeerDryRun, in.DryRun, !in.ResolveConflicts
	m.DiscardMy, m.Crashed = in.Peer.Flags&FlagDiscardMyData != 0, in.Peer.Flags&FlagCrashedPrimary != 0
	m.Peer.Flags = 0
	if in.DiscardMy {
		m.Peer.Flags |= FlagDiscardMyData
	}
	if in.Crashed {
		m.Peer.Flags |= FlagCrashedPrimary
	}
	swap := map[SplitBrainPolicy]SplitBrainPolicy{SBDiscardLocal: SBDiscardRemote, SBDiscardRemote: SBDiscardLocal}
	if other, ok := swap[in.Policies.ZeroPri]; ok {
		m.Policies.ZeroPri = other
	}
	return m
}

// TestHandshakeSteps has one case of each step of docs/drbd-wire.md 9.3, in its order.
func TestHandshakeSteps(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*HandshakeInput)
		target Conn // StandAlone: fails
		full   bool
		reason Refusal
	}{
		{"nothing to do", func(in *HandshakeInput) { in.Peer.UUIDs = in.Self }, Connected, false, ""},
		{"1 unrelated", func(in *HandshakeInput) {
			in.Self, in.Peer.UUIDs = UUIDs{0x100, 0, [2]uint64{0x10, 0x20}}, UUIDs{0x200, 0, [2]uint64{0x30, 0x40}}
		}, StandAlone, false, UnrelatedData},
		{"1 too old", func(in *HandshakeInput) {
			in.Peer.UUIDs, in.Crashed, in.Role, in.FeatureWSame = in.Self, true, Primary, false
		}, StandAlone, false, NeedsNewerPeer},
		{"2 the Inconsistent one is the target", func(in *HandshakeInput) { in.Peer.UUIDs, in.Disk, in.DiskNow = in.Self, Inconsistent, Inconsistent }, WFBitMapT, false, ""},
		{"2 whatever the generations say", func(in *HandshakeInput) {
			in.Peer.UUIDs, in.Disk, in.DiskNow = UUIDs{Current: in.Self.Bitmap}, Inconsistent, Inconsistent
		}, WFBitMapT, false, ""},
		{"2 also in split brain", func(in *HandshakeInput) { in.PeerDisk = Inconsistent }, WFBitMapS, false, ""},
		{"2 the whole disk, if they said so", func(in *HandshakeInput) {
			in.Peer.UUIDs, in.PeerDisk = UUIDs{Current: JustCreated}, Inconsistent
		}, WFBitMapS, true, ""},
		{"3 split brain, nobody decides", func(*HandshakeInput) {}, StandAlone, false, SplitBrain},
		{"3 a policy decides", func(in *HandshakeInput) { in.Policies.ZeroPri = SBDiscardLeastChanges }, WFBitMapT, false, ""},
		{"3 not of an old split", func(in *HandshakeInput) {
			in.Self.Bitmap, in.Policies.ZeroPri = 0, SBDiscardLeastChanges
		}, StandAlone, false, SplitBrain},
		{"3 unless always-asbp, and then everything", func(in *HandshakeInput) {
			in.Self.Bitmap, in.Policies.ZeroPri, in.Policies.Always = 0, SBDiscardLeastChanges, true
		}, WFBitMapT, true, ""},
		{"4 discard mine", func(in *HandshakeInput) { in.DiscardMy = true }, WFBitMapT, false, ""},
		{"4 discard the peer's", func(in *HandshakeInput) { in.Peer.Flags = FlagDiscardMyData }, WFBitMapS, false, ""},
		{"4 both", func(in *HandshakeInput) { in.DiscardMy, in.Peer.Flags = true, FlagDiscardMyData }, StandAlone, false, SplitBrain},
		{"6 an Inconsistent source", func(in *HandshakeInput) {
			in.Peer.UUIDs, in.Disk, in.DiskNow, in.PeerDisk = UUIDs{Current: in.Self.Bitmap}, Inconsistent, Inconsistent, Inconsistent
		}, StandAlone, false, SourceInconsistent},
		{"7 a Primary as target", func(in *HandshakeInput) { in.Peer.UUIDs.Bitmap, in.Role = in.Self.Current, Primary }, StandAlone, false, PrimaryWouldBeTarget},
		{"7 whose disk is Outdated anyway", func(in *HandshakeInput) {
			in.Peer.UUIDs.Bitmap, in.Role, in.Disk, in.DiskNow = in.Self.Current, Primary, Outdated, Outdated
		}, WFBitMapT, false, ""},
		{"7 violently", func(in *HandshakeInput) {
			in.Peer.UUIDs.Bitmap, in.Role, in.Policies.RRConflict = in.Self.Current, Primary, RRViolently
		}, WFBitMapT, false, ""},
		{"8 dry run", func(in *HandshakeInput) { in.Peer.UUIDs, in.DryRun = in.Self, true }, StandAlone, false, DryRun},
		{"9 everything", func(in *HandshakeInput) { in.Self = UUIDs{Current: JustCreated} }, WFBitMapT, true, ""},
		{"10 by the bitmap", func(in *HandshakeInput) { in.Peer.UUIDs = UUIDs{Current: in.Self.Bitmap} }, WFBitMapS, false, ""},
	} {
		in := parted()
		tc.change(&in)
		d := Handshake(in)
		if d.Target != tc.target || d.FullSync != tc.full || !d.Made() {
			t.Errorf("%s: %+v", tc.name, d)
		}
		if (d.Err == nil) != (tc.reason == "") || d.Err != nil && !errors.Is(d.Err, tc.reason) {
			t.Errorf("%s: %v, want %q", tc.name, d.Err, tc.reason)
		}
	}
}

// TestMissedEndIsKept: a Source that missed the end of a resync has its bitmap UUID until the next begins. A second
// handshake comes to the same, and in the end both have what they would have had.
func TestMissedEndIsKept(t *testing.T) {
	in := parted()
	in.Self = UUIDs{0x100, 0x200, [2]uint64{0x300, 0x400}}
	in.Peer.UUIDs = UUIDs{0x100, 0, [2]uint64{0x200, 0x300}}
	for range 2 {
		d := Handshake(in)
		if d.Rule != 34 || d.Target != WFBitMapS || d.Self != in.Self || d.MissedEnd != 0x200 {
			t.Fatalf("%+v", d)
		}
		in.Self = d.Self
	}
	want := UUIDs{0x100, 0, [2]uint64{0x200, 0x300}}
	if u := in.Self.CatchUp(0x200); u != want || u.CatchUp(0x200) != want || in.Self.CatchUp(0) != in.Self {
		t.Errorf("caught up: %v, want %v", u, want)
	}
}

// TestHandshakeErrorShowsBoth: who has to choose has to see what there is.
func TestHandshakeErrorShowsBoth(t *testing.T) {
	in := parted()
	text := Handshake(in).Err.Error()
	for _, want := range []string{in.Self.String(), in.Peer.UUIDs.String(), "rule 90", "split brain"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
	in.Peer.UUIDs, in.PeerDryRun = in.Self, true
	if d := Handshake(in); d.drop() != ProtocolError {
		t.Errorf("the peer's dry run ends in %v", d.drop())
	}
	in.DryRun = true
	if d := Handshake(in); d.drop() != Disconnecting {
		t.Errorf("the own dry run ends in %v", d.drop())
	}
}

// TestSplitBrainPolicies has the tables of docs/drbd-wire.md 9.4.
func TestSplitBrainPolicies(t *testing.T) {
	const none = resultSplitBrain
	type in = HandshakeInput
	older := func(x *in) { x.Self.Bitmap |= RoleBit }
	younger := func(x *in) { x.Peer.Bitmap |= RoleBit }
	bits := func(mine, theirs uint64) func(*in) {
		return func(x *in) { x.SelfBits, x.Peer.Bits = mine, theirs }
	}
	rc := func(mine, theirs uint64) func(*in) {
		return func(x *in) { bits(mine, theirs)(x); x.ResolveConflicts = true }
	}
	for _, tc := range []struct {
		policy SplitBrainPolicy
		change func(*in)
		want   int
	}{
		{SBDisconnect, bits(0, 9), none},
		{SBDiscardYoungerPrimary, older, 1}, {SBDiscardYoungerPrimary, younger, -1},
		{SBDiscardYoungerPrimary, bits(9, 3), 1}, {SBDiscardYoungerPrimary, bits(0, 3), -1}, {SBDiscardYoungerPrimary, rc(3, 3), -1},
		{SBDiscardOlderPrimary, older, -1}, {SBDiscardOlderPrimary, younger, 1}, {SBDiscardOlderPrimary, bits(3, 9), -1},
		{SBDiscardZeroChanges, bits(0, 0), 1}, {SBDiscardZeroChanges, rc(0, 0), -1},
		{SBDiscardZeroChanges, bits(3, 0), 1}, {SBDiscardZeroChanges, bits(0, 3), -1}, {SBDiscardZeroChanges, bits(3, 4), none},
		{SBDiscardLeastChanges, bits(3, 4), -1}, {SBDiscardLeastChanges, bits(4, 3), 1},
		{SBDiscardLeastChanges, bits(4, 4), 1}, {SBDiscardLeastChanges, rc(4, 4), -1},
		{SBDiscardLocal, bits(9, 0), -1}, {SBDiscardRemote, bits(0, 9), 1},
		{SBConsensus, bits(0, 9), none}, {SBDiscardSecondary, bits(0, 9), none}, {SBCallPriLost, bits(0, 9), none}, {SBViolently, bits(0, 9), none},
	} {
		x := parted()
		tc.change(&x)
		if got, demote := (SplitBrainPolicies{ZeroPri: tc.policy}).decide(x); got != tc.want || demote {
			t.Errorf("0pri %d, %+v: %d, want %d", tc.policy, x, got, tc.want)
		}
	}
	for _, tc := range []struct {
		policies  SplitBrainPolicies
		own, peer Role
		want      int
		demote    bool
	}{
		{SplitBrainPolicies{OnePri: SBDisconnect, ZeroPri: SBDiscardLocal}, Primary, Secondary, none, false},
		{SplitBrainPolicies{OnePri: SBConsensus, ZeroPri: SBDiscardLocal}, Secondary, Primary, -1, false},
		{SplitBrainPolicies{OnePri: SBConsensus, ZeroPri: SBDiscardLocal}, Primary, Secondary, none, false},
		{SplitBrainPolicies{OnePri: SBConsensus, ZeroPri: SBDiscardRemote}, Primary, Secondary, 1, false},
		{SplitBrainPolicies{OnePri: SBConsensus, ZeroPri: SBDiscardRemote}, Secondary, Primary, none, false},
		{SplitBrainPolicies{OnePri: SBViolently, ZeroPri: SBDiscardLocal}, Primary, Secondary, -1, false},
		{SplitBrainPolicies{OnePri: SBDiscardSecondary}, Primary, Secondary, 1, false},
		{SplitBrainPolicies{OnePri: SBDiscardSecondary}, Secondary, Primary, -1, false},
		{SplitBrainPolicies{OnePri: SBCallPriLost, ZeroPri: SBDiscardLocal, CanDemote: true}, Primary, Secondary, -1, true},
		{SplitBrainPolicies{OnePri: SBCallPriLost, ZeroPri: SBDiscardLocal}, Primary, Secondary, none, false},
		{SplitBrainPolicies{OnePri: SBCallPriLost, ZeroPri: SBDiscardLocal}, Secondary, Primary, -1, false},
		{SplitBrainPolicies{OnePri: SBDiscardYoungerPrimary}, Primary, Secondary, none, false},
		{SplitBrainPolicies{TwoPri: SBDisconnect, ZeroPri: SBDiscardLocal}, Primary, Primary, none, false},
		{SplitBrainPolicies{TwoPri: SBViolently, ZeroPri: SBDiscardLocal}, Primary, Primary, -1, false},
		{SplitBrainPolicies{TwoPri: SBCallPriLost, ZeroPri: SBDiscardLocal, CanDemote: true}, Primary, Primary, -1, true},
		{SplitBrainPolicies{TwoPri: SBCallPriLost, ZeroPri: SBDiscardLocal}, Primary, Primary, none, false},
		{SplitBrainPolicies{TwoPri: SBCallPriLost, ZeroPri: SBDiscardRemote}, Primary, Primary, 1, false},
		{SplitBrainPolicies{TwoPri: SBConsensus, ZeroPri: SBDiscardLocal}, Primary, Primary, none, false},
	} {
		x := parted()
		x.Role, x.PeerRole = tc.own, tc.peer
		if got, demote := tc.policies.decide(x); got != tc.want || demote != tc.demote {
			t.Errorf("%+v as %v of %v: %d %v, want %d %v", tc.policies, tc.own, tc.peer, got, demote, tc.want, tc.demote)
		}
	}
}

// TestHandshakeMirrors: under every policy both nodes come to mirrored decisions, or both to none.
func TestHandshakeMirrors(t *testing.T) {
	healed := 0
	for zero := SBDisconnect; zero <= SBViolently; zero++ {
		for one := SBDisconnect; one <= SBViolently; one++ {
			for bits := range 128 {
				is := func(n int) bool { return bits>>n&1 == 1 }
				in := parted()
				in.Policies = SplitBrainPolicies{ZeroPri: zero, OnePri: one, TwoPri: one, CanDemote: true}
				in.Role, in.PeerRole = []Role{Secondary, Primary}[bits&1], []Role{Secondary, Primary}[bits>>1&1]
				in.ResolveConflicts, in.DiscardMy = is(2), is(3)
				in.Self.Bitmap |= uint64(bits >> 4 & 1)
				in.Peer.Bitmap |= uint64(bits >> 5 & 1)
				if is(6) {
					in.SelfBits = 0
				}
				mine, theirs := Handshake(in), Handshake(in.mirrored())
				if mine.Result == resultSplitBrain || theirs.Result == resultSplitBrain {
					if mine.Result != theirs.Result {
						t.Fatalf("%+v\none decides %+v, the other %+v", in, mine, theirs)
					}
					continue
				}
				if mine.Result != -theirs.Result || mine.FullSync != theirs.FullSync {
					t.Fatalf("%+v\none decides %+v, the other %+v", in, mine, theirs)
				}
				healed++
			}
		}
	}
	if healed == 0 {
		t.Error("no policy decided anything")
	}
}
