package statemachine

import "strconv"

// Disk says what a disk is worth. The values are those of the wire, 4 bits, and
// their order has a meaning: from Inconsistent on there is usable storage, and
// more is better. Source: docs/drbd-wire.md 1, docs/drbd-metadata.md 6.
type Disk uint8

// The disk states. DUnknown is only ever said of a peer's disk.
const (
	Diskless     Disk = 0
	Attaching    Disk = 1
	Failed       Disk = 2
	Negotiating  Disk = 3
	Inconsistent Disk = 4
	Outdated     Disk = 5
	DUnknown     Disk = 6
	Consistent   Disk = 7
	UpToDate     Disk = 8
)

const diskMask = 15

var diskNames = [...]string{
	"Diskless", "Attaching", "Failed", "Negotiating", "Inconsistent", "Outdated", "DUnknown", "Consistent", "UpToDate",
}

// String gives DRBD's spelling.
func (d Disk) String() string {
	if int(d) < len(diskNames) {
		return diskNames[d]
	}
	return "Disk(" + strconv.Itoa(int(d)) + ")"
}

// Known says whether d is one of the states above.
func (d Disk) Known() bool { return int(d) < len(diskNames) }

// Usable says that the disk takes reads and writes of the replicated data:
// Inconsistent or better.
func (d Disk) Usable() bool { return d >= Inconsistent && d.Known() }

// Gone says that the disk has failed or was never there: Failed or less.
func (d Disk) Gone() bool { return d <= Failed }

// clamp forces d into [low, high].
func (d Disk) clamp(low, high Disk) Disk { return min(max(d, low), high) }
