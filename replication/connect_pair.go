package replication

import "github.com/urbd/urbd/replication/wire"

// pairing decides which TCP connections become the data and the meta socket
// when both nodes listen and dial at the same time. It does no I/O.
//
// Each kind may be dialled by us and by the peer at once: a crossing. Two
// nodes that both drop their own, as the kernel's driver does, lose both (docs/drbd-wire.md
// 4.4, trap 3). So
//
//	the node with the lower address keeps its own and closes the peer's;
//	the other node keeps both until the peer has closed one or has spoken on one.
//
// Two urbd nodes agree that way, and each of them agrees with the driver, which
// keeps what it accepted: that is the lower urbd node's own, or, seen from the
// higher urbd node, the one that was not closed.
//
// A socket that we dialled counts from the moment its first packet is sent;
// before that it can be given up without the peer having noticed.
type pairing struct {
	lower      bool // our address:port sorts before the peer's
	data, meta side
	crossings  int
	metaFirst  bool // the peer sent meta while it had, for us, no data socket
}

// side is what there is of one kind: nothing, one, or both of a crossing.
type side struct{ dialled, accepted *peerSocket }

func (s *side) empty() bool   { return s.dialled == nil && s.accepted == nil }
func (s *side) crossed() bool { return s.dialled != nil && s.accepted != nil }

// one is the socket of this kind when there is exactly one.
func (s *side) one() *peerSocket {
	if s.crossed() {
		return nil
	}
	if s.dialled != nil {
		return s.dialled
	}
	return s.accepted
}

func (p *pairing) side(kind wire.Cmd) *side {
	if kind == wire.CmdInitialMeta {
		return &p.meta
	}
	return &p.data
}

// accept takes an inbound socket whose first packet has named its kind. It
// returns the socket to close: none, a predecessor, or s itself.
func (p *pairing) accept(kind wire.Cmd, s *peerSocket) (drop *peerSocket) {
	sd := p.side(kind)
	if kind == wire.CmdInitialMeta && p.data.empty() {
		p.metaFirst = true
	}
	if sd.dialled != nil {
		p.crossings++
		if p.lower {
			return s
		}
	}
	drop, sd.accepted = sd.accepted, s // the peer opens a second one only when it has given up the first
	return drop
}

// dialed takes a socket that we dialled. False: it is not wanted any more and
// must be closed without a first packet; true: send it now.
func (p *pairing) dialed(kind wire.Cmd, s *peerSocket) bool {
	sd := p.side(kind)
	if !sd.empty() {
		return false
	}
	sd.dialled = s
	return true
}

// died forgets a socket that the peer has closed. It reports whether it was one of ours.
func (p *pairing) died(s *peerSocket) bool {
	for _, sd := range []*side{&p.data, &p.meta} {
		switch s {
		case sd.dialled:
			sd.dialled = nil
		case sd.accepted:
			sd.accepted = nil
		default:
			continue
		}
		return true
	}
	return false
}

// spoke ends a crossing: the peer has sent more than the first packet on s, so
// s is what it chose. It returns the other one, to be closed.
func (p *pairing) spoke(s *peerSocket) (drop *peerSocket) {
	for _, sd := range []*side{&p.data, &p.meta} {
		switch {
		case !sd.crossed():
		case s == sd.dialled:
			drop, sd.accepted = sd.accepted, nil
		case s == sd.accepted:
			drop, sd.dialled = sd.dialled, nil
		}
	}
	return drop
}

// giveUp ends every crossing that the peer has not resolved in time: what it
// opened last is what it believes in.
func (p *pairing) giveUp() (drop []*peerSocket) {
	for _, sd := range []*side{&p.data, &p.meta} {
		if sd.crossed() {
			drop = append(drop, sd.dialled)
			sd.dialled = nil
		}
	}
	return drop
}

func (p *pairing) crossed() bool { return p.data.crossed() || p.meta.crossed() }

// complete gives the pair when there is exactly one of each kind.
func (p *pairing) complete() (data, meta *peerSocket, ok bool) {
	data, meta = p.data.one(), p.meta.one()
	return data, meta, data != nil && meta != nil
}

// doubtful says that the peer may still throw a complete pair away, so that it
// has to be watched for a while before it is used.
func (p *pairing) doubtful() bool { return p.crossings > 0 || p.metaFirst }

// all lists every socket that is held.
func (p *pairing) all() (held []*peerSocket) {
	for _, s := range []*peerSocket{p.data.dialled, p.data.accepted, p.meta.dialled, p.meta.accepted} {
		if s != nil {
			held = append(held, s)
		}
	}
	return held
}
