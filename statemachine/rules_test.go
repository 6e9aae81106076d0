package statemachine

import (
	"errors"
	"testing"
)

// TestValidate has one case of every rule, in the order of docs/drbd-wire.md 14.3, and one more
// where the old state is as bad.
func TestValidate(t *testing.T) {
	const good = "Secondary/Secondary Connected UpToDate/UpToDate"
	fencing := Rules{Fencing: ResourceOnly}
	for _, tc := range []struct {
		old, next string
		r         Rules
		want      error
	}{
		{good, "Primary/Secondary Connected UpToDate/UpToDate", Rules{}, nil},
		{"Secondary/Primary Connected UpToDate/UpToDate", "Primary/Primary Connected UpToDate/UpToDate", Rules{}, TwoPrimaries},
		{"Secondary/Primary Connected UpToDate/UpToDate", "Primary/Primary Connected UpToDate/UpToDate", Rules{TwoPrimaries: true}, nil},
		{good, "Primary/Secondary Connected UpToDate/UpToDate", Rules{OtherPeerPrimary: true}, OtherVolumePeerPrimary},
		{"Primary/Secondary Connected UpToDate/UpToDate", good, Rules{Open: true}, DeviceInUse},
		{"Secondary/Unknown WFConnection Outdated/DUnknown", "Primary/Unknown WFConnection Outdated/DUnknown", Rules{}, NoUpToDateDisk},
		{"Primary/Secondary Connected UpToDate/UpToDate", "Primary/Unknown Disconnecting UpToDate/DUnknown", fencing, PrimaryNOP},
		{"Primary/Secondary Connected UpToDate/UpToDate", "Primary/Unknown Disconnecting UpToDate/Outdated", fencing, nil},
		{"Secondary/Secondary Connected Inconsistent/Inconsistent", "Primary/Secondary Connected Inconsistent/Inconsistent", Rules{}, NoUpToDateDisk},
		{good, "Secondary/Secondary WFBitMapS Negotiating/Consistent", Rules{}, NoLocalDisk},
		{good, "Secondary/Secondary WFBitMapS UpToDate/Negotiating", Rules{}, NoRemoteDisk},
		{good, "Secondary/Secondary WFBitMapT Outdated/Outdated", Rules{}, NoUpToDateDisk},
		{good, "Secondary/Secondary Connected Outdated/Inconsistent", Rules{}, ConnectedOutdates},
		{good, "Secondary/Secondary VerifyS UpToDate/UpToDate", Rules{}, NoVerifyAlg},
		{good, "Secondary/Secondary VerifyS UpToDate/UpToDate", Rules{HaveVerifyAlg: true}, nil},
		{good, "Primary/Secondary Connected Outdated/Diskless", Rules{}, NoUpToDateDisk},
		{good, "Secondary/Unknown StartingSyncS UpToDate/DUnknown", Rules{}, NeedConnection},
		{"Secondary/Unknown WFReportParams UpToDate/DUnknown", "Secondary/Secondary Connected UpToDate/DUnknown", Rules{}, ConnectedOutdates},
		// As bad before as after.
		{"Primary/Unknown WFConnection Outdated/DUnknown", "Primary/Unknown Unconnected Outdated/DUnknown", Rules{}, nil},

		{"Secondary/Secondary SyncSource UpToDate/Inconsistent", "Secondary/Secondary StartingSyncS UpToDate/Consistent", Rules{}, ResyncRunning},
		{"Secondary/Unknown StandAlone UpToDate/DUnknown", "Secondary/Unknown Disconnecting UpToDate/DUnknown", Rules{}, AlreadyStandAlone},
		{"Secondary/Unknown StandAlone Diskless/DUnknown", "Secondary/Unknown StandAlone Failed/DUnknown", Rules{}, IsDiskless},
		{"Secondary/Unknown StandAlone Inconsistent/DUnknown", "Secondary/Unknown StandAlone Outdated/DUnknown", Rules{}, LowerThanOutdated},
		{"Secondary/Unknown StandAlone Attaching/DUnknown", "Secondary/Unknown StandAlone Outdated/DUnknown", Rules{}, nil},
		{"Secondary/Unknown Unconnected UpToDate/DUnknown", "Secondary/Unknown Disconnecting UpToDate/DUnknown", Rules{}, InTransientState},
		{"Secondary/Unknown WFReportParams UpToDate/DUnknown", "Primary/Unknown WFReportParams UpToDate/DUnknown", Rules{Handshaking: true}, InTransientState},
		{"Secondary/Unknown WFReportParams UpToDate/DUnknown", "Secondary/Secondary Connected UpToDate/UpToDate", Rules{Handshaking: true}, nil},
		{good, "Primary/Secondary Connected UpToDate/UpToDate", Rules{ConsiderResync: true}, InTransientState},
		{"Secondary/Unknown WFConnection UpToDate/DUnknown", "Secondary/Secondary VerifyS UpToDate/UpToDate", Rules{HaveVerifyAlg: true}, NeedConnection},
		{"Secondary/Secondary SyncSource UpToDate/Inconsistent", "Secondary/Secondary VerifyS UpToDate/UpToDate", Rules{HaveVerifyAlg: true}, ResyncRunning},
		{"Secondary/Unknown WFConnection UpToDate/DUnknown", "Secondary/Secondary StartingSyncS UpToDate/Consistent", Rules{}, NeedConnection},
		{"Secondary/Unknown WFConnection UpToDate/DUnknown", "Secondary/Secondary SyncSource UpToDate/Inconsistent", Rules{}, NeedConnection},
		{"Primary/Unknown WFConnection UpToDate/DUnknown", "Primary/Unknown Disconnecting UpToDate/Outdated", fencing, OutdateWithoutPeer},
	} {
		if got := Validate(parseState(t, tc.old), parseState(t, tc.next), tc.r); got != tc.want {
			t.Errorf("%s -> %s: %v, want %v", tc.old, tc.next, got, tc.want)
		}
	}
}

