package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// sendProtocol opens the parameter exchange (wire 7.1).
func (e *Engine) sendProtocol() {
	q := &e.conn.queue[DataSock]
	p := wire.Protocol{Protocol: uint32(e.cfg.Net.Protocol)}
	if e.conn.discardMyData {
		p.ConnFlags |= wire.ConnDiscardMyData
	}
	body := p.Append(nil)
	q.packet(wire.CmdProtocol, 0, len(body))
	q.heads = append(q.heads, body...)
}

// peerProtocol checks that both nodes are configured alike.
func (e *Engine) peerProtocol(p wire.Protocol) error {
	own := e.cfg.Net.Protocol
	switch {
	case p.Protocol != uint32(own):
		return mismatchf("the peer uses protocol %s, this node %s: make them equal in both configurations",
			protocolName(p.Protocol), protocolName(uint32(own)))
	case p.AfterSB0Pri != 0 || p.AfterSB1Pri != 0 || p.AfterSB2Pri != 0:
		return mismatchf("the peer has an after-sb policy other than disconnect, this node has disconnect: make them equal in both configurations")
	case p.TwoPrimaries != 0:
		return mismatchf("the peer has allow-two-primaries, this node has not: remove it there")
	case p.IntegrityAlg != "":
		return mismatchf("the peer has data-integrity-alg %s, this node has none: remove it there", p.IntegrityAlg)
	}
	e.conn.protocolSeen = true
	e.conn.peerDryRun = p.ConnFlags&wire.ConnDryRun != 0
	return nil
}

func protocolName(p uint32) string {
	if p >= 1 && p <= 3 {
		return string(rune('A' + p - 1))
	}
	return "unknown"
}

// sendParameters sends a volume's share of the parameter block (wire 4.7).
func (e *Engine) sendParameters(v *volume) {
	q := e.sending(DataSock)
	if q == nil {
		return
	}
	e.sendSyncParam(v, q)
	e.sendSizes(v)
	e.sendUUIDs(v, false)
	st := v.state
	st.Conn = sm.WFConnection
	e.sendState(v, st)
}

func (e *Engine) sendSyncParam(v *volume, q *sendQueue) {
	o := v.cfg.Disk
	p := wire.SyncParam89{
		ResyncRate:   uint32(o.ResyncRate >> 10),
		VerifyAlg:    e.cfg.Net.VerifyAlg,
		CPlanAhead:   uint32(max(o.PlanAhead, 0) / (100 * time.Millisecond)),
		CDelayTarget: uint32(o.DelayTarget / (100 * time.Millisecond)),
		CFillTarget:  uint32(max(o.FillTarget, 0) >> 9),
		CMaxRate:     uint32(o.MaxRate >> 10),
	}
	body := p.Append(nil)
	q.packet(wire.CmdSyncParam89, v.number, len(body))
	q.heads = append(q.heads, body...)
}

// peerSyncParam checks the algorithms. The peer's resync rates are its own
// affair: the Target of a resync goes by its configuration.
func (e *Engine) peerSyncParam(v *volume, p wire.SyncParam89) error {
	if v.state.Conn != sm.WFReportParams {
		return nil
	}
	if p.VerifyAlg != e.cfg.Net.VerifyAlg {
		return mismatchf("the peer has verify-alg %q, this node %q: make them equal in both configurations", p.VerifyAlg, e.cfg.Net.VerifyAlg)
	}
	if p.CsumsAlg != "" {
		return mismatchf("the peer has csums-alg %s, this node has none: remove it there", p.CsumsAlg)
	}
	return nil
}

// hasDisk reports whether there is a disk whose metadata is known.
func (v *volume) hasDisk() bool { return v.attached && v.state.Disk >= sm.Negotiating }

// sendUUIDs sends P_UUIDS, if there is a disk.
func (e *Engine) sendUUIDs(v *volume, skip bool) {
	q := e.sending(DataSock)
	if q == nil || !v.hasDisk() {
		return
	}
	p := wire.UUIDs{Current: v.uuids.Current, Bitmap: v.uuids.Bitmap, History: v.uuids.History, Size: uint64(v.bm.Count())}
	for _, f := range []struct {
		on   bool
		flag wire.UUIDFlags
	}{
		{e.conn.discardMyData, wire.UUIDDiscardMyData},
		{v.crashed, wire.UUIDCrashedPrimary},
		{v.state.Disk == sm.Negotiating && v.restored == sm.Inconsistent, wire.UUIDInconsistent},
		{skip, wire.UUIDSkipInitialSync},
	} {
		if f.on {
			p.Flags |= f.flag
		}
	}
	q.packet(wire.CmdUUIDs, v.number, 48)
	q.heads = p.Append(q.heads)
}

