package statemachine

import (
	"fmt"
	"sync"
)

// Transition is one edge of the connection graph.
type Transition struct {
	From, To Conn
	Label    string // what makes it happen
}

// rule of the table: each of From may become each of To.
type row struct {
	from, to []Conn
	label    string
}

var (
	troubles    = []Conn{Timeout, BrokenPipe, NetworkFailure, ProtocolError}
	endings     = []Conn{Timeout, BrokenPipe, NetworkFailure, ProtocolError, TearDown}
	withPeer    = connsFrom(WFReportParams) // any >= WFReportParams
	withSocket  = connsFrom(WFConnection)   // any >= WFConnection
	established = connsFrom(Connected + 1)  // any > Connected
)

func connsFrom(first Conn) []Conn { return Conns()[first:] }

func one(c ...Conn) []Conn { return c }

// table is docs/drbd-wire.md 17.1, row by row in its order; "any" is spelled out.
var table = []row{
	{one(StandAlone), one(Unconnected), "connect"},
	{one(Unconnected), one(WFConnection), "receiver is started"},
	{one(Unconnected, WFConnection), one(Disconnecting), "disconnect, or serious communication trouble"},
	{one(WFConnection), one(WFReportParams), "accept() and/or connect()"},
	{one(WFReportParams), one(Connected), "data identical, no sync needed"},
	{one(WFReportParams), one(WFBitMapS), "own data is newer"},
	{one(WFReportParams), one(WFBitMapT), "peer's data is newer"},
	{one(WFReportParams), one(Disconnecting), "during the handshake the peers do not agree about something essential"},
	{one(Connected), one(WFBitMapS, WFBitMapT), "late attach, or forced Primary, or the peer decided so"},
	{one(Connected), one(StartingSyncS, StartingSyncT), "negotiated invalidate or invalidate-remote"},
	{one(Connected), one(VerifyS, VerifyT), "negotiated verify"},
	{one(Connected), one(SyncSource, PausedSyncS, WFSyncUUID), "online grow"},
	{one(Connected), one(Ahead), "congestion"},
	{one(Connected), one(Behind), "peer is Ahead"},
	{one(Connected), one(WFReportParams), "negotiated volume removal"},
	{one(StartingSyncS), one(SyncSource, PausedSyncS), "all bits set and written"},
	{one(StartingSyncT), one(WFSyncUUID), "all bits set and written"},
	{one(StartingSyncS, StartingSyncT), one(Connected), "bitmap write failed"},
	{one(WFBitMapS), one(SyncSource, PausedSyncS), "own bitmap sent and peer's received"},
	{one(WFBitMapT), one(WFSyncUUID), "peer's bitmap received and own sent"},
	{one(WFSyncUUID), one(SyncTarget, PausedSyncT), "sync UUID received"},
	{one(SyncSource), one(PausedSyncS), "pause"},
	{one(PausedSyncS), one(SyncSource), "resume"},
	{one(SyncTarget), one(PausedSyncT), "pause"},
	{one(PausedSyncT), one(SyncTarget), "resume"},
	{one(SyncTarget, PausedSyncT, SyncSource, PausedSyncS), one(Connected), "resync done"},
	{one(SyncSource), one(Ahead), "congestion"},
	{one(SyncTarget, PausedSyncT), one(Behind), "peer is Ahead"},
	{one(VerifyS), one(Connected), "last block or stop sector"},
	{one(VerifyT), one(Connected), "last result, or the peer is done"},
	{one(Ahead), one(SyncSource, PausedSyncS), "congestion is over"},
	{one(Behind), one(SyncTarget, PausedSyncT), "sync UUID received"},
	{established, one(Connected), "a disk is gone"},
	{withSocket, troubles, "communication trouble"},
	{withPeer, one(TearDown), "peer disconnects"},
	{withPeer, one(Disconnecting), "disconnect, or the peers do not agree"},
	{endings, one(Unconnected), "receiver is stopped"},
	{endings, one(Disconnecting), "disconnect meanwhile"},
	{one(Disconnecting), one(StandAlone), "cleanup finished"},
}

// Transitions is the whole table of connection states: every edge once, under
// the label of the first row that has it, in the order of docs/drbd-wire.md 17.1.
var Transitions = sync.OnceValue(func() []Transition {
	var all []Transition
	seen := map[[2]Conn]bool{}
	for _, r := range table {
		for _, from := range r.from {
			for _, to := range r.to {
				if from == to || seen[[2]Conn{from, to}] {
					continue
				}
				seen[[2]Conn{from, to}] = true
				all = append(all, Transition{from, to, r.label})
			}
		}
	}
	return all
})

// reachable is the set of edges of [Transitions].
var reachable = sync.OnceValue(func() map[[2]Conn]bool {
	m := map[[2]Conn]bool{}
	for _, t := range Transitions() {
		m[[2]Conn{t.From, t.To}] = true
	}
	return m
})

// IllegalTransition says that a change would break a rule that nothing may
// break, not even by force.
type IllegalTransition struct {
	From, To State
	Rule     string
}

// Error names the rule and both states.
func (e *IllegalTransition) Error() string {
	return fmt.Sprintf("illegal transition: %s: from %v to %v", e.Rule, e.From, e.To)
}

// Legal answers whether old may become next at all. Source: docs/drbd-wire.md 14.2, 17.1.
func Legal(old, next State) error {
	illegal := func(rule string) error { return &IllegalTransition{old, next, rule} }
	switch {
	case !next.Known():
		return illegal("a field holds no value that exists")
	case old.Disk == Diskless && next.Disk == Failed:
		return illegal("a disk that is not there does not fail")
	case old.Conn == next.Conn:
		return nil
	case old.Conn == StandAlone && next.Conn != Unconnected:
		return illegal("StandAlone is left by connecting only")
	case old.Conn < WFReportParams && next.Conn >= Connected:
		return illegal("there is no way to Connected but the handshake")
	case old.Conn.Trouble() && next.Conn != Unconnected && next.Conn != Disconnecting:
		return illegal("communication trouble is cleaned up first")
	case old.Conn == Disconnecting && next.Conn != StandAlone:
		return illegal("Disconnecting ends in StandAlone")
	case !reachable()[[2]Conn{old.Conn, next.Conn}]:
		return illegal("not a transition of the table")
	}
	return nil
}