// TestLegal has the rules of docs/drbd-wire.md 14.2 that no table of edges shows.
func TestLegal(t *testing.T) {
	for _, tc := range []struct {
		old, next string
		legal     bool
	}{
		{"Secondary/Unknown StandAlone UpToDate/DUnknown", "Secondary/Unknown Unconnected UpToDate/DUnknown", true},
		{"Secondary/Unknown StandAlone UpToDate/DUnknown", "Secondary/Unknown WFConnection UpToDate/DUnknown", false},
		{"Secondary/Unknown WFConnection UpToDate/DUnknown", "Secondary/Secondary Connected UpToDate/UpToDate", false},
		{"Secondary/Unknown Timeout UpToDate/DUnknown", "Secondary/Unknown BrokenPipe UpToDate/DUnknown", false},
		{"Secondary/Unknown Disconnecting UpToDate/DUnknown", "Secondary/Unknown Unconnected UpToDate/DUnknown", false},
		{"Secondary/Unknown StandAlone Diskless/DUnknown", "Secondary/Unknown StandAlone Failed/DUnknown", false},
		{"Secondary/Secondary VerifyS UpToDate/UpToDate", "Secondary/Secondary SyncSource UpToDate/Inconsistent", false},
		{"Secondary/Secondary VerifyS UpToDate/UpToDate", "Secondary/Secondary Connected UpToDate/UpToDate", true},
	} {
		err := Legal(parseState(t, tc.old), parseState(t, tc.next))
		var illegal *IllegalTransition
		if legal := err == nil; legal != tc.legal || !legal && !errors.As(err, &illegal) {
			t.Errorf("%s -> %s: %v", tc.old, tc.next, err)
		}
	}
}

// TestRefusalCodes holds the numbers of docs/drbd-wire.md 1.
func TestRefusalCodes(t *testing.T) {
	for code := int32(-21); code <= -1; code++ {
		why, known := refusalOf[code]
		if known != (code != -3) {
			t.Errorf("code %d: %q", code, why)
		}
		if known && why.RefusalCode() != code {
			t.Errorf("%q has code %d, want %d", why, why.RefusalCode(), code)
		}
	}
	if SplitBrain.RefusalCode() != CodeUnknown {
		t.Error("a refusal of this package alone has a code")
	}
	for code, want := range map[int32]bool{4: true, 3: true, 2: true, 1: true, 0: false, -1: false, -19: false} {
		if Consents(code) != want {
			t.Errorf("Consents(%d) = %v", code, !want)
		}
	}
	err := error(&PeerRefusal{-1})
	if !errors.Is(err, RefusedByPeer) || errors.Is(err, TwoPrimaries) {
		t.Errorf("%v is taken for a refusal of this node", err)
	}
}
