package statemachine

import (
	"fmt"
	"slices"
)

const pairBlocks = 4

// pairNode is a toy engine around one State: four blocks of data (a version each), a bitmap, the
// generations, and a disk that remembers what WriteMetadata wrote. It does what the effects say
// and nothing else, so that two of them show whether the effects suffice.
type pairNode struct {
	name string
	peer *pairNode
	s    State
	u    UUIDs
	data [pairBlocks]int
	bits [pairBlocks]bool

	unacked  [pairBlocks]bool // sent as data, not confirmed
	written  [pairBlocks]int  // by the applications here since the promotion; 0: nothing
	complete [pairBlocks]int  // what of it they know to be done

	contested bool // the other node was Primary at the same time: nothing is promised

	disk     pairMetadata
	attached Disk // Rules.Negotiated

	theirs                    PeerUUIDs
	known, consider, up       bool
	ownSent, peerSent         bool // bitmaps of this exchange
	fencing, asking, rc, pend bool
	early                     *uint64 // P_SYNC_UUID that came before its time
	syncUUID, exposed         uint64
	missedEnd                 uint64 // of the last handshake
	asked                     Change // of the request on its way

	inbox   []any   // packets on their way here
	todo    []Event // local work that ends some time
	why     error   // of the last CloseConn
	refused error   // of the last handshake
	log     func(string, ...any)
	rnd     *uint64
}

// pairMetadata is what survives a crash: the bitmap is written with every bit that is set.
type pairMetadata struct {
	there   bool
	u       UUIDs
	flags   Durable
	full    bool
	crashed bool
}

// The packets of the pair.
type (
	pktState   struct{ word uint32 }
	pktUUIDs   PeerUUIDs
	pktSync    struct{ uuid uint64 }
	pktBitmap  struct{ bits [pairBlocks]bool }
	pktRequest PeerRequest
	pktReply   PeerReply
	pktWrite   struct{ block, version int }
	pktOOS     struct{ block int }
	pktAck     struct {
		block int
		ok    bool
	}
	pktPing   struct{}
	pktPong   struct{}
	pktHear   struct{}
	pktHeard  struct{}
	pktAsk    struct{ block int }
	pktResync struct{ block, version int }
	pktDone   struct{ block int }
	pktClosed struct{}
)

func (n *pairNode) random() uint64 { *n.rnd += 0x10; return *n.rnd << 8 }

func (n *pairNode) primary() bool { return n.s.Role == Primary }

func (n *pairNode) rules() Rules {
	return Rules{ResolveConflicts: n.rc, HasBitmapUUID: n.u.CatchUp(n.missedEnd).Bitmap != 0, ConsiderResync: n.consider,
		Negotiated: n.negotiated(), Handshaking: n.s.Conn == WFReportParams && n.up, Unconfirmed: n.unacked != [pairBlocks]bool{}}
}

// negotiated is what a disk that is being negotiated is worth: below applications that went on without it, it is old.
func (n *pairNode) negotiated() Disk {
	if n.primary() {
		return min(n.attached, Outdated)
	}
	return n.attached
}

// otherData is the answer to data that is not what the applications had before the disk was lost.
const otherData Refusal = "other data than was in use"

// keeps refuses a decision after which applications without a good disk here would go on with other data than they had.
func (n *pairNode) keeps(d *Decision) {
	if d.Err != nil || !n.primary() || n.s.ReadsLocally() {
		return
	}
	current := n.theirs.Current
	if d.Result > 0 {
		current = n.u.Current
	}
	if (n.exposed^current)&^RoleBit != 0 {
		d.Err = otherData
	}
}

// step applies an event and does what follows. A refusal changes nothing.
func (n *pairNode) step(ev Event) error {
	old := n.s
	next, do, err := n.s.Step(ev, n.rules())
	n.s = next
	n.log("%s %T%+v: %v %v %v", n.name, ev, ev, n.s, err, effectStrings(do))
	if !old.Conn.BitmapExchange() && next.Conn.BitmapExchange() {
		n.ownSent, n.peerSent = false, false
	}
	if next.Role != old.Role {
		n.written, n.complete, n.contested = [pairBlocks]int{}, [pairBlocks]int{}, false
		if n.primary() && n.peer.primary() {
			n.contested, n.peer.contested = true, true
		}
	}
	if next.Disk.Usable() {
		defer func() { n.exposed = n.u.Current }()
	}
	if next.Redundant() {
		n.disk.crashed = false
	}
	for _, e := range do {
		n.perform(e)
	}
	if n.early != nil && n.s != old {
		uuid := *n.early
		n.early = nil
		n.receiveSync(uuid)
	}
	return err
}

func (n *pairNode) send(p any) {
	if n.up && n.peer.up {
		n.peer.inbox = append(n.peer.inbox, p)
	}
}

func (n *pairNode) count() int64 {
	var c int64
	for _, set := range n.bits {
		if set {
			c++
		}
	}
	return c
}

