package statemachine

// Results of [Compare], and of the steps of [Handshake] after it. ±1: a resync by the bitmap, ±2: of
// everything; positive: this node is the source. Source: docs/drbd-wire.md 9.2.
const (
	resultNone           = 0
	resultSplitBrainAuto = 100   // automatic policies may decide
	resultSplitBrain     = -100  // they may with always-asbp only
	resultUnrelated      = -1000 // no common ancestor
	resultNeedsNewerPeer = -(0x10000 + 0x400 + 101)
)

// CompareInput is what the comparison takes into account besides the UUIDs.
type CompareInput struct {
	SelfCrashed, PeerCrashed bool // was a Primary that crashed
	SelfRole, PeerRole       Role
	ResolveConflicts         bool // this node has the RC flag, the peer has not
	FeatureWSame             bool // FF_WSAME is agreed
}

// Comparison is the outcome: the rule that matched, its result, and both sets,
// corrected where the rule says that one side missed the end or the beginning of a resync. Self, if it
// differs, is to be kept; Peer is only what this node thinks of the peer.
type Comparison struct {
	Rule       int
	Result     int
	Self, Peer UUIDs
}

// pair is what the rules look at. c, b, h are with bit 0 masked off.
type pair struct {
	self, peer UUIDs // verbatim
	s, p       UUIDs // masked
	in         CompareInput
}

func masked(u UUIDs) UUIDs {
	u.Current &^= RoleBit
	u.Bitmap &^= RoleBit
	u.History[0] &^= RoleBit
	u.History[1] &^= RoleBit
	return u
}

func (x pair) equal() bool { return x.s.Current == x.p.Current }

// peerFinished: the peer counts nothing any more and this node still does.
func (x pair) peerFinished() bool { return x.equal() && x.peer.Bitmap == 0 && x.self.Bitmap != 0 }

// selfFinished is its mirror image.
func (x pair) selfFinished() bool { return x.equal() && x.self.Bitmap == 0 && x.peer.Bitmap != 0 }

func (x pair) crashed() bool { return x.in.SelfCrashed || x.in.PeerCrashed }

func (x pair) anyPrimary() bool { return x.in.SelfRole == Primary || x.in.PeerRole == Primary }

// wentOn: both have had the same data, this node as the source of a resync whose end it has missed, or whose beginning the peer, and this node has begun a
// generation since ([UUIDs.Renew]). The peer has begun none.
func (x pair) wentOn() bool {
	return x.peer.Bitmap == 0 && x.s.History[1] == x.p.Current && x.countsOnSync()
}

// countsOnSync: the bits here count since that resync began, and the data has another name since.
func (x pair) countsOnSync() bool {
	return x.self.Bitmap != 0 && x.self.renewed() && (x.s.Bitmap == x.p.History[0] || sameOrigin(x.s.Bitmap, x.s.History[1]))
}

// bothWentOn: the same, and the peer has begun one, too.
func (x pair) bothWentOn() bool {
	return x.peer.Bitmap != 0 && x.s.History[1] == x.p.Bitmap && x.countsOnSync()
}

// mirrored is the pair as the peer sees it.
func (x pair) mirrored() pair {
	x.self, x.peer, x.s, x.p = x.peer, x.self, x.p, x.s
	return x
}

// missedEnd is a set that never registered the end of its last resync, with that made up for.
func missedEnd(u UUIDs) UUIDs { return u.ClearBitmap() }

// lostSyncUUID is a set whose beginning of a resync never reached the other side, taken back.
func lostSyncUUID(u UUIDs) UUIDs {
	if u.renewed() {
		u.History[1] = 0 // no older generation
	}
	u.Bitmap, u.History[0] = u.History[0], u.History[1]
	return u
}

// missedEndBefore is a set that never registered the end of its last resync, with that made up for where the generation began after it.
func missedEndBefore(u UUIDs) UUIDs {
	u.Bitmap, u.History = u.History[1], [2]uint64{u.Bitmap, u.History[0]}
	return u
}

// crashResult is rules 40 and 41: the data is of one generation, but a Primary
// crashed with writes on their way.
func crashResult(x pair) int {
	in := x.in
	self, peer := in.SelfRole == Primary, in.PeerRole == Primary
	switch {
	case x.anyPrimary() && !in.FeatureWSame:
		return resultNeedsNewerPeer
	case self && peer:
		return resultSplitBrain
	case self:
		return 1
	case peer:
		return -1
	case !in.PeerCrashed:
		return 1
	case !in.SelfCrashed:
		return -1
	case in.ResolveConflicts:
		return -1
	}
	return 1
}

// compareRule is one row. fixSelf and fixPeer correct the sets, if the row does.
type compareRule struct {
	rule    int
	matches func(pair) bool
	result  func(pair) int
	fixSelf func(UUIDs) UUIDs
	fixPeer func(UUIDs) UUIDs
}