// peerUUIDsReceived takes P_UUIDS (wire 7.4).
func (e *Engine) peerUUIDsReceived(v *volume, p wire.UUIDs) error {
	got := sm.PeerUUIDs{
		UUIDs: sm.UUIDs{Current: p.Current, Bitmap: p.Bitmap, History: p.History},
		Bits:  p.Size, Flags: uint64(p.Flags),
	}
	st := v.state
	if v.leftOut(p) {
		return fmt.Errorf("volume %d: the peer, Primary, has begun data generation %016X without this node's disk, which is %v", v.number, p.Current, st.Disk)
	}
	v.peerUUIDs, v.peerKnown = got, true
	if !st.ReadsLocally() && st.ReadsRemotely() {
		v.exposed = p.Current
	}
	if v.owed.len() > 0 {
		e.owedAdvance(v)
		e.quiesced(v)
	}
	if p.Flags&wire.UUIDSkipInitialSync != 0 {
		e.step(v, sm.PeerSkipsInitialSync{Fresh: v.uuids.Current == sm.JustCreated}, "the peer declares both disks equal")
	}
	return nil
}

// leftOut reports whether a Primary writes what this node's disk does not get: it has begun a generation on top of the data that both have, for it
// takes the disk for lost, and the disk is good. On the next connection they are compared. Of a disk that is being attached there it says what that has.
func (v *volume) leftOut(p wire.UUIDs) bool {
	return v.state.Conn == sm.Connected && v.state.Redundant() && v.state.Peer == sm.Primary && v.request == nil &&
		p.Flags&wire.UUIDSkipInitialSync == 0 && (p.Bitmap^v.uuids.Current)&^sm.RoleBit == 0
}

// endUsers is the way out for a Primary that refuses the data that there is.
const endUsers = ": if that is the newer, end the applications here, make this node Secondary and connect again"

// mayGoOnWith refuses data of the peer that the users of the device, who have no good disk here, have not seen. A generation
// that continues theirs may be for writes of theirs, if the connection broke before it was heard of, but it may as well be
// for those of others: a peer that was promoted meanwhile begins one, too. In either case the own disk is the older one from then on.
func (v *volume) mayGoOnWith(disk sm.Disk, current uint64) error {
	if !v.state.DataDiffers(disk, v.exposed, current) {
		return nil
	}
	if (v.peerUUIDs.Bitmap^v.exposed)&^sm.RoleBit == 0 {
		v.elsewhere = max(v.elsewhere, goneOn) // from what they have seen: with the disk that was here, there would be two generations of it
	}
	return v.mismatchf("this node is Primary on data %016X that the peer does not have (it has %016X)"+endUsers, v.exposed, current)
}

// keepsData refuses a decision after which the users of a Primary, who have no good disk here, would go on with other data than they had:
// that of the disk here if it is to be good now, or the peer's.
func (v *volume) keepsData(d sm.Decision) error {
	if v.state.Role != sm.Primary || v.state.ReadsLocally() {
		return nil
	}
	current := v.peerUUIDs.Current
	if d.Result > 0 {
		current = v.uuids.Current
		if v.elsewhere < goneOn && v.workedOn(current) {
			return nil // a generation that was taken back, and is on the disk all the same, is theirs, too
		}
	}
	if (v.exposed^current)&^sm.RoleBit == 0 {
		return nil
	}
	return v.mismatchf("this node is Primary on data %016X, and would go on with data %016X"+endUsers, v.exposed, current)
}

// sendState sends P_STATE: of the change that it is for, which may have waited for a superblock. A disk that is lost meanwhile is not announced any more as
// it was before. A disk that is being attached is none yet: the kernel's driver answers one that comes where
// none was, and would say nothing to one that it had heard of before (wire 9.6).
func (e *Engine) sendState(v *volume, st sm.State) {
	q := e.sending(DataSock)
	if q == nil {
		return
	}
	if v.state.Disk.Gone() {
		st.Disk = min(st.Disk, v.state.Disk)
	}
	if st.Disk == sm.Attaching || st.Disk == sm.Failed && !v.attached {
		st.Disk = sm.Diskless // the second was given up, and may stay Failed for long
	}
	q.packet(wire.CmdState, v.number, 4)
	q.heads = wire.State{Word: st.Word()}.Append(q.heads)
}