func (n *pairNode) sendUUIDs(flags uint64) {
	if n.s.Disk < Negotiating {
		return
	}
	if n.disk.crashed {
		flags |= FlagCrashedPrimary
	}
	if n.s.Disk == Negotiating && n.attached == Inconsistent {
		flags |= FlagInconsistent
	}
	n.send(pktUUIDs{n.u, uint64(n.count()), flags})
}

func (n *pairNode) perform(e Effect) {
	switch e := e.(type) {
	case MarkUnacked:
		for b, lost := range n.unacked {
			n.bits[b] = n.bits[b] || lost
			if lost && !n.s.Conn.Established() {
				n.answered(b, n.s.ReadsLocally() && n.data[b] == n.written[b]) // a disk that is a target will be overwritten
			}
		}
	case SetAllBits:
		n.bits = [pairBlocks]bool{true, true, true, true}
		if n.s.Conn.StartingSync() {
			n.todo = append(n.todo, BitsSet{})
		}
	case ClearAllBits:
		n.bits = [pairBlocks]bool{}
	case MarkConsiderResync:
		n.consider = true
	case SendParameters:
		n.sendUUIDs(0)
		first := n.s
		first.Conn = WFConnection
		n.send(pktState{first.Word()})
	case SendState:
		n.send(pktState{n.s.Word()})
	case SendUUIDs:
		flags := uint64(0)
		if e.SkipInitialSync {
			flags = FlagSkipInitialSync
		}
		n.sendUUIDs(flags)
	case SendSyncUUID:
		n.send(pktSync{n.syncUUID})
	case SendBitmap:
		n.send(pktBitmap{n.bits})
		n.ownSent = true
		n.todo = append(n.todo, OwnBitmapSent{PeerReceived: n.peerSent})
	case SendRequest:
		n.pend, n.asked = true, e.Change
		n.send(pktRequest{Change: e.Change, Connection: e.Connection})
	case SendLeave:
		n.send(pktRequest{Change: DisconnectChange, Connection: true})
	case SendReply:
		n.send(pktReply{Code: e.Code})
	case SendPing:
		n.send(pktPing{})
	case ConsentFence:
		n.send(pktHear{})
	case StartReceiver:
		n.todo = append(n.todo, ReceiverStarted{})
	case CloseConn:
		n.why = e.Why
		n.close()
	case StopResync:
		n.fencing, n.asking = false, false
	case ReleaseDisk:
		n.todo = append(n.todo, DetachDone{})
	case WriteMetadata:
		n.disk = pairMetadata{true, n.u, n.s.Durable(), n.disk.full, n.disk.crashed}
	default:
		n.performUUIDs(e)
	}
}

func (n *pairNode) performUUIDs(e Effect) {
	switch e := e.(type) {
	case NewCurrentUUID:
		n.u = n.u.CatchUp(n.missedEnd).NewCurrent(n.random(), n.primary())
	case RenewCurrentUUID:
		n.u = n.u.Renew(n.random(), n.primary())
	case AdoptCurrentUUID:
		n.u = n.u.Adopt(n.theirs.Current, n.primary())
		n.theirs.UUIDs = n.u
	case ClearBitmapUUID:
		n.u = n.u.ClearBitmap()
		n.theirs.UUIDs = n.u
	case StartSourceUUIDs:
		n.u, n.syncUUID = n.u.CatchUp(n.missedEnd).StartSource()
	case StartTargetUUIDs:
		n.u = n.u.StartTarget(n.syncUUID, n.primary())
	case FinishSourceUUIDs:
		n.u = n.u.FinishSource()
		n.theirs.UUIDs = n.u
	case FinishTargetUUIDs:
		n.u = n.u.FinishTarget(n.theirs.UUIDs, n.primary())
		n.theirs.UUIDs = n.u
	case SetRoleBit:
		n.u = n.u.WithRole(e.Primary)
	case SendSizes, StartResync, PauseResync, ResumeResync, DropNetConfig, StartVerify, StopVerify:
	default:
		panic(fmt.Sprintf("the pair does not know what to do for %T", e))
	}
}

// close is this side's end of the connection: what it sent arrives, what it was sent does not.
func (n *pairNode) close() {
	n.send(pktClosed{})
	n.down()
	n.todo = append(n.todo, Cleaned{})
}

func (n *pairNode) down() {
	n.inbox, n.up, n.known, n.early, n.pend = nil, false, false, nil, false
	n.todo = slices.DeleteFunc(n.todo, func(ev Event) bool { _, sent := ev.(OwnBitmapSent); return sent })
}

// work does one thing that is due here; false if there is none.
func (n *pairNode) work() bool {
	switch {
	case len(n.todo) > 0:
		ev := n.todo[0]
		n.todo = n.todo[1:]
		if sent, ok := ev.(OwnBitmapSent); ok {
			ev = OwnBitmapSent{PeerReceived: n.peerSent || sent.PeerReceived}
		}
		n.step(ev)
	case len(n.inbox) > 0:
		p := n.inbox[0]
		n.inbox = n.inbox[1:]
		n.receive(p)
	case n.s.Conn == SyncTarget && !n.asking && !n.fencing:
		n.resync()
	default:
		return false
	}
	return true
}

