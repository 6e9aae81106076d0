package engine

import (
	"fmt"
	"slices"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// queuedEffect is an effect that waits for the volume's metadata: what others
// may see of a change, only after the change is durable.
type queuedEffect struct {
	effect sm.Effect
	state  sm.State // that the transition led to
	ticket uint64   // superblock write that must be done
	link   uint64   // generation of the connection that it belongs to, if it is a packet or ends that connection
	asks   *request // of a SendRequest
}

// step applies one event to a volume and does what follows from it.
func (e *Engine) step(v *volume, ev sm.Event, cause string) error {
	return e.stepFor(v, ev, cause, nil)
}

// stepFor is step on behalf of a command.
func (e *Engine) stepFor(v *volume, ev sm.Event, cause string, cmd *command) error {
	old := v.state
	err := e.transition(v, ev, cause, cmd)
	e.follow(v, old)
	return err
}

// stepVolumes applies one event to several volumes, each of which is in its new state before anything follows from that: what is done for one may
// end the connection for all. When that fails or is given up as lost, the first transition ends it at once, and takes the others along: see closeConn.
func (e *Engine) stepVolumes(vols []*volume, ev sm.Event, cause string, cmd *command) (first error) {
	before := make([]sm.State, len(vols))
	for i, v := range vols {
		before[i] = v.state
		if err := e.transition(v, ev, cause, cmd); first == nil {
			first = err
		}
	}
	for i, v := range vols {
		e.follow(v, before[i])
	}
	return first
}

// transition moves a volume to its next state, and queues what follows.
func (e *Engine) transition(v *volume, ev sm.Event, cause string, cmd *command) error {
	old := v.state
	next, effects, err := old.Step(ev, e.rules(v))
	if _, illegal := err.(*sm.IllegalTransition); illegal {
		panic(fmt.Sprintf("engine: volume %d: %T: %v", v.number, ev, err))
	}
	v.state = next
	if next != old {
		e.changed(v, old, cause)
	}
	if cmd != nil && old.Role != next.Role {
		v.promotedBy = cmd.id
	}
	for _, eff := range effects {
		if reply, ok := eff.(sm.SendReply); ok && err != nil {
			e.sendReply(v, reply) // a refusal states nothing that has to be durable first
			continue
		}
		if !e.remember(v, eff) {
			q := queuedEffect{effect: eff, state: next, ticket: v.meta.issued, link: e.conn.generation}
			if ask, ok := eff.(sm.SendRequest); ok {
				q.asks = e.newRequest(v, ask, cmd)
			}
			v.effects.push(q)
		}
	}
	return err
}

// follow does what follows from a transition.
func (e *Engine) follow(v *volume, old sm.State) {
	changed := v.state != old
	e.runEffects(v)
	if changed {
		e.owedAdvance(v)
		e.openGate(v)
		e.retryLog(v)
	}
}

// rules are what the state of a volume depends on beside itself.
func (e *Engine) rules(v *volume) sm.Rules {
	r := v.rules
	r.HaveVerifyAlg = false // verify is not served yet: a peer that asks is refused by this rule
	r.ResolveConflicts = e.conn.link.ResolveConflicts
	r.HasBitmapUUID = v.generations().Bitmap != 0
	r.PeerIsCurrent = v.peerIsCurrent()
	r.Negotiated = v.restored
	if v.state.Role == sm.Primary {
		// What was written while the disk was away is on the peer's alone.
		r.Negotiated = min(r.Negotiated, sm.Outdated)
	}
	r.PeerWentOn = v.uuids.Current != 0 && (v.peerUUIDs.Bitmap^v.uuids.Current)&^sm.RoleBit == 0
	r.Waiting = v.waitingUsers()
	r.Handshaking = false
	for _, o := range e.vols {
		r.Handshaking = r.Handshaking || o.state.Conn == sm.WFReportParams
		r.OtherPeerPrimary = r.OtherPeerPrimary || o != v && o.state.Peer == sm.Primary
	}
	return r
}

// changed logs a transition and keeps what follows from it in memory.
func (e *Engine) changed(v *volume, old sm.State, cause string) {
	e.warnUnreceived(v, old)
	e.warnForced(v, old)
	level := Info
	switch {
	case old.PeerDisk == sm.UpToDate && v.state.PeerDisk != sm.UpToDate, old.Disk == sm.UpToDate && v.state.Disk != sm.UpToDate:
		level = Warn
	}
	e.emit(StateChange{Vol: v.number, From: old, To: v.state, Cause: cause, Level: level})
	if v.state.Conn != old.Conn || v.state.Disk != old.Disk {
		v.turned = e.now
	}
	if v.state.Conn != old.Conn {
		v.since, v.unheard = e.now, 0
		switch {
		case !v.state.Conn.BitmapExchange():
			v.exchange.reset()
		case !old.Conn.BitmapExchange():
			v.exchange.from, v.exchange.before = e.now, e.conn.bitmapBytes
		}
	}
	switch was, is := old.Conn.Syncing(), v.state.Conn.Syncing(); {
	case was && !is:
		v.resync.outdate()
	case is && !was:
		v.resync.run++
	}
	if v.state.Role == sm.Primary || v.state.Conn > sm.Connected {
		v.bits = bitsCount
	}
	if v.state.PeerDisk != sm.UpToDate {
		v.refusedAt = 0
	}
	v.expose(old)
	if v.fullSync && old.Disk == sm.Inconsistent && v.state.Disk == sm.Failed {
		v.super.Flags = v.super.Flags.Inconsistent() // it was to be overwritten by order: it is, when it comes back
	}
	e.seekData(v, old)
	if v.state.Redundant() {
		v.answeredAlone = v.answeredAlone && old.Redundant()
		v.crashed = false
	}
	e.usersFollow(v)
	if old.Role != sm.Primary && v.state.Role == sm.Primary {
		if v.attach != nil && v.peer.known && e.conn.up() {
			e.check(DataSock, e.disklessSize(v)) // the users of the device do not wait for the disk
		}
		v.exported = v.blockSize()
		e.emit(StartDevice{v.number, v.size})
	}
}

// remember does the effects that only change memory, at once. A superblock
// write is among them: answers to the application wait for it from now on.
func (e *Engine) remember(v *volume, eff sm.Effect) bool {
	primary := v.state.Role == sm.Primary
	switch eff.(type) {
	case sm.MarkUnacked:
		e.markUnconfirmed(v)
	case sm.SetAllBits:
		if v.bm != nil {
			v.bm.SetAll()
			v.bits, v.fullSync = bitsCount, true
		}
	case sm.ClearAllBits:
		v.bm.ClearAll()
		v.tidy = true
	case sm.MarkConsiderResync:
		v.rules.ConsiderResync = true
	case sm.NewCurrentUUID:
		if v.lazyGeneration && v.servesDiskless() {
			return true // with its first write: see startGenerationFor
		}
		before := v.uuids
		v.uuids = v.generations().NewCurrent(e.newUUID(), primary)
		e.beganGeneration(v, before)
		e.usersKnow(v, before.Current)
		e.notice(v, Info, "new data generation "+v.uuids.String())
	case sm.RenewCurrentUUID:
		before := v.uuids
		v.uuids = v.uuids.Renew(e.newUUID(), primary)
		e.beganGeneration(v, before)
		e.usersKnow(v, before.Current)
		e.notice(v, Info, "new data generation "+v.uuids.String())
	case sm.RememberNewUUID:
		v.rules.NewUUIDPending = true
	case sm.ForgetNewUUID:
		v.rules.NewUUIDPending = false
	case sm.AdoptCurrentUUID:
		v.uuids = v.uuids.Adopt(v.peerUUIDs.Current, primary)
		v.peerUUIDs.UUIDs = v.uuids
	case sm.StartSourceUUIDs:
		v.uuids, v.syncUUID = v.generations().StartSource()
	case sm.StartTargetUUIDs:
		e.usersLose(v)
		v.uuids = v.uuids.StartTarget(v.syncUUID, primary)
	case sm.FinishSourceUUIDs:
		v.resync.inSync()
		v.uuids = v.uuids.FinishSource()
		v.peerUUIDs.UUIDs = v.uuids // it ends with the same
		v.tidy = true
	case sm.FinishTargetUUIDs:
		v.uuids = v.uuids.FinishTarget(v.peerUUIDs.UUIDs, primary)
		v.peerUUIDs.UUIDs = v.uuids
		v.tidy = true
	case sm.SetRoleBit:
		v.uuids = v.uuids.WithRole(primary)
	case sm.ConsentFence:
		e.consents++
		v.unheard = e.consents
		return false // it follows the reply
	case sm.CloseConn:
		if c := v.state.Conn; !c.Trouble() || c == sm.TearDown {
			return false // what was said before goes out first
		}
		e.closeConn(v, nil)
	case sm.WriteMetadata:
		e.commit(v)
	default:
		return false
	}
	return true
}

// newUUID is a random generation identifier that is none of the special values.
func (e *Engine) newUUID() uint64 {
	for {
		if u := e.cfg.Random() &^ sm.RoleBit; u != 0 && u != sm.JustCreated {
			return u
		}
	}
}

// commit makes generations and flags durable.
func (e *Engine) commit(v *volume) {
	if !v.attached {
		return
	}
	release := e.holdAnswers(v)
	v.committing++
	pages := noPages
	if v.tidy {
		pages, v.tidy = lazyPages, false
	}
	e.writeSuper(v, pages, func(e *Engine, err Errno) {
		v.committing--
		e.runEffects(v)
		e.runAllEffects()
		release()
		e.unpark(v)
	})
}

// settling reports whether a change of the volume is not yet known to others, so
// that nothing that depends on it may be sent.
func (e *Engine) settling(v *volume) bool { return v.effects.len() > 0 }

// runEffects does the effects whose metadata is durable, in order.
func (e *Engine) runEffects(v *volume) {
	if v.running {
		return
	}
	v.running = true
	for v.effects.len() > 0 {
		q := *v.effects.front()
		if v.attached && q.ticket > v.meta.durable || e.waitsForOthers(v, q.effect) {
			break
		}
		v.effects.pop()
		e.do(v, q)
	}
	v.running = false
	if v.effects.len() == 0 {
		e.openGate(v)
		e.relaunch(v)
		e.finishFullSync(v)
		e.resyncProgress(v)
		e.lateSyncUUID(v)
		e.runAllEffects()
	}
}

// waitsForOthers reports whether an effect is for the whole connection, and other volumes are not ready for it. The peer leaves, and not every volume has made
// that durable: one answer speaks for all of them. Or this node asks to leave, and the peer has not been told yet what another volume is.
func (e *Engine) waitsForOthers(v *volume, eff sm.Effect) bool {
	if ask, is := eff.(sm.SendRequest); is && ask.Connection {
		return slices.ContainsFunc(e.vols, func(o *volume) bool { return o != v && e.settling(o) })
	}
	reply, is := eff.(sm.SendReply)
	_, closes := eff.(sm.CloseConn)
	if v.state.Conn != sm.TearDown || !closes && !(is && reply.Connection) {
		return false
	}
	return slices.ContainsFunc(e.vols, func(o *volume) bool { return o != v && (!o.state.Conn.Ending() || o.committing > 0) })
}

// runAllEffects goes on with effects that have waited for another volume.
func (e *Engine) runAllEffects() {
	for _, v := range e.vols {
		if v.effects.len() > 0 {
			e.runEffects(v)
		}
	}
}

// do carries one effect out.
func (e *Engine) do(v *volume, q queuedEffect) {
	switch eff := q.effect.(type) {
	case sm.ClearBitmapUUID:
		v.uuids.Bitmap = 0 // the peer has been told what it was; it becomes no history
		v.peerUUIDs.UUIDs = v.uuids
		e.commit(v)
	case sm.StartReceiver:
		e.startReceiver()
	case sm.CloseConn:
		if q.link == e.conn.generation { // the next one has nothing to do with it
			e.closeConn(v, eff.Why)
		}
	case sm.DropNetConfig:
		e.conn.backoff, e.conn.owing = 0, 0                                          // the next search is an order
		e.conn.discardMyData = e.conn.discardMyData && v.state.Conn != sm.StandAlone // not that of a new order
	case sm.StartResync:
		e.startResync(v, eff.Paused)
	case sm.PauseResync:
		e.pauseResync(v, true)
	case sm.ResumeResync:
		e.pauseResync(v, false)
	case sm.StopResync:
		e.stopResync(v)
	case sm.ReleaseDisk:
		e.releaseDisk(v)
	case sm.StartVerify, sm.StopVerify, sm.FencePeer:
		// refused before they can come up: verify and fencing are not served yet
	default:
		if q.link == e.conn.generation {
			e.tell(v, q) // the peer of another connection has nothing to do with it
		}
	}
}

// tell carries an effect out that is a packet.
func (e *Engine) tell(v *volume, q queuedEffect) {
	switch eff := q.effect.(type) {
	case sm.SendParameters:
		e.sendParameters(v)
		e.discardEnds()
	case sm.SendState:
		e.sendState(v, q.state)
	case sm.SendUUIDs:
		e.sendUUIDs(v, eff.SkipInitialSync)
	case sm.SendSizes:
		e.sendSizes(v)
	case sm.SendSyncUUID:
		e.sendSyncUUID(v)
	case sm.SendBitmap:
		e.wantBitmap(v)
	case sm.SendRequest:
		e.sendRequest(v, q.asks)
	case sm.SendLeave:
		e.sendChange(wire.CmdConnStChgReq, 0, sm.DisconnectChange)
	case sm.SendReply:
		e.sendReply(v, eff)
	case sm.SendPing:
		e.ping()
	case sm.ConsentFence:
		e.fenceConsent(v)
	default:
		panic(fmt.Sprintf("engine: unknown effect %T", eff))
	}
}

// finishFullSync writes the bitmap that was set as a whole, and only then takes
// the mark off that makes it void (metadata 3.4).
func (e *Engine) finishFullSync(v *volume) {
	if !v.fullSync || !v.attached || v.state.Disk.Gone() || v.fullSyncing {
		return
	}
	v.fullSyncing = true
	e.writeSuper(v, noPages, func(e *Engine, err Errno) {
		e.writePages(v, changedPages, func(e *Engine, err Errno) {
			v.fullSync = v.fullSync && err != OK
			e.writeSuper(v, noPages, func(e *Engine, err2 Errno) { e.fullSyncDone(v, max(err, err2)) })
		})
	})
}

func (e *Engine) fullSyncDone(v *volume, err Errno) {
	v.fullSyncing = false
	if v.state.Conn.StartingSync() && v.unheard == 0 {
		e.step(v, sm.BitsSet{Failed: err != OK}, "the whole bitmap is set")
	}
	e.startBitmap(v)
}

// resyncDone ends a resync. A block that failed and was written after that, by the application or when it was asked for
// again, has lost its bit: without a bit, nothing is missing.
func (e *Engine) resyncDone(v *volume) {
	e.step(v, sm.ResyncDone{Failed: v.bm.Count() > 0}, "resync done")
}