// peerState takes P_STATE: the handshake's decision is made here.
func (e *Engine) peerState(v *volume, word uint32) error {
	ev := sm.PeerState{Word: sm.FromWord(word), UUIDsKnown: v.peerKnown, UUIDFlags: v.peerUUIDs.Flags}
	ev.Granted, ev.MayBeAhead = v.grant != notGranted, e.cfg.Net.Protocol == ProtocolA
	ev.Leaving = v.request != nil && v.request.change == sm.DetachChange
	if v.peerKnown && v.state.PeerDisk != sm.Failed {
		if err := v.mayGoOnWith(ev.Word.Disk, v.peerUUIDs.Current); err != nil {
			return err // a disk that Failed is a state from before the identifiers came
		}
	}
	if v.bm != nil {
		ev.OOSBits = v.bm.Count()
	}
	if v.state.HandshakeDue(ev, e.rules(v)) {
		ev.Decision = e.decide(v, ev)
	}
	cause := "peer's state"
	if d := ev.Decision; d.Made() {
		cause = handshakeCause(d)
		if d.Err == nil {
			v.peerUUIDs.UUIDs, v.uuids, v.missedEnd = d.Peer, d.Self, d.MissedEnd
		}
		e.strayBits(v, d, ev.Word)
	}
	old := v.state
	if old.Conn.Syncing() && old.Conn.Source() && ev.Word.Conn == sm.Connected && ev.Word.Disk == sm.UpToDate {
		v.resync.target = targetDone
	}
	v.peerConn = ev.Word.Conn
	v.heardRole(ev.Word.Role)
	v.lazyGeneration = old.Conn == sm.WFReportParams
	e.step(v, ev, cause)
	v.lazyGeneration = false
	e.resyncProgress(v)
	v.peerGone = v.state.PeerDisk < sm.Inconsistent && ev.Word.Disk < sm.Inconsistent
	if ev.Decision.Made() {
		v.rules.ConsiderResync = false
	}
	if old.Conn < sm.Connected && v.state.ReadsRemotely() && !v.state.ReadsLocally() {
		v.exposed = v.peerUUIDs.Current
		if v.elsewhere != asking && v.elsewhere != answered && v.peerUUIDs.Bitmap == 0 {
			v.elsewhere = nowhere // no write of before has come to that disk
		}
	}
	if err := ev.Decision.Err; err != nil {
		e.notice(v, Error, ofVolume(err))
		e.conn.refused = err.Error()
	}
	e.introduced()
	return nil
}

// decide runs the handshake for one volume.
func (e *Engine) decide(v *volume, ev sm.PeerState) sm.Decision {
	in := sm.HandshakeInput{
		Self: v.uuids, SelfBits: uint64(v.bm.Count()), Peer: v.peerUUIDs, Crashed: v.crashed,
		Role: v.state.Role, PeerRole: ev.Word.Role, DiskNow: v.state.Disk,
		DiscardMy: e.conn.discardMyData, PeerDryRun: e.conn.peerDryRun,
		ResolveConflicts: e.conn.link.ResolveConflicts, FeatureWSame: e.conn.features&featureWSame != 0,
	}
	in.Disk, in.PeerDisk = v.compared(ev.Word.Disk)
	d := sm.Handshake(in)
	if d.Err == nil {
		d.Err = v.keepsData(d)
	}
	if d.Err == nil {
		d.Err = e.agreeBlocks(v, d, ev.Word.Role)
	}
	return d
}

// compared are the disks that a handshake is about, the peer's being what it says: of one that is being negotiated, what its metadata makes of it.
func (v *volume) compared(said sm.Disk) (own, peer sm.Disk) {
	own, peer = v.state.Disk, said
	if own == sm.Negotiating {
		own = v.restored
	}
	if peer == sm.Negotiating {
		peer = sm.Consistent
		if v.peerUUIDs.Flags&sm.FlagInconsistent != 0 {
			peer = sm.Inconsistent
		}
	}
	return own, peer
}

func handshakeCause(d sm.Decision) string {
	switch {
	case d.Err != nil:
		return d.Err.Error()
	case d.Result == 0:
		return "handshake: data identical"
	case d.Result > 0 && d.FullSync:
		return "handshake: full resync from here"
	case d.Result > 0:
		return "handshake: resync from here"
	case d.FullSync:
		return "handshake: full resync from the peer"
	}
	return "handshake: resync from the peer"
}

// introduced ends the handshake of a volume; that of the connection ends when every
// volume has left WFReportParams. One that the peer does not have never does.
func (e *Engine) introduced() {
	e.discardEnds()
	e.turnStates()
}

// discardEnds ends the order to discard the own data: it is for one handshake, and the peer has to hear of it, too. The
// parameters that say so may wait for a superblock.
func (e *Engine) discardEnds() {
	if !slices.ContainsFunc(e.vols, (*volume).greets) {
		e.conn.discardMyData = false
	}
}

// greets reports whether the volume's handshake is under way, or the peer has not been sent the own parameters yet.
func (v *volume) greets() bool {
	for i := range v.effects.len() {
		if _, greeting := v.effects.at(i).effect.(sm.SendParameters); greeting {
			return true
		}
	}
	return v.state.Conn == sm.WFReportParams
}

// turnStates goes on with what had to wait for a handshake, well or not, or the
// application's I/O to end.
func (e *Engine) turnStates() {
	for _, v := range e.vols {
		if v.attach != nil && v.attach.ready {
			v.attach.use(e)
		}
	}
	e.commandsAdvance()
}
