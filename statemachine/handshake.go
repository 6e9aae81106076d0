package statemachine

import "fmt"

// What a handshake fails for. Source: docs/drbd-wire.md 9.3.
const (
	SplitBrain           Refusal = "split brain: both nodes have data of their own since they parted"
	UnrelatedData        Refusal = "unrelated data: the two disks have no generation in common"
	NeedsNewerPeer       Refusal = "the peer is too old to say which of the two crashed nodes goes first"
	SourceInconsistent   Refusal = "the disk that should be the source of a resync is Inconsistent"
	PrimaryWouldBeTarget Refusal = "a Primary with good data would be overwritten"
	DryRun               Refusal = "dry run: the resync that would follow is not begun"
)

// HandshakeInput is everything the decision depends on. Source: docs/drbd-wire.md 9.1 to 9.4.
type HandshakeInput struct {
	Self       UUIDs
	SelfBits   uint64 // set bits of the own bitmap as last announced
	Peer       PeerUUIDs
	Crashed    bool // this node was a Primary that crashed
	Role       Role
	PeerRole   Role
	Disk       Disk // own disk; while Negotiating what the metadata made of it
	DiskNow    Disk // own disk as the state has it
	PeerDisk   Disk // peer's, Negotiating replaced by what it is worth
	DiscardMy  bool // discard-my-data was asked for here
	DryRun     bool // here
	PeerDryRun bool // P_PROTOCOL conn_flags 2

	ResolveConflicts bool
	FeatureWSame     bool
	Policies         SplitBrainPolicies
}

// SplitBrainPolicies are the options after-sb-0pri, -1pri, -2pri, always-asbp and
// rr-conflict. The zero value is DRBD's default: disconnect.
type SplitBrainPolicies struct {
	ZeroPri, OnePri, TwoPri SplitBrainPolicy
	Always                  bool
	RRConflict              RRConflict
	// CanDemote says that this node, Primary, could give its role up now; only
	// call-pri-lost-after-sb asks.
	CanDemote bool
}

// RRConflict is what happens when a resync would overwrite a Primary's good data.
type RRConflict uint8

// The policies of rr-conflict.
const (
	RRDisconnect RRConflict = 0
	RRCallHelper RRConflict = 1
	RRViolently  RRConflict = 2
)

// Decision is what follows from a handshake. The zero value says that none was held.
type Decision struct {
	Rule     int   // of the comparison
	Raw      int   // its result
	Result   int   // signed as in docs/drbd-wire.md 9.3
	FullSync bool  // every bit is set first
	Demote   bool  // this node gives the Primary role up first
	Target   Conn  // Connected, WFBitMapS or WFBitMapT
	Err      error // nil, or a *HandshakeError: nothing is synced

	// Self and Peer are corrected. Self compares as it did before, so the peer may hear of the one or the other, and it may become durable with what
	// follows, a resync or a generation.
	Self, Peer UUIDs
	// MissedEnd is the bitmap UUID of a resync that this node did not see the end of, 0: none. Self still has it: it goes into
	// the history when the next resync or generation begins ([UUIDs.CatchUp]). Without it the bits that are set count
	// for nothing, and if the connection is lost before, the next handshake finds the data identical.
	MissedEnd uint64
}

// Made says that a handshake was held.
func (d Decision) Made() bool { return d.Err != nil || d.Target != StandAlone }

// drop is the state that a failed decision leads to.
func (d Decision) drop() Conn {
	if e, ok := d.Err.(*HandshakeError); ok && e.PeerOnly {
		return ProtocolError
	}
	return Disconnecting
}

// HandshakeError is why two nodes do not come together, with the data generations of both.
type HandshakeError struct {
	Reason     Refusal
	Rule       int
	Self, Peer UUIDs
	PeerOnly   bool // only the peer asked for the dry run
}

// Error says why, and prints both sides' generations.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("%s (rule %d; own generations %v, peer's %v)", string(e.Reason), e.Rule, e.Self, e.Peer)
}

