package statemachine

// How says what the pair of states does not show of a transition.
type How struct {
	HasBitmapUUID bool // own bitmap UUID is not 0
	PeerIsCurrent bool // the peer's disk has the own current UUID, or may have it by now
	Fencing       Fencing
	Pending       bool       // a new generation is remembered, Rules.NewUUIDPending
	Forced        bool       // a promotion by force
	FullSync      bool       // the handshake wants the whole bitmap set
	SyncUUID      bool       // P_SYNC_UUID was received
	PeerMissedIt  bool       // docs/drbd-wire.md 9.5 step 10
	Adopted       bool       // the initial sync is skipped, on the peer's word
	Reply         *SendReply // the answer to the peer that asked for it
	Heard         bool       // ConsentHeard
	LetGo         bool       // the peer, Primary, has consented to the detach that is outstanding here, PeerState.Leaving
	Why           error      // reason of a drop
}

// duty is one row: what a transition owes when it is due.
type duty struct {
	name string
	due  func(old, next State, how How) bool
	do   func(old, next State, how How) []Effect
}

// always makes a fixed list of effects.
func always(do ...Effect) func(_, _ State, _ How) []Effect {
	return func(_, _ State, _ How) []Effect { return do }
}

// marked are the duties that change memory only.
var marked = []duty{
	{"what is not confirmed counts as missing there", losesUnacked, always(MarkUnacked{})},
	{"peer is promoted and neither disk is good", func(o, n State, _ How) bool {
		return n.Peer == Primary && o.Peer != Primary && o.Conn == Connected &&
			o.Disk == Inconsistent && o.PeerDisk == Inconsistent
	}, always(MarkConsiderResync{})},
	{"new generation, later", func(o, n State, how How) bool {
		return !how.Pending && n.Suspended() && startsGeneration(o, n, how)
	}, always(RememberNewUUID{})},
	{"no new generation after all", func(o, n State, how How) bool {
		return how.Pending && !n.Suspended() && !endsFreezeAlone(o, n, how)
	}, always(ForgetNewUUID{})},
}

// remembered are the duties that change what is in the metadata.
var remembered = []duty{
	{"the whole disk will be resynced", func(o, n State, how How) bool {
		return how.FullSync || overwritesPeer(o, n, how) || n.Conn == StartingSyncT && o.Conn != StartingSyncT
	}, always(SetAllBits{})},
	{"new generation", func(o, n State, how How) bool {
		return !n.Suspended() && (startsGeneration(o, n, how) || endsFreezeAlone(o, n, how))
	}, always(NewCurrentUUID{})},
	{"new generation, where bits count already", renewsGeneration, always(RenewCurrentUUID{})},
	// After the generation: what becomes the bitmap UUID keeps the bit that it was current with.
	{"role", func(o, n State, _ How) bool { return n.Role != o.Role },
		func(o, n State, _ How) []Effect { return []Effect{SetRoleBit{n.Role == Primary}} }},
	{"resync begins as source", startsSource, always(StartSourceUUIDs{})},
	{"resync begins as target", func(o, n State, how How) bool { return how.SyncUUID && n.Conn.Syncing() }, always(StartTargetUUIDs{})},
	{"resync is done, source", func(o, n State, _ How) bool {
		return o.Conn.Syncing() && o.Conn.Source() && n.Conn == Connected && n.PeerDisk == UpToDate
	}, always(FinishSourceUUIDs{})},
	{"resync is done, target", func(o, n State, _ How) bool {
		return o.Conn.Syncing() && o.Conn.Target() && n.Conn == Connected && n.Disk == UpToDate
	}, always(FinishTargetUUIDs{})},
}

