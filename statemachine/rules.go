package statemachine

// Fencing is the fencing policy, in the order of its strictness.
type Fencing uint8

// The fencing policies.
const (
	DontCare           Fencing = 0
	ResourceOnly       Fencing = 1
	ResourceAndStonith Fencing = 2
)

// WaitingUsers are users of a device whose daemon has died: this node may be Primary only on the data that they worked on.
type WaitingUsers uint8

// What the users of a device wait for.
const (
	NobodyWaits WaitingUsers = iota
	WaitForDisk              // they worked on what the own disk has
	WaitForNone              // what they worked on is not here, or not here any more
)

// Rules are the options and facts that a volume's state does not hold and its
// changes depend on. The zero value is DRBD's defaults for a volume nobody uses.
type Rules struct {
	TwoPrimaries     bool    // net option allow-two-primaries
	Fencing          Fencing // fencing policy
	HaveVerifyAlg    bool    // net option verify-alg is set
	SuspendOnNoData  bool    // on-no-data-accessible suspend-io
	ResolveConflicts bool    // this node has the RC flag, docs/drbd-wire.md 4.5

	OtherPeerPrimary bool // the peer is Primary on another volume of the resource
	Open             bool // the device is held by somebody
	Unconfirmed      bool // writes of this node wait for the peer's P_BARRIER_ACK
	Handshaking      bool // the parameter block is sent and not every volume has left WFReportParams

	Waiting WaitingUsers // users of the device that a daemon before this one has left behind

	HasBitmapUUID  bool // own bitmap UUID is not 0: writes already count against the peer
	PeerIsCurrent  bool // the peer's disk has the current UUID of this node, or may have it by now: it was being copied to
	NewUUIDPending bool // RememberNewUUID was the effect, and no NewCurrentUUID since
	ConsiderResync bool // MarkConsiderResync was the effect, and no PeerState since
	Negotiated     Disk // while Negotiating: what the metadata made of the disk at attach
	PeerWentOn     bool // the peer has begun a generation on the one that is here: what was written since is missing here
}

// Refusals of a state: the rows of docs/drbd-wire.md 14.3, first match gives
// the refusal.
type stateRule struct {
	refusal  Refusal
	violates func(State, Rules) bool
}

var stateRules = []stateRule{
	{OtherDataInUse, func(s State, r Rules) bool { return s.Role == Primary && r.Waiting == WaitForNone }},
	{UsersNeedDisk, func(s State, r Rules) bool {
		return s.Role == Primary && r.Waiting == WaitForDisk && s.Disk != UpToDate
	}},
	{TwoPrimaries, func(s State, r Rules) bool { return !r.TwoPrimaries && s.Role == Primary && s.Peer == Primary }},
	{OtherVolumePeerPrimary, func(s State, r Rules) bool { return !r.TwoPrimaries && s.Role == Primary && r.OtherPeerPrimary }},
	{DeviceInUse, func(s State, r Rules) bool { return s.Role == Secondary && r.Open }},
	{NoUpToDateDisk, func(s State, r Rules) bool { return s.Role == Primary && s.Conn < Connected && s.Disk < UpToDate }},
	{PrimaryNOP, func(s State, r Rules) bool {
		return r.Fencing >= ResourceOnly && s.Role == Primary && s.Conn < Connected && s.PeerDisk >= DUnknown
	}},
	{NoUpToDateDisk, func(s State, r Rules) bool {
		return s.Role == Primary && s.Disk <= Inconsistent && s.PeerDisk <= Inconsistent
	}},
	{NoLocalDisk, func(s State, r Rules) bool { return s.Conn > Connected && s.Disk < Inconsistent }},
	{NoRemoteDisk, func(s State, r Rules) bool { return s.Conn > Connected && s.PeerDisk < Inconsistent }},
	{NoUpToDateDisk, func(s State, r Rules) bool {
		return s.Conn > Connected && s.Disk < UpToDate && s.PeerDisk < UpToDate
	}},
	{ConnectedOutdates, func(s State, r Rules) bool {
		return (s.Conn == Connected && !s.PeerDisk.Gone() || s.Conn == WFBitMapS || s.Conn == SyncSource || s.Conn == PausedSyncS) &&
			s.Disk == Outdated
	}},
	{NoVerifyAlg, func(s State, r Rules) bool { return s.Conn.Verifying() && !r.HaveVerifyAlg }},
	{NoUpToDateDisk, func(s State, r Rules) bool {
		return s.Role == Primary && s.Disk < UpToDate && s.PeerDisk < UpToDate
	}},
	{NeedConnection, func(s State, r Rules) bool { return s.Conn.StartingSync() && s.PeerDisk == DUnknown }},
	{ConnectedOutdates, func(s State, r Rules) bool { return s.Conn >= Connected && s.PeerDisk == DUnknown }},
}