// Unwrap makes errors.Is(err, SplitBrain) hold, and the like.
func (e *HandshakeError) Unwrap() error { return e.Reason }

// Handshake decides what two nodes that meet, each with a disk, do: nothing, a resync in one of the two
// directions, or part. Both nodes decide alone and come to mirrored results.
// Source: docs/drbd-wire.md 9.3.
func Handshake(in HandshakeInput) Decision {
	peerCrashed := in.Peer.Flags&FlagCrashedPrimary != 0
	c := Compare(in.Self, in.Peer.UUIDs, CompareInput{
		SelfCrashed: in.Crashed, PeerCrashed: peerCrashed, SelfRole: in.Role, PeerRole: in.PeerRole,
		ResolveConflicts: in.ResolveConflicts, FeatureWSame: in.FeatureWSame,
	})
	d := Decision{Rule: c.Rule, Raw: c.Result, Result: c.Result, Self: c.Self, Peer: c.Peer}
	if c.Self.Bitmap == 0 && in.Self.Bitmap != 0 {
		d.Self, d.MissedEnd = in.Self, in.Self.Bitmap
	}
	reason := d.settle(in)
	if reason != "" {
		d.Err = &HandshakeError{Reason: reason, Rule: c.Rule, Self: in.Self, Peer: in.Peer.UUIDs,
			PeerOnly: reason == DryRun && !in.DryRun}
		return d
	}
	d.FullSync = d.Result >= 2 || d.Result <= -2
	switch {
	case d.Result > 0:
		d.Target = WFBitMapS
	case d.Result < 0:
		d.Target = WFBitMapT
	default:
		d.Target = Connected
	}
	return d
}

// settle is the post-processing up to the point where the result stands, or the
// reason why there is none.
func (d *Decision) settle(in HandshakeInput) Refusal {
	switch d.Result {
	case resultUnrelated:
		return UnrelatedData
	case resultNeedsNewerPeer:
		return NeedsNewerPeer
	}
	d.preferConsistent(in)
	d.recover(in)
	if d.Result == resultSplitBrain || d.Result == resultSplitBrainAuto {
		return SplitBrain
	}
	if d.Result > 0 && in.Disk <= Inconsistent {
		return SourceInconsistent
	}
	if d.Result < 0 && in.Role == Primary && !d.Demote && in.DiskNow >= Consistent && in.Policies.RRConflict != RRViolently {
		return PrimaryWouldBeTarget
	}
	if in.DryRun || in.PeerDryRun {
		return DryRun
	}
	return ""
}

// preferConsistent makes an Inconsistent disk the target of a better one, whatever the
// generations say.
func (d *Decision) preferConsistent(in HandshakeInput) {
	mine, theirs := in.Disk > Inconsistent, in.PeerDisk > Inconsistent
	if mine == theirs || in.Disk != Inconsistent && in.PeerDisk != Inconsistent {
		return
	}
	full := d.Result == resultSplitBrain || d.Result == 2 || d.Result == -2
	d.Result = 1
	if theirs {
		d.Result = -1
	}
	if full {
		d.Result *= 2
	}
}

// recover has the policies, then the administrators' discard-my-data, decide a split brain.
func (d *Decision) recover(in HandshakeInput) {
	manual := d.Result == resultSplitBrain
	if d.Result == resultSplitBrainAuto || manual && in.Policies.Always {
		d.Result, d.Demote = in.Policies.decide(in)
		if manual && (d.Result == 1 || d.Result == -1) {
			d.Result *= 2
		}
	}
	if d.Result != resultSplitBrain {
		return
	}
	peerDiscards := in.Peer.Flags&FlagDiscardMyData != 0
	switch {
	case in.DiscardMy && !peerDiscards:
		d.Result = -1
	case !in.DiscardMy && peerDiscards:
		d.Result = 1
	}
}