// announced are the packets, in the order of docs/drbd-wire.md 9.6. Four rows differ from it: c
// waits until the peer's disk is usable, for an answer while it still says Attaching would be forgotten there;
// and a disk that turned out Outdated beside a diskless peer is announced, for the kernel's driver would
// have taken it for UpToDate and says nothing; and who skips the initial sync says so; and a peer without a disk hears of the
// generation that a promotion begins, so that its disk is not taken for good if it comes back while this one fails.
var announced = []duty{
	{"reply", func(_, _ State, how How) bool { return how.Reply != nil },
		func(_, _ State, how How) []Effect { return []Effect{*how.Reply} }},
	{"reply to be heard", func(o, n State, how How) bool {
		return how.Reply != nil && n.Conn == StartingSyncS && o.Conn != StartingSyncS
	}, always(ConsentFence{})},
	{"sync UUID", startsSource, always(SendSyncUUID{})},
	{"c: peer attached", func(o, n State, _ How) bool {
		return n.Conn.Established() && o.PeerDisk.Gone() && n.PeerDisk.Usable() && n.PeerDisk != DUnknown
	}, always(SendUUIDs{}, SendState{})},
	{"new generation", func(o, n State, how How) bool {
		return n.Conn.Established() && !n.Suspended() && !how.Forced && (startsGeneration(o, n, how) || renewsGeneration(o, n, how))
	}, always(SendUUIDs{})},
	{"d: own disk is negotiated", func(o, n State, _ How) bool {
		return n.Conn.Established() && o.Disk == Attaching && n.Disk == Negotiating
	}, always(SendSizes{}, SendUUIDs{}, SendState{})},
	{"own disk turned out to be old", func(o, n State, _ How) bool {
		return n.Conn == Connected && o.Disk == Negotiating && n.Disk == Outdated
	}, always(SendState{})},
	{"e: pause", func(o, n State, _ How) bool {
		return n.Conn.Established() && (o.AfterISP != n.AfterISP || o.UserISP != n.UserISP)
	}, always(SendState{})},
	{"b: introduced", func(o, n State, _ How) bool { return o.Conn == WFReportParams && n.Conn.Established() }, always(SendState{})},
	{"f: ahead", func(o, n State, _ How) bool { return o.Conn != Ahead && n.Conn == Ahead }, always(SendState{})},
	{"g: own disk failed", func(o, n State, _ How) bool {
		return n.Conn.Established() && o.Disk != Failed && n.Disk == Failed
	}, always(SendState{})},
	{"g: own disk is gone", func(o, n State, _ How) bool {
		return n.Conn.Established() && o.Disk != Diskless && n.Disk == Diskless
	}, always(SendState{})},
	{"h: own disk lost its worth", func(o, n State, _ How) bool {
		return n.Conn.Established() && o.Disk == UpToDate && n.Disk == Inconsistent && n.Conn != StartingSyncT
	}, always(SendState{})},
	{"i: target finished", func(o, n State, _ How) bool {
		return o.Conn >= SyncSource && n.Conn == Connected && o.Disk < UpToDate
	}, always(SendState{})},
	{"j: verify finished", func(o, n State, _ How) bool { return o.Conn == VerifyS && n.Conn == Connected }, always(SendState{})},
	{"k: role, forced", func(o, n State, how How) bool {
		return n.Conn >= WFReportParams && o.Role != n.Role && how.Forced
	}, always(SendUUIDs{})},
	{"k: role", func(o, n State, _ How) bool { return n.Conn >= WFReportParams && o.Role != n.Role }, always(SendState{})},
	// The kernel's driver says nothing here, and a P_STATE from before it may make the peer believe the contrary.
	{"initial sync skipped", func(_, n State, how How) bool { return how.Adopted }, always(SendState{})},
	{"l: peer has not noticed", func(_, n State, how How) bool { return how.PeerMissedIt }, always(SendUUIDs{}, SendState{})},
}

