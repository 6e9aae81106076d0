package statemachine

import "strconv"

// Conn is the connection state of a volume: 0 to 9 are the whole connection's,
// the others exist for each volume. The values are those of the wire, 5 bits.
// Source: docs/drbd-wire.md 1.
type Conn uint8

// The connection states.
const (
	StandAlone     Conn = 0
	Disconnecting  Conn = 1
	Unconnected    Conn = 2
	Timeout        Conn = 3
	BrokenPipe     Conn = 4
	NetworkFailure Conn = 5
	ProtocolError  Conn = 6
	TearDown       Conn = 7
	WFConnection   Conn = 8
	WFReportParams Conn = 9
	Connected      Conn = 10
	StartingSyncS  Conn = 11
	StartingSyncT  Conn = 12
	WFBitMapS      Conn = 13
	WFBitMapT      Conn = 14
	WFSyncUUID     Conn = 15
	SyncSource     Conn = 16
	SyncTarget     Conn = 17
	VerifyS        Conn = 18
	VerifyT        Conn = 19
	PausedSyncS    Conn = 20
	PausedSyncT    Conn = 21
	Ahead          Conn = 22
	Behind         Conn = 23
)

const connMask = 31

var connNames = [...]string{
	"StandAlone", "Disconnecting", "Unconnected", "Timeout", "BrokenPipe", "NetworkFailure", "ProtocolError", "TearDown",
	"WFConnection", "WFReportParams", "Connected", "StartingSyncS", "StartingSyncT", "WFBitMapS", "WFBitMapT", "WFSyncUUID",
	"SyncSource", "SyncTarget", "VerifyS", "VerifyT", "PausedSyncS", "PausedSyncT", "Ahead", "Behind",
}

// Conns lists all connection states in the order of their numbers.
func Conns() []Conn {
	all := make([]Conn, len(connNames))
	for i := range all {
		all[i] = Conn(i)
	}
	return all
}

// String gives DRBD's spelling.
func (c Conn) String() string {
	if int(c) < len(connNames) {
		return connNames[c]
	}
	return "Conn(" + strconv.Itoa(int(c)) + ")"
}

// Known says whether c is one of the states above.
func (c Conn) Known() bool { return int(c) < len(connNames) }

// Trouble says that the connection has failed or is being torn down, and that
// its cleanup has not finished: 3 to 7.
func (c Conn) Trouble() bool { return c >= Timeout && c <= TearDown }

// Ending is Trouble or Disconnecting: sockets are being closed, nothing may be
// sent, the end is [Cleaned].
func (c Conn) Ending() bool { return c == Disconnecting || c.Trouble() }

// HasSockets says that the connection may own sockets: from WFConnection on.
func (c Conn) HasSockets() bool { return c >= WFConnection }

// Established says that the peers have been introduced: from Connected on.
func (c Conn) Established() bool { return c >= Connected && c.Known() }

// Connecting says that a peer is being looked for or being introduced.
func (c Conn) Connecting() bool { return c == WFConnection || c == WFReportParams }

// BitmapExchange says that the two bitmaps are being merged.
func (c Conn) BitmapExchange() bool { return c == WFBitMapS || c == WFBitMapT || c == WFSyncUUID }

// StartingSync says that the whole bitmap is being set for a resync that was asked for.
func (c Conn) StartingSync() bool { return c == StartingSyncS || c == StartingSyncT }

// Syncing says that a resync is under way, running or paused.
func (c Conn) Syncing() bool {
	return c == SyncSource || c == SyncTarget || c == PausedSyncS || c == PausedSyncT
}

// Running says that a resync is under way and not paused.
func (c Conn) Running() bool { return c == SyncSource || c == SyncTarget }

// Paused says that a resync is under way and paused.
func (c Conn) Paused() bool { return c == PausedSyncS || c == PausedSyncT }

// Verifying says that an online verify is under way.
func (c Conn) Verifying() bool { return c == VerifyS || c == VerifyT }

// Source says that this node is, or is about to be, the one whose data is good.
func (c Conn) Source() bool {
	switch c {
	case StartingSyncS, WFBitMapS, SyncSource, PausedSyncS, Ahead:
		return true
	}
	return false
}

// Target says that this node is, or is about to be, the one that is overwritten.
func (c Conn) Target() bool {
	switch c {
	case StartingSyncT, WFBitMapT, WFSyncUUID, SyncTarget, PausedSyncT, Behind:
		return true
	}
	return false
}

// TakesSyncUUID says that P_SYNC_UUID is what this state waits for.
func (c Conn) TakesSyncUUID() bool { return c == WFSyncUUID || c == Behind }
