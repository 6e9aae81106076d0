package engine

import (
	"time"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
)

// Status is a snapshot of a resource.
type Status struct {
	Role       statemachine.Role
	Conn       statemachine.Conn // of the connection as a whole: StandAlone .. WFReportParams, or Connected when a handshake is done
	PeerRole   statemachine.Role
	Refused    string  // why this node has given the connection up; empty: it has not
	Since      Instant // when Conn changed last
	Link       Link
	APInFlight int64 // bytes written by the application that the peer has not confirmed
	RSInFlight int64 // bytes of resync requested and not yet written
	Volumes    []VolumeStatus
}

// VolumeStatus is a snapshot of one volume.
type VolumeStatus struct {
	Number    int
	State     statemachine.State
	UUIDs     statemachine.UUIDs
	PeerUUIDs statemachine.UUIDs      // as announced last; zero before
	LastUse   LastUse                 // before this daemon
	Crashed   bool                    // was a Primary that crashed, and not fully redundant since
	Size      int64                   // bytes exported, 0 before the first attach
	Users     Users                   // of the device, and the data that they work on
	BlockSize int64                   // logical block size that the device needs, bytes
	OutOfSync int64                   // bytes
	Dirty     func(off, n int64) bool // whether a bit of the range is set; for the simulator's invariants

	ReadBytes, WrittenBytes int64  // local disk
	SentBytes, RecvBytes    int64  // payload to and from the peer
	ALWrites, BMWrites      int64  // transactions, pages
	UpperPending            int    // application requests not answered
	LowerPending            int    // disk I/Os not answered
	Pending, Unacked        int    // acknowledgements awaited from, owed to the peer
	HeldWrites              int    // requests held by the gate
	DiskWaits               string // what the disk has owed an answer to for longer than a second; empty: nothing

	Sync *SyncStatus // nil unless a resync runs
}

// LastUse is how a volume was used when its node was shut down or died.
type LastUse uint8

const (
	UseUnknown      LastUse = iota // no superblock was read yet
	NotPrimary                     // or in order
	PrimaryAlone                   // without the peer
	PrimaryTogether                // with it
)

// lastUse is what the superblock says that a daemon finds.
func lastUse(f metadata.Flags) LastUse {
	switch {
	case !f.Has(metadata.PrimaryInd):
		return NotPrimary
	case f.Has(metadata.ConnectedInd):
		return PrimaryTogether
	}
	return PrimaryAlone
}

// SyncStatus is the progress of a resync.
type SyncStatus struct {
	Total, Left, Failed int64 // bytes
	Started             Instant
	Elapsed             time.Duration // without pauses
	Rate                int64         // bytes per second lately
}

// InFlight reports whether an own write that touches a range is not over: not
// answered, or not confirmed by the peer as its epoch's end. For the simulator's invariants.
func (e *Engine) InFlight(vol int, off, n int64) bool {
	for _, w := range e.writes.all {
		if w.vol != nil && w.vol.number == vol && w.off < off+n && off < w.off+w.n {
			return true
		}
	}
	return false
}

// Marked reports whether a block that the range touches is marked as out of sync
// here. known is false without a bitmap in use.
func (e *Engine) Marked(vol int, off, n int64) (marked, known bool) {
	v := e.volume(vol)
	if v == nil || !v.attached {
		return false, false
	}
	return v.dirty(off, n), true
}

// State is that of one volume; the weakest if there is no such volume.
func (e *Engine) State(vol int) statemachine.State {
	if v := e.volume(vol); v != nil {
		return v.state
	}
	return statemachine.Initial
}