// resync is the Target's driving: ask for a block that is marked, or end.
func (n *pairNode) resync() {
	for b, set := range n.bits {
		if set {
			n.asking = true
			n.send(pktAsk{b})
			return
		}
	}
	n.fencing = true
	n.send(pktPing{})
}

func (n *pairNode) receive(p any) {
	switch p := p.(type) {
	case pktState:
		n.receiveState(FromWord(p.word))
	case pktUUIDs:
		n.theirs, n.known = PeerUUIDs(p), true
		if !n.s.Disk.Usable() && n.s.ReadsRemotely() {
			n.exposed = p.Current
		}
		if p.Flags&FlagSkipInitialSync != 0 {
			n.step(PeerSkipsInitialSync{n.u.Current == JustCreated})
		}
	case pktSync:
		n.receiveSync(p.uuid)
	case pktBitmap:
		for b, set := range p.bits {
			n.bits[b] = n.bits[b] || set
		}
		n.peerSent = true
		n.step(PeerBitmap{OwnSent: n.ownSent && !slices.ContainsFunc(n.todo, func(ev Event) bool { _, sent := ev.(OwnBitmapSent); return sent })})
	case pktRequest:
		ev := PeerRequest(p)
		ev.Crossing = n.pend
		n.step(ev)
	case pktReply:
		n.pend = false
		n.step(PeerReply{n.asked, p.Code})
	case pktClosed:
		n.up = false
		n.step(PeerLost{BrokenPipe})
	default:
		n.receiveData(p)
	}
}

func (n *pairNode) receiveSync(uuid uint64) {
	n.syncUUID = uuid
	if n.step(SyncUUIDReceived{}) == InTransientState {
		n.early = &uuid
	}
}

func (n *pairNode) receiveState(word State) {
	ev := PeerState{Granted: true, MayBeAhead: true, Word: word, UUIDsKnown: n.known, UUIDFlags: n.theirs.Flags, OOSBits: n.count()}
	if n.known && n.s.PeerDisk != Failed && n.s.DataDiffers(word.Disk, n.exposed, n.theirs.Current) {
		n.step(Refused{otherData})
		return
	}
	if n.s.HandshakeDue(ev, n.rules()) {
		own := n.s.Disk
		if own == Negotiating {
			own = n.attached
		}
		ev.Decision = Handshake(HandshakeInput{
			Self: n.u, SelfBits: uint64(n.count()), Peer: n.theirs, Crashed: n.disk.crashed,
			Role: n.s.Role, PeerRole: word.Role, Disk: own, DiskNow: n.s.Disk, PeerDisk: ev.realDisk(),
			ResolveConflicts: n.rc, FeatureWSame: true,
		})
		n.keeps(&ev.Decision)
		n.log("%s decides %+v", n.name, ev.Decision)
		if n.refused = ev.Decision.Err; n.refused == nil {
			n.u, n.missedEnd = ev.Decision.Self, ev.Decision.MissedEnd
		}
	}
	due := ev.Decision.Made()
	n.step(ev)
	if n.s.Conn.Syncing() && n.s.Conn.Source() && word.Conn == Connected && word.Disk == UpToDate && n.count() == 0 {
		n.step(ResyncDone{})
	}
	if due {
		n.consider = false
	}
}

func (n *pairNode) receiveData(p any) {
	switch p := p.(type) {
	case pktWrite:
		switch {
		case n.s.WritesLocally():
			n.data[p.block] = p.version
			n.bits[p.block] = n.bits[p.block] || n.s.PeerDisk < Inconsistent // the only disk there is
		case n.s.Disk == Negotiating:
			n.bits[p.block] = true
		}
		n.send(pktAck{p.block, n.s.WritesLocally()})
	case pktAck:
		n.answered(p.block, p.ok || n.s.ReadsLocally() && n.data[p.block] == n.written[p.block])
		n.bits[p.block] = n.bits[p.block] || !p.ok
	case pktOOS:
		n.bits[p.block] = true
	case pktPing:
		n.send(pktPong{})
	case pktPong:
		if n.fencing {
			n.fencing = false
			n.step(ResyncDone{})
		}
	case pktHear:
		n.send(pktHeard{})
	case pktHeard:
		n.step(ConsentHeard{})
	case pktAsk:
		if n.s.Disk == UpToDate {
			n.send(pktResync{p.block, n.data[p.block]})
		}
	case pktResync:
		n.asking = false
		if n.s.Disk == Inconsistent {
			n.data[p.block], n.bits[p.block] = p.version, false
			n.send(pktDone{p.block})
		}
	case pktDone:
		n.bits[p.block] = false
	default:
		panic(fmt.Sprintf("the pair does not know %T", p))
	}
}
