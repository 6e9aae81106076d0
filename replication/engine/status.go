package engine

import (
	"time"

	"github.com/urbd/urbd/statemachine"
)

// Status is a snapshot of a resource.
type Status struct {
	Role       statemachine.Role
	Conn       statemachine.Conn // of the connection as a whole: StandAlone .. WFReportParams, or Connected when a handshake is done
	PeerRole   statemachine.Role
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
	Crashed   bool                    // was a Primary that crashed, and not fully redundant since
	Size      int64                   // bytes exported, 0 before the first attach
	OutOfSync int64                   // bytes
	Dirty     func(off, n int64) bool // whether a bit of the range is set; for the simulator's invariants

	ReadBytes, WrittenBytes int64 // local disk
	SentBytes, RecvBytes    int64 // payload to and from the peer
	ALWrites, BMWrites      int64 // transactions, pages
	UpperPending            int   // application requests not answered
	LowerPending            int   // disk I/Os not answered
	Pending, Unacked        int   // acknowledgements awaited from, owed to the peer
	HeldWrites              int   // requests held by the gate

	Sync *SyncStatus // nil unless a resync runs
}

// SyncStatus is the progress of a resync.
type SyncStatus struct {
	Total, Left, Failed int64 // bytes
	Started             Instant
	Elapsed             time.Duration // without pauses
	Rate                int64         // bytes per second lately
}
