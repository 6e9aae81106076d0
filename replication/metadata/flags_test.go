package metadata

import "testing"

// The situations of docs/drbd-metadata.md 1.3 and the flags seen in them.
func TestRecalculateTypicalValues(t *testing.T) {
	good := Situation{DiskAboveInconsistent: true, DiskAboveOutdated: true}
	with := func(s Situation, change func(*Situation)) Situation { change(&s); return s }
	primary := with(good, func(s *Situation) { s.Primary = true })
	for _, c := range []struct {
		name string
		s    Situation
		want Flags
	}{
		{"first attach", Situation{}, 0x000},
		{"connected, both fresh", Situation{HandshakeDone: true, PeerOutdated: true}, 0x024},
		{"Secondary, connected", with(good, func(s *Situation) { s.HandshakeDone = true }), 0x015},
		{"Primary, connected", with(primary, func(s *Situation) { s.HandshakeDone = true }), 0x017},
		{"Primary, alone", primary, 0x013},
		{"Secondary, alone", good, 0x011},
		{"SyncSource", with(primary, func(s *Situation) { s.HandshakeDone, s.PeerOutdated = true, true }), 0x037},
		{"SyncTarget", Situation{HandshakeDone: true}, 0x004},
		{"Outdated, alone", Situation{DiskAboveInconsistent: true}, 0x001},
		{"crashed Primary, alone", with(good, func(s *Situation) { s.CrashedPrimary = true }), 0x051},
		{"crashed Primary as SyncSource", with(good, func(s *Situation) { s.CrashedPrimary, s.HandshakeDone, s.PeerOutdated = true, true, true }), 0x075},
	} {
		if got := (ALClean | Consistent | PrimaryInd | CrashedPrimary).Recalculate(c.s); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, uint32(got), uint32(c.want))
		}
		if got := (FullSync | ALDisabled).Recalculate(c.s); got != c.want|0x108 {
			t.Errorf("%s: %#x, FULL_SYNC and AL_DISABLED are not the state's to change", c.name, uint32(got))
		}
	}
}

func TestFlagsString(t *testing.T) {
	if got := Flags(0x91).String(); got != "CONSISTENT|WAS_UP_TO_DATE|AL_CLEAN" {
		t.Error(got)
	}
	if got := Flags(0).String(); got != "" {
		t.Errorf("no flags: %q", got)
	}
}

// The driver's results of docs/drbd-metadata.md 6.2.
func TestStateAtAttach(t *testing.T) {
	for _, c := range []struct {
		flags      Flags
		disk, peer DiskState
		crashed    bool
		all        bool
	}{
		{0, DiskInconsistent, DiskUnknown, false, false},
		{Consistent, DiskOutdated, DiskUnknown, false, false},
		{Consistent | WasUpToDate, DiskUpToDate, DiskUnknown, false, false},
		{Consistent | WasUpToDate | PeerOutdated, DiskUpToDate, DiskOutdated, false, false},
		{Consistent | PeerOutdated, DiskOutdated, DiskOutdated, false, false},
		{WasUpToDate, DiskInconsistent, DiskUnknown, false, false},
		{Consistent | WasUpToDate | PrimaryInd, DiskUpToDate, DiskUnknown, true, false},
		{Consistent | WasUpToDate | FullSync, DiskUpToDate, DiskUnknown, false, true},
		{Consistent | WasUpToDate | CrashedPrimary, DiskUpToDate, DiskUnknown, true, false},
		{Consistent | WasUpToDate | CrashedPrimary | ALDisabled, DiskUpToDate, DiskUnknown, true, true},
		{Consistent | WasUpToDate | ALDisabled, DiskUpToDate, DiskUnknown, false, false},
	} {
		got := c.flags.AtAttach(Attach{})
		if got.Disk != c.disk || got.Peer != c.peer || got.CrashedPrimary != c.crashed || got.AllOutOfSync != c.all {
			t.Errorf("%v: %+v", c.flags, got)
		}
	}
	good := Consistent | WasUpToDate
	if got := good.AtAttach(Attach{FencingEnabled: true}); got.Disk != DiskConsistent {
		t.Errorf("with fencing: %v", got.Disk)
	}
	if got := (good | PeerOutdated).AtAttach(Attach{FencingEnabled: true}); got.Disk != DiskUpToDate {
		t.Errorf("with fencing and a peer known worse: %v", got.Disk)
	}
	if got := (good | PrimaryInd).AtAttach(Attach{PrimaryNow: true, FrozenNoData: true}); got.CrashedPrimary || got.Degraded {
		t.Errorf("a frozen Primary that attaches again has not crashed: %+v", got)
	}
	if got := (good | PrimaryInd).AtAttach(Attach{}); !got.Degraded {
		t.Error("PRIMARY_IND without CONNECTED_IND is a degraded start")
	}
	if got := (good | PrimaryInd | ConnectedInd).AtAttach(Attach{}); got.Degraded {
		t.Error("CONNECTED_IND and a degraded start")
	}
}

// The rows of docs/drbd-metadata.md 7.1; sizes in any unit.
func TestEffectiveSize(t *testing.T) {
	for _, c := range []struct {
		name                        string
		own, peer, agreed, user, is int64
	}{
		{"fresh, alone", 100, 0, 0, 0, 100},
		{"both known", 100, 80, 0, 0, 80},
		{"both known, agreed before on less", 100, 90, 80, 0, 90},
		{"peer unknown: the last agreed size", 100, 0, 80, 0, 80},
		{"own shrunk", 70, 0, 80, 0, 70},
		{"diskless, peer known", 0, 80, 0, 0, 80},
		{"diskless, agreed", 0, 90, 80, 0, 80},
		{"user smaller", 100, 80, 80, 50, 50},
		{"user equal", 100, 80, 80, 80, 80},
		{"user larger is ignored", 100, 80, 80, 90, 80},
		{"nothing known", 0, 0, 0, 0, 0},
	} {
		if got := EffectiveSize(c.own, c.peer, c.agreed, c.user); got != c.is {
			t.Errorf("%s: %d, want %d", c.name, got, c.is)
		}
	}
}