// begun are the works that a transition starts and ends.
var begun = []duty{
	{"bitmap of the source", func(o, n State, _ How) bool { return o.Conn != WFBitMapS && n.Conn == WFBitMapS }, always(SendBitmap{})},
	{"resync ends", func(o, n State, _ How) bool { return o.Conn.Syncing() && !n.Conn.Syncing() }, always(StopResync{})},
	{"resync begins", func(o, n State, _ How) bool { return !o.Conn.Syncing() && n.Conn.Syncing() },
		func(_, n State, _ How) []Effect { return []Effect{StartResync{n.Conn.Paused()}} }},
	{"resync pauses", func(o, n State, _ How) bool { return o.Conn.Running() && n.Conn.Paused() }, always(PauseResync{})},
	{"resync goes on", func(o, n State, _ How) bool { return o.Conn.Paused() && n.Conn.Running() }, always(ResumeResync{})},
	{"verify begins", func(o, n State, _ How) bool { return !o.Conn.Verifying() && n.Conn.Verifying() }, always(StartVerify{})},
	{"verify ends", func(o, n State, _ How) bool { return o.Conn.Verifying() && !n.Conn.Verifying() }, always(StopVerify{})},
	{"disk is let go", func(o, n State, _ How) bool { return o.Disk != Failed && n.Disk == Failed }, always(ReleaseDisk{})},
	{"peer is fenced", func(o, n State, how How) bool {
		return how.Fencing >= ResourceOnly && n.Role == Primary && n.PeerDisk == DUnknown &&
			o.Conn.Established() && n.Conn < Connected
	}, always(FencePeer{})},
	{"connection closes", func(o, n State, _ How) bool { return !o.Conn.Ending() && n.Conn.Ending() },
		func(_, _ State, how How) []Effect { return []Effect{CloseConn{how.Why}} }},
	{"connection is looked for", func(o, n State, _ How) bool { return o.Conn != Unconnected && n.Conn == Unconnected }, always(StartReceiver{})},
	{"connection is given up", func(o, n State, _ How) bool { return o.Conn != StandAlone && n.Conn == StandAlone }, always(DropNetConfig{})},
}

// losesUnacked says that unconfirmed writes may never be confirmed: contact is lost, or a freeze that kept them
// for the peer's return ends without it, or the peer's disk is gone. In the last case their negative acks are
// on the way, but they may come after the handshake of a disk that is attached again, and
// after the bitmap that should have them.
func losesUnacked(o, n State, _ How) bool {
	if n.Suspended() {
		return false
	}
	if o.PeerDisk.Usable() && n.PeerDisk.Gone() {
		return n.Conn.Established()
	}
	return o.Conn.Established() && n.Conn.Ending() || o.Suspended() && !n.Conn.Established() && o.Conn < Connected
}

// startsGeneration says that this node's data parts from the peer's: the events of docs/drbd-wire.md 14.5, and more.
//
// The source of a resync that was asked for starts one before it begins. The kernel's driver does
// not, and until the target has got the sync UUID both have the same current one: should the connection break
// there, and both be promoted, the target's data would pass for the newer.
//
// A Primary that lost its disk, then its peer, starts one when it goes on alone on that disk. The driver
// relies on the crashed-primary mark there.
//
// A node that a Primary lets detach starts none when the peer's disk fails after that: since the consent nothing was
// answered that is not on the peer's disk, and the peer has started one. With one on both nodes there would be a split brain
// about nothing.
func startsGeneration(o, n State, how How) bool {
	if how.Forced {
		return true
	}
	if how.HasBitmapUUID || n.Disk != UpToDate {
		return false
	}
	if o.Role != Primary && n.Role == Primary {
		return n.Conn < Connected || n.PeerDisk.Gone()
	}
	if n.Role == Primary && !n.Conn.Established() && o.Disk != UpToDate {
		return true
	}
	if overwritesPeer(o, n, how) {
		return true
	}
	// Nobody is sure of a peer that was Inconsistent and in no resync, or in one that has not begun: what is written without it has to have a name.
	parted := (o.Conn == Connected || o.Conn == WFBitMapS) && !n.Conn.Established()
	lost := n.PeerDisk < Inconsistent || n.PeerDisk == DUnknown || n.PeerDisk == Outdated || parted
	had := o.PeerDisk == Inconsistent || o.PeerDisk == Consistent || o.PeerDisk == UpToDate
	refused := o.PeerDisk == DUnknown && (n.PeerDisk == Diskless || n.PeerDisk == Failed || n.PeerDisk == Outdated)
	if (had && lost || refused) && !how.LetGo && (n.Role == Primary || n.Peer == Primary) {
		return true
	}
	if o.Role == Primary && n.Role != Primary && n.Conn == Connected && n.PeerDisk == Inconsistent {
		return true // the same peer: a Primary that leaves it later, or never hears of its loss, would have named it
	}
	return n.PeerDisk < Inconsistent && o.Peer != Primary && n.Peer == Primary
}

