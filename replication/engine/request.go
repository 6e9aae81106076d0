package engine

import (
	"errors"
	"slices"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// request is a change that the peer is asked for. It waits for an answer from the
// moment that it is decided on, although the packet may have to wait for metadata.
type request struct {
	change     sm.Change
	connection bool      // of all volumes
	good       []*volume // of one of the connection: whose own disk is good
	cmd        *command
	since      Instant // when it was sent; Never before
	quiet      bool    // no write is on its way: see giveUpLater
}

// waits reports whether the request is not sent before everything is confirmed.
func (r *request) waits() bool { return r.quiet && r.since == Never }

func (e *Engine) newRequest(v *volume, ask sm.SendRequest, cmd *command) *request {
	r := &request{change: ask.Change, connection: ask.Connection, cmd: cmd, since: Never}
	if r.connection {
		e.conn.request = r
		for _, o := range e.vols {
			if o.state.Disk > sm.Outdated {
				r.good = append(r.good, o)
			}
		}
	} else {
		v.request = r
	}
	if cmd != nil {
		cmd.waiting++
	}
	return r
}

// sendRequest asks the peer for a change, unless the answer has been found
// without it: see retryRequests.
func (e *Engine) sendRequest(v *volume, r *request) {
	if !e.conn.up() || r != v.request && r != e.conn.request || !r.connection && e.giveUpLater(v, r) {
		return
	}
	r.since = e.now
	code, vol, replies := wire.CmdStateChgReq, v.number, &v.replies
	if r.connection {
		code, vol, replies = wire.CmdConnStChgReq, 0, &e.conn.replies
	}
	*replies++
	e.sendChange(code, vol, r.change)
}

// sendChange tells the peer of a change that this node wishes.
func (e *Engine) sendChange(code wire.Cmd, vol int, c sm.Change) {
	q := e.sending(DataSock)
	if q == nil {
		return
	}
	q.packet(code, vol, 8)
	q.heads = wire.StateChgReq{Mask: c.Mask, Val: c.Val}.Append(q.heads)
}

// peerReplies takes P_STATE_CHG_REPLY. The request may have been given up meanwhile.
func (e *Engine) peerReplies(v *volume, code int32) {
	r := v.request
	if r == nil {
		return
	}
	v.request = nil
	ev := sm.PeerReply{Change: r.change, Code: code}
	late := consentsLate(v, ev, e.rules(v))
	err := e.stepFor(v, ev, "the peer has agreed", r.cmd)
	if err == nil {
		err = late
	}
	e.answered(r, err)
	e.relaunch(v)
}

// consentsLate is why the consent to a change ends the connection: it has become impossible here meanwhile.
func consentsLate(v *volume, ev sm.PeerReply, rules sm.Rules) error {
	next, effects, _ := v.state.Step(ev, rules)
	for _, eff := range effects {
		if end, ok := eff.(sm.CloseConn); ok && next.Conn == sm.ProtocolError {
			return end.Why
		}
	}
	return nil
}

var errLeftLate = errors.New("the peer lets this node go, and a volume here has lost its disk meanwhile")

// peerRepliesAll takes P_CONN_ST_CHG_REPLY. If one volume cannot do without the peer any more, all of them
// connect anew: the peer has gone.
func (e *Engine) peerRepliesAll(code int32) {
	r := e.conn.request
	if r == nil || code == sm.ConcurrentChange.RefusalCode() || !sm.Consents(code) && e.vols[0].state.Conn.Ending() {
		return // the peer has refused because it disconnects itself; retryRequests goes on
	}
	e.conn.request = nil
	for _, v := range e.vols {
		if v.unheard != 0 && !sm.Consents(code) {
			e.fenceConsent(v)
		}
	}
	ev := sm.PeerReply{Change: r.change, Code: code}
	for _, v := range e.vols {
		if next, _, _ := v.state.Step(ev, e.rules(v)); next.Conn == sm.ProtocolError {
			e.trouble(ProtocolError, errLeftLate)
			e.answered(r, sm.NoUpToDateDisk)
			return
		}
	}
	if !sm.Consents(code) {
		e.answered(r, e.stepFor(e.leavingOrder()[0], ev, "the peer has refused", r.cmd)) // or it is asked again, in another form
		return
	}
	err := e.stepVolumes(e.vols, ev, "the peer has agreed", r.cmd)
	e.outdates(r)
	e.answered(r, err)
}

// outdates has a leave not succeed before the own disks are Outdated, durably.
func (e *Engine) outdates(r *request) {
	if r.change != sm.DisconnectSelfChange {
		return
	}
	for _, v := range e.vols {
		if v.state.Disk == sm.Outdated || v.state.Disk.Gone() && slices.Contains(r.good, v) {
			e.conn.departure.outdates = append(e.conn.departure.outdates, v)
		}
	}
}

func (e *Engine) answered(r *request, err error) {
	if r.cmd != nil {
		r.cmd.waiting--
		if err != nil && r.cmd.err == nil {
			r.cmd.err = err
		}
	}
	e.commandsAdvance()
}

// leftUnheard is what a leave lacks that the peer has not answered, where a Primary goes on: the peer may have agreed, or it may have died, or
// lost its disk, and then this disk is the last good one; and the peer's may be Outdated already, or be good still. A peer that leaves itself
// has said before what it is.
func (e *Engine) leftUnheard(r *request) *LeaveError {
	const why = "the connection ended before the peer had agreed"
	for _, v := range e.vols {
		switch {
		case r.change == sm.DisconnectSelfChange && v.peerMayBePrimary() && (v.state.Disk > sm.Outdated || v.elsewhere == asking):
			return &LeaveError{Why: why}
		case r.change == sm.DisconnectPeerChange && v.state.Role == sm.Primary:
			return &LeaveError{Peers: true, Why: why}
		}
	}
	return nil
}

// comesBackGood reports whether the own disk is good, or is lost, and the metadata on it says that it is.
func (v *volume) comesBackGood() bool {
	return v.state.Disk > sm.Outdated || v.state.Disk.Gone() && v.meta.written.Has(metadata.WasUpToDate)
}

// retryRequests applies again, without a peer, what the peer was asked for
// when the connection ended.
func (e *Engine) retryRequests() {
	e.refusePromotions()
	if r := e.conn.request; r != nil {
		e.conn.request = nil
		e.outdates(r)
		if lacks := e.leftUnheard(r); lacks != nil {
			e.notice(nil, Warn, lacks.Error())
			e.conn.departure.lacks = lacks
		}
		var err error
		for _, v := range e.vols {
			if v.state.Conn != sm.Disconnecting && v.state.Conn != sm.StandAlone {
				err = e.stepFor(v, sm.Disconnect{Force: true}, "disconnect", r.cmd)
			}
		}
		e.answered(r, err)
	}
	var again []*command
	for _, v := range e.vols {
		r := v.request
		if v.request = nil; r == nil || r.cmd == nil {
			continue
		}
		r.cmd.waiting--
		if !slices.Contains(again, r.cmd) {
			again = append(again, r.cmd)
		}
	}
	for _, cmd := range again {
		e.retry(cmd)
	}
	e.commandsAdvance()
}

// refusePromotions ends the promotions that waited for the peer, if an administrator has disconnected the nodes meanwhile, here
// or there, or if the peer was Primary and had answered a ping since: one that the peer was to agree to is no order to go on without it. After
// any other end of the connection they are judged as without a peer, so that one order is enough where the Primary has died.
func (e *Engine) refusePromotions() {
	left := anyState(e.vols, sm.Disconnecting) || anyState(e.vols, sm.TearDown) || slices.ContainsFunc(e.cmds, (*command).leaves)
	for _, cmd := range e.cmds {
		if _, promote := cmd.ev.(sm.Promote); !promote || everyPrimary(cmd.vols) {
			continue
		}
		switch {
		case left:
			cmd.err, cmd.stepped, cmd.retryAt = sm.LeftMeanwhile, true, 0
		case cmd.primary == alive && cmd.retryAt != 0:
			cmd.err, cmd.retryAt = sm.PrimaryLost, 0
		}
	}
}

func anyState(vols []*volume, c sm.Conn) bool {
	return slices.ContainsFunc(vols, func(v *volume) bool { return v.state.Conn == c })
}

func everyPrimary(vols []*volume) bool {
	return !slices.ContainsFunc(vols, func(v *volume) bool { return v.state.Role != sm.Primary })
}

// retry applies a command again to all of its volumes, or to none: a promotion of some
// would begin generations that the others have to take back.
func (e *Engine) retry(cmd *command) {
	switch {
	case cmd.err != nil:
	case cmd.when != nil:
		cmd.stepped = false // its time comes
	default:
		e.stepCommand(cmd)
	}
}

// fenceConsent waits until the peer has heard that it will be overwritten: answers on
// meta are in order. A peer that has been asked to disconnect may have forgotten, by then, what it had asked for: that is
// over when it refuses.
func (e *Engine) fenceConsent(v *volume) {
	e.fence(consentFence, v, v.unheard)
}

func (e *Engine) consentFenced(v *volume, consent uint64) {
	if consent != 0 && v.unheard == consent && e.conn.request == nil {
		v.unheard = 0
		e.step(v, sm.ConsentHeard{}, "the peer has heard the answer")
	}
}

// sendReply answers a request of the peer, on meta.
func (e *Engine) sendReply(v *volume, r sm.SendReply) {
	if !e.conn.up() {
		return
	}
	if r.Connection {
		e.sendConsent(r.Code)
		return
	}
	times := 1
	if v.asked.open() {
		times, v.asked = 1+int(v.asked.again), peerAsk{}
	}
	q := &e.conn.queue[MetaSock]
	for range times {
		q.packet(wire.CmdStateChgReply, v.number, 4)
		q.heads = wire.StateChgReply{Code: r.Code}.Append(q.heads)
	}
}

// sendConsent lets the peer leave, once for all volumes. A peer that may have the last good copy is not told: it sees the connection end, as in
// a crash, and keeps it as it is.
func (e *Engine) sendConsent(code int32) {
	if e.lostDisk() || e.conn.replied && statesAll(e.vols, sm.TearDown) {
		return
	}
	e.conn.replied = true
	e.replyAll(code, 1)
}

// replyAll answers a request for the whole connection.
func (e *Engine) replyAll(code int32, times int) {
	q := &e.conn.queue[MetaSock]
	if !e.conn.up() {
		return
	}
	for range times {
		q.packet(wire.CmdConnStChgReply, 0, 4)
		q.heads = wire.StateChgReply{Code: code}.Append(q.heads)
	}
}

// lostDisk reports whether the disk of a Primary is no longer good, or one has failed, so that what it is to be does not stand on it.
func (e *Engine) lostDisk() bool {
	return slices.ContainsFunc(e.vols, func(v *volume) bool {
		return v.state.Role == sm.Primary && !v.state.ReadsLocally() || v.state.Disk == sm.Failed
	})
}

func statesAll(vols []*volume, c sm.Conn) bool {
	for _, v := range vols {
		if v.state.Conn != c {
			return false
		}
	}
	return true
}
