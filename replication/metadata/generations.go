package metadata

import (
	"fmt"
	"strings"
)

// Generations is the line of drbdmeta get-gi: the four UUIDs and seven flags.
// Source: docs/drbd-metadata.md 10.2.
func (s *Superblock) Generations() string {
	line := fmt.Sprintf("%016X:%016X:%016X:%016X", s.Current, s.Bitmap, s.History[0], s.History[1])
	for _, f := range []Flags{Consistent, WasUpToDate, PrimaryInd, ConnectedInd, FullSync, PeerOutdated, CrashedPrimary} {
		bit := ":0"
		if s.Flags.Has(f) {
			bit = ":1"
		}
		line += bit
	}
	return line
}

const (
	uuidLegend = `
       +--<  Current data generation UUID  >-
       |               +--<  Bitmap's base data generation UUID  >-
       |               |                 +--<  younger history UUID  >-
       |               |                 |         +-<  older history  >-
       V               V                 V         V
`
	flagLegend = `                                                                    ^ ^ ^ ^ ^ ^ ^
                                      -<  Data consistency flag  >--+ | | | | | |
                             -<  Data was/is currently up-to-date  >--+ | | | | |
                                  -<  Node was/is currently primary  >--+ | | | |
                                  -<  Node was/is currently connected  >--+ | | |
         -<  Node was in the progress of setting all bits in the bitmap  >--+ | |
                        -<  The peer's disk was out-dated or inconsistent  >--+ |
      -<  This node was a crashed primary, and has not seen its peer since   >--+
`
)

// ShowGenerations is the text of drbdmeta show-gi. "UpToDate" in it means the
// flag WAS_UP_TO_DATE; Flags.Offline is more careful.
// Source: docs/drbd-metadata.md 10.2.
func (s *Superblock) ShowGenerations() string {
	var b strings.Builder
	b.WriteString(uuidLegend + s.Generations() + "\n" + flagLegend + "\nflags: " + s.flagWords() + "\n")
	if s.Flags.Has(ALClean) {
		b.WriteString("meta-data: clean\n")
	} else {
		b.WriteString("meta-data: need apply-al\n")
	}
	if s.LastAgreedSize == 0 {
		b.WriteString("zero size device -- never seen peer yet?\n")
	} else {
		fmt.Fprintf(&b, "last agreed size: %s (%d sectors)\nlast agreed max bio size: %d Byte\n",
			roundSize(s.LastAgreedSize), s.LastAgreedSize/sector, s.PeerMaxBIO)
	}
	return b.String()
}

func (s *Superblock) flagWords() string {
	pick := func(f Flags, set, clear string) string {
		if s.Flags.Has(f) {
			return set
		}
		return clear
	}
	disk := pick(WasUpToDate, "UpToDate", "Outdated")
	return pick(CrashedPrimary, "crashed ", "") + pick(PrimaryInd, "Primary", "Secondary") +
		", " + pick(ConnectedInd, "Connected", "StandAlone") +
		", " + pick(Consistent, disk, "Inconsistent") +
		pick(FullSync, ", need full sync", "") +
		pick(PeerOutdated, ", peer Outdated", "")
}

// roundSize is a size in at most four digits, rounded as DRBD's tools do.
func roundSize(bytes int64) string {
	n, unit := bytes/1024, 0
	for ; n >= 10000; unit++ {
		n = n>>10 + n>>9&1
	}
	return fmt.Sprintf("%d %s", n, [...]string{"KB", "MB", "GB", "TB", "PB", "EB"}[unit])
}