// renewsGeneration says that this node goes on with data that the peer does not have, while the bits count already. The driver
// begins no generation there.
//
// A node that is promoted alone has perhaps served a Primary that has lost its disk: its applications would be given
// the data of others under the name of theirs when the nodes meet again. So would those of a Primary that takes its own disk into use alone.
//
// A peer that was copied to may be done, and contact is lost before it is heard of: it calls
// its disk as this node's is called, and if it is promoted, too, the data that it then has would pass for the newer one. So it would
// if it had that disk already, and never heard that it is to be copied to. A peer without a disk is there, and has one that may
// come back: whether the Primary is this node or, for the disk here, the peer, what is written is on this disk alone.
func renewsGeneration(o, n State, how How) bool {
	if !how.HasBitmapUUID || how.Forced || n.Disk != UpToDate {
		return false
	}
	if n.Role == Primary && (!n.Conn.Established() || n.PeerDisk.Gone()) && (o.Role != Primary || o.Disk != UpToDate) {
		return true
	}
	if o.Conn.Established() && n.PeerDisk < Inconsistent && o.Peer != Primary && n.Peer == Primary {
		return true
	}
	parted := o.Conn.Established() && o.PeerDisk.Usable() && (!n.Conn.Established() || n.PeerDisk.Gone())
	return parted && how.PeerIsCurrent && (n.Role == Primary || n.Peer == Primary)
}

// overwritesPeer says that the source of a resync that was asked for knows that the peer will be its target: the peer
// has consented, or has heard the consent. A peer that has not heard it goes on with good data, and as a
// Primary with newer data as soon as contact is lost; a generation begun for it meanwhile would be a
// split brain although no data differs, and bits set for it would be left over.
func overwritesPeer(o, n State, how How) bool {
	return n.Conn == StartingSyncS && (how.Heard || o.Conn != StartingSyncS && how.Reply == nil)
}

// endsFreezeAlone says that a freeze ends, and the peer that it waited for is not back with its data: the
// generation that was remembered starts now. (The kernel's driver starts it in any case when it is
// told to resume, and both nodes then resync nothing at the next connect.)
func endsFreezeAlone(o, n State, how How) bool {
	return how.Pending && !how.HasBitmapUUID && o.Suspended() && !n.Suspended() && n.Disk == UpToDate &&
		!(n.Conn.Established() && n.PeerDisk == UpToDate)
}

// startsSource says that a resync begins and this node is its source.
func startsSource(o, n State, _ How) bool {
	return (n.Conn == SyncSource || n.Conn == PausedSyncS) && o.Conn != SyncSource && o.Conn != PausedSyncS
}

// Consequences is everything that the transition from old to next owes, in
// order: what is remembered, its durable write, the packets, the work. It is the one
// place where packets that nobody asked for come from.
// Source: docs/drbd-wire.md 9.6, 14.5; docs/drbd-metadata.md 1.3, 5.3.
func Consequences(old, next State, how How) []Effect {
	do := due(nil, marked, old, next, how)
	memory := len(do)
	do = due(do, remembered, old, next, how)
	if next.Disk.Usable() && (len(do) > memory || !old.Disk.Usable() || old.Durable() != next.Durable()) {
		do = append(do, WriteMetadata{})
	}
	do = due(do, announced, old, next, how)
	return due(do, begun, old, next, how)
}

// due appends what those of the duties that are due owe.
func due(do []Effect, duties []duty, old, next State, how How) []Effect {
	for _, d := range duties {
		if d.due(old, next, how) {
			do = append(do, d.do(old, next, how)...)
		}
	}
	return do
}
