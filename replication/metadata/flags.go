package metadata

import "strings"

// Flags is the flag word of the superblock. Source: docs/drbd-metadata.md 1.3.
type Flags uint32

const (
	Consistent     Flags = 0x001 // own disk was better than Inconsistent
	PrimaryInd     Flags = 0x002 // was Primary, or served a diskless Primary
	ConnectedInd   Flags = 0x004 // a handshake was done
	FullSync       Flags = 0x008 // every block counts as out of sync, the bitmap on disk is void
	WasUpToDate    Flags = 0x010 // own disk was better than Outdated
	PeerOutdated   Flags = 0x020 // the peer's disk was known Inconsistent or Outdated
	CrashedPrimary Flags = 0x040 // crashed as Primary and not fully redundant since
	ALClean        Flags = 0x080 // the activity log has been applied
	ALDisabled     Flags = 0x100 // no activity log is kept
)

var flagNames = []struct {
	flag Flags
	name string
}{
	{Consistent, "CONSISTENT"}, {PrimaryInd, "PRIMARY_IND"}, {ConnectedInd, "CONNECTED_IND"},
	{FullSync, "FULL_SYNC"}, {WasUpToDate, "WAS_UP_TO_DATE"}, {PeerOutdated, "PEER_OUT_DATED"},
	{CrashedPrimary, "CRASHED_PRIMARY"}, {ALClean, "AL_CLEAN"}, {ALDisabled, "AL_DISABLED"},
}

// String lists the names of the set flags, as "CONSISTENT|AL_CLEAN".
func (f Flags) String() string {
	var names []string
	for _, n := range flagNames {
		if f&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, "|")
}

// Has reports whether all flags of want are set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// Outdated is the flag word of a disk that newer data is known to exist of, elsewhere.
func (f Flags) Outdated() Flags { return f &^ WasUpToDate }

// Inconsistent is the flag word of a disk that lacks something and may have what came later.
func (f Flags) Inconsistent() Flags { return f &^ (Consistent | WasUpToDate) }

// A Situation is what the flags are recalculated from on every state change
// while the own disk is Inconsistent or better.
type Situation struct {
	DiskAboveInconsistent bool // Outdated, Consistent or UpToDate
	DiskAboveOutdated     bool // Consistent or UpToDate
	Primary               bool // own role; or Secondary, and the peer, Primary, has no disk
	HandshakeDone         bool // connection beyond WFReportParams
	PeerOutdated          bool // peer's disk known Inconsistent or Outdated
	CrashedPrimary        bool // the mark in memory
}

// Recalculate is the flag word after a state change. AL_CLEAN is always lost,
// since the log is in use; FULL_SYNC and AL_DISABLED stay as they are. If the
// result differs from f the superblock has to be written.
// Source: docs/drbd-metadata.md 1.3.
func (f Flags) Recalculate(s Situation) Flags {
	f &= FullSync | ALDisabled
	for _, row := range []struct {
		when bool
		flag Flags
	}{
		{s.DiskAboveInconsistent, Consistent},
		{s.DiskAboveOutdated, WasUpToDate},
		{s.Primary, PrimaryInd},
		{s.HandshakeDone, ConnectedInd},
		{s.PeerOutdated, PeerOutdated},
		{s.CrashedPrimary, CrashedPrimary},
	} {
		if row.when {
			f |= row.flag
		}
	}
	return f
}
