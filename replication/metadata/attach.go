package metadata

import "fmt"

// DiskState is the state that metadata gives a disk at attach. The numbers are
// DRBD's. Source: docs/drbd-metadata.md 6.1.
type DiskState int

const (
	DiskInconsistent DiskState = 4
	DiskOutdated     DiskState = 5
	DiskUnknown      DiskState = 6 // of the peer only
	DiskConsistent   DiskState = 7
	DiskUpToDate     DiskState = 8
)

func (d DiskState) String() string {
	switch d {
	case DiskInconsistent:
		return "Inconsistent"
	case DiskOutdated:
		return "Outdated"
	case DiskUnknown:
		return "DUnknown"
	case DiskConsistent:
		return "Consistent"
	case DiskUpToDate:
		return "UpToDate"
	}
	return fmt.Sprintf("DiskState(%d)", int(d))
}

// Attach is what the node knows beside the metadata when it attaches a disk.
type Attach struct {
	PrimaryNow     bool // this node is Primary right now
	FrozenNoData   bool // I/O is suspended for want of data
	FencingEnabled bool // fencing is not dont-care
}

// Attached is what the flags of the metadata amount to at attach.
type Attached struct {
	Disk           DiskState // Inconsistent, Outdated, Consistent or UpToDate
	Peer           DiskState // Outdated or DUnknown
	CrashedPrimary bool      // remember it, send it in the handshake
	AllOutOfSync   bool      // the bitmap on disk is void: set all bits
	Degraded       bool      // degr-wfc-timeout applies
}

// AtAttach derives the disk states from the flags. While a connection exists
// the disk is Negotiating first and Disk is applied after the exchange.
// Source: docs/drbd-metadata.md 6.2.
func (f Flags) AtAttach(a Attach) Attached {
	at := Attached{
		CrashedPrimary: f.Has(CrashedPrimary) || f.Has(PrimaryInd) && !(a.PrimaryNow && a.FrozenNoData),
		Degraded:       !a.PrimaryNow && f.Has(PrimaryInd) && !f.Has(ConnectedInd),
		Disk:           DiskConsistent,
		Peer:           DiskUnknown,
	}
	at.AllOutOfSync = f.Has(FullSync) || at.CrashedPrimary && f.Has(ALDisabled)
	if f.Has(PeerOutdated) {
		at.Peer = DiskOutdated
	}
	switch {
	case !f.Has(Consistent):
		at.Disk = DiskInconsistent
	case !f.Has(WasUpToDate):
		at.Disk = DiskOutdated
	case at.Peer == DiskOutdated || !a.FencingEnabled:
		at.Disk = DiskUpToDate
	}
	return at
}

// Offline is the disk state that drbdmeta dstate prints for a disk that is not
// attached: UpToDate only if the peer is known to be worse.
// Source: docs/drbd-metadata.md 6.4.
func (f Flags) Offline() DiskState {
	return f.AtAttach(Attach{FencingEnabled: true}).Disk
}
