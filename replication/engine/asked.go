package engine

import (
	"slices"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// maxAgain bounds how often one request of the peer is answered again. The kernel's driver sends one twice at
// times, before it has heard an answer (wire 14.1).
const maxAgain = 7

// peerAsk is the one request for a change that the peer may have open here, of a volume or of the connection. It is open while it waits for
// the disk that it costs to be given up, or for the one that it leaves to the peers, and, if it is granted, until the answer is sent, which
// waits for a superblock. (Who lets the peer leave hears of no other request.)
type peerAsk struct {
	change sm.Change
	stage  askStage
	again  uint8   // times that the same was asked meanwhile, at most maxAgain
	until  Instant // that the disk has to answer: see proof
}

type askStage uint8

const (
	askNone    askStage = iota
	askWaits            // until everything is confirmed: see giveup.go
	askProves           // until the own disk has answered
	askAnswers          // granted; the answer is among the volume's effects
)

func (a *peerAsk) open() bool { return a.stage != askNone }

// grant is what makes a peer that was Secondary say rightly that it is Primary: it has asked, and was let. A state that
// it sent before it heard the answer says Secondary still.
type grant uint8

const (
	notGranted grant = iota
	freshGrant       // granted
	usedGrant        // the peer has said that it is Primary
)

// sameAgain counts a request that is the open one.
func (a *peerAsk) sameAgain() {
	a.again = min(a.again+1, maxAgain)
}

// standsTo is how a request stands to the one that is open.
func (a *peerAsk) standsTo(c sm.Change) outstanding {
	switch {
	case !a.open():
		return nothing
	case a.change == c:
		return openSame
	}
	return openOther
}

// peerAsks takes P_STATE_CHG_REQ.
func (e *Engine) peerAsks(v *volume, c sm.Change) error {
	a := &v.asked
	got, err := e.admitPacket(v, wire.CmdStateChgReq, a.standsTo(c))
	switch got {
	case take:
		*a = peerAsk{change: c, stage: askWaits}
		switch {
		case e.provesFirst([]*volume{v}, e.asking(v)):
			a.proves(e)
		case !e.costsDisk(v, e.asking(v)) || !e.hurryConfirmation(v):
			e.answerAsked(v)
		}
	case again:
		a.sameAgain()
	case refuse:
		q := &e.conn.queue[MetaSock]
		q.packet(wire.CmdStateChgReply, v.number, 4)
		q.heads = wire.StateChgReply{Code: sm.InTransientState.RefusalCode()}.Append(q.heads)
	}
	return err
}

func (e *Engine) asking(v *volume) sm.PeerRequest {
	return sm.PeerRequest{Change: v.asked.change, Crossing: v.request != nil}
}

// answerAsked applies the open request, or refuses it: it is applied before it is answered.
func (e *Engine) answerAsked(v *volume) {
	v.asked.stage = askAnswers
	v.lazyGeneration = true
	before := v.state.Peer
	e.step(v, e.asking(v), "the peer asks")
	v.lazyGeneration = false
	if before != sm.Primary && v.state.Peer == sm.Primary {
		v.grant = freshGrant
	}
}

// peerAsksAll takes P_CONN_ST_CHG_REQ: all volumes agree, or none.
func (e *Engine) peerAsksAll(c sm.Change) {
	a := &e.conn.asked
	switch a.standsTo(c) {
	case nothing:
		*a = peerAsk{change: c, stage: askWaits}
		if e.allGrant() && e.provesFirst(e.vols, e.askingAll()) {
			a.proves(e)
		} else {
			e.answerAskedAll()
		}
	case openSame:
		a.sameAgain()
	default:
		e.replyAll(sm.InTransientState.RefusalCode(), 1)
	}
}

func (e *Engine) askingAll() sm.PeerRequest {
	return sm.PeerRequest{Change: e.conn.asked.change, Connection: true, Crossing: e.conn.request != nil}
}

func (e *Engine) allGrant() bool {
	return !slices.ContainsFunc(e.vols, func(v *volume) bool { return e.refusesAll(v) != nil })
}

// refusesAll is why a volume does not agree to the open request of the connection.
func (e *Engine) refusesAll(v *volume) error {
	_, _, err := v.state.Step(e.askingAll(), e.rules(v))
	return err
}

// answerAskedAll applies the open request of the connection, or refuses it. Who agrees leaves, and hears of no other request.
func (e *Engine) answerAskedAll() {
	for _, v := range e.vols {
		if why := e.refusesAll(v); why != nil {
			e.refuseAskedAll(why)
			return
		}
	}
	ev := e.askingAll()
	e.conn.asked, e.conn.replied = peerAsk{}, false
	e.stepAll(ev, "the peer disconnects")
	e.runAllEffects()
}

// refuseAskedAll answers the open request of the connection in the negative, as often as it was made.
func (e *Engine) refuseAskedAll(why error) {
	code := sm.CodeUnknown
	if r, is := why.(sm.Refusal); is {
		code = r.RefusalCode()
	}
	times := 1 + int(e.conn.asked.again)
	e.conn.asked = peerAsk{}
	e.replyAll(code, times)
}

// peerMayBePrimary reports whether the peer has said so last, or has been let and may be by now; also after the end of the connection.
func (v *volume) peerMayBePrimary() bool { return v.grant != notGranted }

// heardRole notes what the peer says of its role.
func (v *volume) heardRole(r sm.Role) {
	switch {
	case r == sm.Primary:
		v.grant = usedGrant
	case v.grant == usedGrant:
		v.grant = notGranted
	}
}