// violation is the first rule of stateRules that s does not keep, or "".
func (s State) violation(r Rules) Refusal {
	for _, rule := range stateRules {
		if rule.violates(s, r) {
			return rule.refusal
		}
	}
	return ""
}

// changeRule is a rule about getting from one state to another. The last one
// that applies gives the refusal. Source: docs/drbd-wire.md 14.3, below the table.
type changeRule struct {
	refusal  Refusal
	violates func(old, next State, r Rules) bool
}

var changeRules = []changeRule{
	{ResyncRunning, func(o, n State, r Rules) bool {
		return n.Conn.StartingSync() && o.Conn > Connected && n.Conn != o.Conn
	}},
	{AlreadyStandAlone, func(o, n State, r Rules) bool { return n.Conn == Disconnecting && o.Conn == StandAlone }},
	{IsDiskless, func(o, n State, r Rules) bool { return n.Disk > Attaching && o.Disk == Diskless }},
	{LowerThanOutdated, func(o, n State, r Rules) bool {
		return n.Disk == Outdated && o.Disk < Outdated && o.Disk != Attaching
	}},
	{InTransientState, func(o, n State, r Rules) bool { return n.Conn == Disconnecting && o.Conn == Unconnected }},
	{InTransientState, func(o, n State, r Rules) bool {
		return r.Handshaking && n.Conn == o.Conn && (n.Role != o.Role || n.Peer != o.Peer || n.Disk != o.Disk || n.PeerDisk != o.PeerDisk)
	}},
	{InTransientState, func(o, n State, r Rules) bool {
		return r.ConsiderResync && o.Role != Primary && n.Role == Primary
	}},
	{NeedConnection, func(o, n State, r Rules) bool { return n.Conn.Verifying() && o.Conn < Connected }},
	{ResyncRunning, func(o, n State, r Rules) bool {
		return n.Conn.Verifying() && o.Conn > Connected && n.Conn != o.Conn
	}},
	{NeedConnection, func(o, n State, r Rules) bool { return n.Conn.StartingSync() && o.Conn < Connected }},
	{NeedConnection, func(o, n State, r Rules) bool { return n.Conn.Running() && o.Conn < WFReportParams }},
	{OutdateWithoutPeer, func(o, n State, r Rules) bool {
		return n.Conn == Disconnecting && n.PeerDisk == Outdated && o.Conn < Connected && o.PeerDisk > Outdated
	}},
}

// Validate answers whether the rules for soft changes allow old to become next,
// which is to be sanitised already. The error is a [Refusal]. A state that breaks a
// rule is still accepted if old already broke the same one.
// Source: docs/drbd-wire.md 14.3.
func Validate(old, next State, r Rules) error {
	if why := next.violation(r); why != "" && why != old.violation(r) {
		return why
	}
	var last Refusal
	for _, rule := range changeRules {
		if rule.violates(old, next, r) {
			last = rule.refusal
		}
	}
	if last != "" {
		return last
	}
	return nil
}
