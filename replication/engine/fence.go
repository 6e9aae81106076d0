package engine

import (
	"slices"

	"github.com/urbd/urbd/replication/wire"
)

// fence is what goes on when the peer has answered a certain ping.
type fence struct {
	ping uint64
	kind fenceKind
	vol  *volume
	of   uint64 // the resync or the consent that it is for
}

type fenceKind uint8

const (
	targetFence    fenceKind = iota // the Target has written everything
	consentFence                    // to be the source of a resync
	lifeFence                       // the peer goes on where the own disk was let go
	promotionFence                  // the peer is Primary, and alive
)

// ping asks the peer for a sign of life.
func (e *Engine) ping() {
	q := e.sending(MetaSock)
	if q == nil {
		return
	}
	q.packet(wire.CmdPing, 0, 0)
	e.conn.pings++
	if e.conn.pingAt == 0 {
		e.conn.pingAt = max(e.now, 1)
	}
}

// fence goes on with a volume when the peer has seen everything that was sent on meta so far. A later one of the
// same kind takes the place of an earlier one.
func (e *Engine) fence(kind fenceKind, v *volume, of uint64) {
	c := &e.conn
	if !c.up() {
		return
	}
	e.ping()
	c.fences = slices.DeleteFunc(c.fences, func(f fence) bool { return f.kind == kind && f.vol == v })
	c.fences = append(c.fences, fence{c.pings, kind, v, of})
}

func (e *Engine) fenced(f fence) {
	switch f.kind {
	case targetFence:
		e.targetFenced(f.vol, f.of)
	case consentFence:
		e.consentFenced(f.vol, f.of)
	case lifeFence:
		e.dataGoneOn(f.vol)
	case promotionFence:
		e.primaryAlive()
	}
}

func (e *Engine) pingAck() {
	c := &e.conn
	c.pongs++
	if c.pingAt = 0; c.pongs < c.pings {
		c.pingAt = max(e.now, 1)
	}
	for len(c.fences) > 0 && c.fences[0].ping <= c.pongs {
		f := c.fences[0]
		c.fences = append(c.fences[:0], c.fences[1:]...)
		e.fenced(f)
	}
}
