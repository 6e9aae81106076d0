package engine

import (
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// maxAgain bounds how often one request of the peer is answered again. The kernel's driver sends one twice at
// times, before it has heard an answer (wire 14.1).
const maxAgain = 7

// peerAsk is the one request for a change of a volume that the peer may have open here. It is open while it waits for
// the disk that it costs to be given up, and, if it is granted, until the answer is sent, which waits for a superblock.
type peerAsk struct {
	change sm.Change
	stage  askStage
	again  uint8 // times that the same was asked meanwhile, at most maxAgain
}

type askStage uint8

const (
	askNone    askStage = iota
	askWaits            // until everything is confirmed: see giveup.go
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
		if !e.costsDisk(v, e.asking(v)) || !e.hurryConfirmation(v) {
			e.answerAsked(v)
		}
	case again:
		a.again = min(a.again+1, maxAgain)
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