func result(n int) func(pair) int { return func(pair) int { return n } }

// compareRules are tried top-down, the first that matches decides; those from 44 on are met by
// unequal current UUIDs only. The order is that of docs/drbd-wire.md 9.2; 44 to 47 are urbd's own.
var compareRules = []compareRule{
	{rule: 10, result: result(0), matches: func(x pair) bool {
		return x.s.Current == JustCreated && x.p.Current == JustCreated
	}},
	{rule: 20, result: result(-2), matches: func(x pair) bool {
		return (x.s.Current == JustCreated || x.s.Current == 0) && x.p.Current != JustCreated
	}},
	{rule: 30, result: result(2), matches: func(x pair) bool {
		return x.s.Current != JustCreated && (x.p.Current == JustCreated || x.p.Current == 0)
	}},
	{rule: 34, result: result(1), fixSelf: missedEnd, matches: func(x pair) bool {
		return x.peerFinished() && x.s.Bitmap == x.p.History[0] && x.s.History[0] == x.p.History[1]
	}},
	{rule: 36, result: result(1), matches: pair.peerFinished},
	{rule: 35, result: result(-1), fixPeer: missedEnd, matches: func(x pair) bool {
		return x.selfFinished() && x.s.History[0] == x.p.Bitmap && x.s.History[1] == x.p.History[0]
	}},
	{rule: 37, result: result(-1), matches: pair.selfFinished},
	{rule: 40, result: result(0), matches: func(x pair) bool { return x.equal() && !x.crashed() }},
	{rule: 41, result: crashResult, matches: func(x pair) bool { return x.equal() && x.anyPrimary() }},
	{rule: 40, result: crashResult, matches: pair.equal},
	{rule: 44, result: result(1), fixSelf: missedEndBefore, matches: pair.wentOn},
	{rule: 45, result: result(-1), fixPeer: missedEndBefore, matches: func(x pair) bool { return x.mirrored().wentOn() }},
	{rule: 46, result: result(resultSplitBrain), matches: pair.bothWentOn},
	{rule: 47, result: result(resultSplitBrain), matches: func(x pair) bool { return x.mirrored().bothWentOn() }},
	{rule: 50, result: result(-1), matches: func(x pair) bool { return x.s.Current == x.p.Bitmap }},
	{rule: 51, result: result(-1), fixPeer: lostSyncUUID, matches: func(x pair) bool {
		return x.s.Current == x.p.History[0] && x.p.History[0]+newBitmapOffset == x.p.Bitmap
	}},
	{rule: 60, result: result(-2), matches: func(x pair) bool {
		return x.s.Current == x.p.History[0] || x.s.Current == x.p.History[1]
	}},
	{rule: 70, result: result(1), matches: func(x pair) bool { return x.s.Bitmap == x.p.Current }},
	{rule: 71, result: result(1), fixSelf: lostSyncUUID, matches: func(x pair) bool {
		return x.s.History[0] == x.p.Current && x.s.History[0]+newBitmapOffset == x.s.Bitmap
	}},
	{rule: 80, result: result(2), matches: func(x pair) bool {
		return x.p.Current == x.s.History[0] || x.p.Current == x.s.History[1]
	}},
	{rule: 90, result: result(resultSplitBrainAuto), matches: func(x pair) bool {
		return x.s.Bitmap == x.p.Bitmap && x.s.Bitmap != 0
	}},
	{rule: 100, result: result(resultSplitBrain), matches: func(x pair) bool {
		for _, mine := range x.s.History {
			for _, theirs := range x.p.History {
				if mine == theirs { // two empty slots, too
					return true
				}
			}
		}
		return false
	}},
	// A renewed set has lost its older history; what its bits count against is of the same origin as the peer's.
	{rule: 101, result: result(resultSplitBrain), matches: func(x pair) bool {
		return x.s.Bitmap != 0 && x.p.Bitmap != 0 && sameOrigin(x.s.Bitmap, x.p.Bitmap)
	}},
	{rule: 100, result: result(resultUnrelated), matches: func(pair) bool { return true }},
}

// Compare says how the data of two nodes that meet are related. Both nodes
// compute it, and get mirrored results. Source: docs/drbd-wire.md 9.2.
func Compare(self, peer UUIDs, in CompareInput) Comparison {
	x := pair{self, peer, masked(self), masked(peer), in}
	for _, row := range compareRules {
		if !row.matches(x) {
			continue
		}
		c := Comparison{row.rule, row.result(x), self, peer}
		if row.fixSelf != nil {
			c.Self = row.fixSelf(self)
		}
		if row.fixPeer != nil {
			c.Peer = row.fixPeer(peer)
		}
		return c
	}
	panic("statemachine: the last row of the comparison matches everything")
}
