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

// row of the table: each of from may become each of to.
type row struct {
	from, to []Conn
	label    string
	drawn    drawing
}

// drawing says whether a row's edges are part of the overview.
type drawing uint8

const (
	wholeOnly drawing = iota // in the whole table only
	drawn
	drawnBare // without its label
)

var (
	lost      = []Conn{Timeout, BrokenPipe, NetworkFailure}
	endings   = []Conn{Timeout, BrokenPipe, NetworkFailure, ProtocolError, TearDown}
	sourceRun = []Conn{SyncSource, PausedSyncS}
	targetRun = []Conn{SyncTarget, PausedSyncT}
	resync    = []Conn{SyncSource, PausedSyncS, SyncTarget, PausedSyncT}
)

// connsFrom lists the states from first on: "any >= first".
func connsFrom(first Conn) []Conn { return Conns()[first:] }

func one(c ...Conn) []Conn { return c }

// table is docs/drbd-wire.md 17.1, row by row in its order, "any" spelled out, and rows of which only some
// edges are in the overview split.
var table = []row{
	{one(StandAlone), one(Unconnected), "connect", drawn},
	{one(Unconnected), one(WFConnection), "receiver is started", drawn},
	{one(Unconnected), one(Disconnecting), "disconnect, or serious communication trouble", drawn},
	{one(WFConnection), one(Disconnecting), "disconnect, or serious communication trouble", wholeOnly},
	{one(WFConnection), one(WFReportParams), "accept() and/or connect()", drawn},
	{one(WFReportParams), one(Connected), "data identical, no sync needed", drawn},
	{one(WFReportParams), one(WFBitMapS), "own data is newer", drawnBare},
	{one(WFReportParams), one(WFBitMapT), "peer's data is newer", drawnBare},
	{one(WFReportParams), one(Disconnecting), "during the handshake the peers do not agree about something essential", drawn},
	{one(Connected), one(WFBitMapS, WFBitMapT), "late attach, or forced Primary, or the peer decided so", wholeOnly},
	{one(Connected), one(StartingSyncS, StartingSyncT), "negotiated invalidate or invalidate-remote", wholeOnly},
	{one(Connected), one(VerifyS, VerifyT), "negotiated verify", wholeOnly},
	{one(Connected), one(SyncSource, PausedSyncS, WFSyncUUID), "online grow", wholeOnly},
	{one(Connected), one(Ahead), "congestion", wholeOnly},
	{one(Connected), one(Behind), "peer is Ahead", wholeOnly},
	{one(Connected), one(WFReportParams), "negotiated volume removal", wholeOnly},
	{one(StartingSyncS), sourceRun, "all bits set and written", wholeOnly},
	{one(StartingSyncT), one(WFSyncUUID), "all bits set and written", wholeOnly},
	{one(StartingSyncS, StartingSyncT), one(Connected), "bitmap write failed", wholeOnly},
	{one(WFBitMapS), sourceRun, "own bitmap sent and peer's received", drawnBare},
	{one(WFBitMapT), one(WFSyncUUID), "peer's bitmap received and own sent", drawnBare},
	{one(WFSyncUUID), targetRun, "sync UUID received", drawnBare},
	{one(SyncSource), one(PausedSyncS), "pause", wholeOnly},
	{one(PausedSyncS), one(SyncSource), "resume", wholeOnly},
	{one(SyncTarget), one(PausedSyncT), "pause", wholeOnly},
	{one(PausedSyncT), one(SyncTarget), "resume", wholeOnly},
	{resync, one(Connected), "resync done", drawn},
	{one(SyncSource), one(Ahead), "congestion", wholeOnly},
	{targetRun, one(Behind), "peer is Ahead", wholeOnly},
	{one(VerifyS), one(Connected), "last block or stop sector", wholeOnly},
	{one(VerifyT), one(Connected), "last result, or the peer is done", wholeOnly},
	{one(Ahead), sourceRun, "congestion is over", wholeOnly},
	{one(Behind), targetRun, "sync UUID received", wholeOnly},
	{connsFrom(StartingSyncS), one(Connected), "a disk is gone", wholeOnly},
	{one(WFReportParams, Connected), lost, "communication trouble", drawnBare},
	{resync, lost, "communication trouble", drawnBare},
	{connsFrom(WFConnection), endings[:4], "communication trouble", wholeOnly},
	{connsFrom(WFReportParams), one(TearDown), "peer disconnects", wholeOnly},
	{connsFrom(WFReportParams), one(Disconnecting), "disconnect, or the peers do not agree", wholeOnly},
	{lost, one(Unconnected), "receiver is stopped", drawn},
	{endings, one(Unconnected), "receiver is stopped", wholeOnly},
	{endings, one(Disconnecting), "disconnect meanwhile", wholeOnly},
	{one(Disconnecting), one(StandAlone), "cleanup finished", drawn},
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
	case (old.Disk == Diskless || old.Disk == Failed) && next.Disk.Usable():
		return illegal("a disk that is gone comes back by being attached only")
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
