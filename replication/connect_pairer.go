package replication

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// event is something that a goroutine of an attempt has found out.
type event struct {
	kind    wire.Cmd // of inbound and dialled
	sock    *peerSocket
	err     error
	inbound bool
	dialled bool
	// neither: a watch has ended; err nil means that the peer has spoken
}

// Waits of an attempt that no option sets.
const (
	metaFallback = 3 * time.Second        // after our data socket, until we dial meta ourselves (docs/drbd-wire.md 4.4 b)
	firstRedial  = 500 * time.Millisecond // after a dial that failed; doubles up to connect-int
	manyDeaths   = 8                      // sockets that the peer has closed, from which on the next dial waits for
	nextRedial   = 50 * time.Millisecond  // after the one before
	mostLost     = 64                     // sockets that have died or given way to another; no peer needs so many for a pair
)

// attempt's state while the pair is being made. One goroutine owns it.
type pairer struct {
	*connector
	pairing
	way     road
	ctx     context.Context // ends with the attempt
	events  chan event
	wg      sync.WaitGroup
	redial  time.Duration // until the next dial after a failed one
	dialing wire.Cmd      // what is being dialled, 0: nothing
	hangUp  func()        // ends that dial
	dialAt  time.Time     // of the last dial
	deaths  int           // of sockets that the peer has closed
	ousted  int           // accepted sockets that gave way to another
	nextAt  time.Time     // when to dial again
	metaAt  time.Time     // when to dial meta though the peer should
	holdTo  time.Time     // when to stop waiting for the peer to resolve a crossing
	readyAt time.Time     // when a doubtful pair is believed
}

// pair makes connections until one data and one meta socket are alive.
func (c *connector) pair(ctx context.Context, way road) (data, meta *peerSocket, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &pairer{connector: c, way: way, ctx: ctx, events: make(chan event), redial: firstRedial}
	p.lower = c.local.Compare(c.peer) < 0
	opts := socketOptions{c.opt.SndBuf, c.opt.RcvBuf}
	defer p.wg.Wait()
	if way == bothWays {
		listener, err := p.listen(opts)
		if err != nil {
			return nil, nil, err
		}
		defer listener.Close()
	}
	data, meta, err = p.make(opts)
	cancel()
	for _, s := range p.all() {
		if s == data || s == meta {
			s.unwatch()
		} else {
			s.close()
		}
	}
	return data, meta, err
}

// listen lets the peer come in, until the listener is closed.
func (p *pairer) listen(opts socketOptions) (*net.TCPListener, error) {
	listener, err := opts.listen(p.ctx, p.local)
	if err != nil {
		if p.listening == nil || p.listening.Error() != err.Error() {
			p.log.Warn("cannot listen; trying again", "err", err)
		}
		p.listening = err
		return nil, err
	}
	p.listening = nil
	in := &inbound{listener: listener, peer: p.peer.Addr(), within: 4 * p.opt.PingTimeout, log: p.log, knocks: p.knocks,
		deliver: func(k wire.Cmd, s *peerSocket) bool { return p.post(event{kind: k, sock: s, inbound: true}) }}
	p.wg.Go(func() { in.serve(p.ctx) })
	return listener, nil
}

// post hands an event to the owner; false when the attempt has ended.
func (p *pairer) post(ev event) bool {
	select {
	case p.events <- ev:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// make is the owner's loop.
func (p *pairer) make(opts socketOptions) (data, meta *peerSocket, err error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		if data, meta, ok := p.done(now); ok {
			return data, meta, nil
		}
		p.expire(now)
		p.dial(now, opts)
		timer.Reset(p.wait(now))
		select {
		case ev := <-p.events:
			if err := p.handle(ev); err != nil {
				return nil, nil, err
			}
		case <-timer.C:
		case <-p.ctx.Done():
			return nil, nil, p.ctx.Err()
		}
	}
}

// done says whether the pair is made. One that may still be thrown away by
// the peer is watched for a while; the others are used at once, where the driver
// always waits (docs/drbd-wire.md 4.3 step 3).
func (p *pairer) done(now time.Time) (data, meta *peerSocket, ok bool) {
	data, meta, ok = p.complete()
	if !ok {
		p.readyAt = time.Time{}
		return nil, nil, false
	}
	for _, s := range []*peerSocket{data, meta} {
		if !s.alive() {
			p.died(s)
			s.close()
			return nil, nil, false
		}
	}
	if p.doubtful() && p.readyAt.IsZero() {
		p.readyAt = now.Add(p.settle())
	}
	return data, meta, !now.Before(p.readyAt)
}

func (p *pairer) settle() time.Duration {
	if p.opt.SocketCheckTimeout > 0 {
		return p.opt.SocketCheckTimeout
	}
	return p.opt.PingTimeout
}

// expire ends a crossing that took too long.
func (p *pairer) expire(now time.Time) {
	switch {
	case !p.crossed():
		p.holdTo = time.Time{}
	case p.holdTo.IsZero():
		p.holdTo = now.Add(4 * p.opt.PingTimeout)
	case !now.Before(p.holdTo):
		for _, s := range p.giveUp() {
			s.close()
		}
		p.holdTo = time.Time{}
	}
}

// wanted is the kind of socket that should be dialled, and from when on.
func (p *pairer) wanted() (kind wire.Cmd, from time.Time) {
	if p.data.empty() {
		return wire.CmdInitialData, p.nextAt
	}
	if !p.meta.empty() || p.data.crossed() {
		return 0, time.Time{}
	}
	if p.data.accepted != nil { // (c) of trap 3: the peer waits for our meta
		return wire.CmdInitialMeta, p.nextAt
	}
	if p.metaAt.After(p.nextAt) {
		return wire.CmdInitialMeta, p.metaAt
	}
	return wire.CmdInitialMeta, p.nextAt
}

// wait is how long nothing is to be done without an event.
func (p *pairer) wait(now time.Time) time.Duration {
	next := now.Add(time.Hour)
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	sooner(p.holdTo)
	sooner(p.readyAt)
	if kind, from := p.wanted(); kind != 0 && p.dialing == 0 {
		sooner(from)
	}
	return max(next.Sub(now), 0)
}

// dial starts the dial that is due. One runs at a time.
func (p *pairer) dial(now time.Time, opts socketOptions) {
	kind, from := p.wanted()
	if kind == 0 || p.dialing != 0 || now.Before(from) {
		return
	}
	ctx, hangUp := context.WithCancel(p.ctx)
	p.dialing, p.hangUp, p.dialAt = kind, hangUp, now
	p.wg.Go(func() {
		defer hangUp()
		conn, err := opts.dial(ctx, p.local.Addr(), p.peer, p.opt.ConnectInterval)
		ev := event{kind: kind, err: err, dialled: true}
		if err == nil {
			ev.sock = &peerSocket{conn: conn}
		}
		if !p.post(ev) && conn != nil {
			conn.Close()
		}
	})
}

// handle takes an event. An error ends the attempt: outward there is no second try, since the peer may have to come to us.
func (p *pairer) handle(ev event) error {
	switch {
	case ev.inbound:
		p.accepted(ev)
		return p.tooMany()
	case ev.dialled:
		p.dialing = 0
		return p.handleDial(ev)
	case ev.err != nil:
		if p.died(ev.sock) {
			ev.sock.close()
			p.nextAt = time.Time{}
			if p.deaths++; p.deaths >= manyDeaths {
				p.nextAt = p.dialAt.Add(nextRedial)
			}
			if p.way == outward {
				return ev.err
			}
			return p.tooMany()
		}
	default:
		if drop := p.spoke(ev.sock); drop != nil {
			drop.close()
		}
		p.readyAt = unsetPast(p.readyAt) // the peer has made up its mind
	}
	return nil
}

func (p *pairer) accepted(ev event) {
	p.log.Debug("accepted", "socket", ev.kind.String())
	if drop := p.accept(ev.kind, ev.sock); drop != nil {
		drop.close()
		if drop == ev.sock {
			return
		}
		p.ousted++
	}
	p.nextAt = time.Time{} // the peer is up now, whatever the last dial said
	if p.dialing == ev.kind {
		p.hangUp() // its first packet may be lost, and the other socket is due
	}
	p.watch(ev.sock)
}

// tooMany ends an attempt whose sockets come and go: what is accepted takes the place of what was before, the peer's, too, so somebody
// at its address could keep it out for ever without spoiling a greeting.
func (p *pairer) tooMany() error {
	if p.deaths+p.ousted < mostLost {
		return nil
	}
	return &greetError{faultf("it opens one connection after the other, and none of them lasts")}
}

// unsetPast makes a set deadline due.
func unsetPast(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Unix(1, 0)
}

func (p *pairer) handleDial(ev event) error {
	if ev.err != nil {
		if !p.side(ev.kind).empty() {
			return nil // the peer has dialled it meanwhile
		}
		return p.failedDial(ev.err)
	}
	s := ev.sock
	if !p.dialed(ev.kind, s) {
		s.close()
		return nil
	}
	if err := s.sendFirst(ev.kind, p.opt.ConnectInterval); err != nil {
		p.died(s)
		s.close()
		return p.failedDial(err)
	}
	p.log.Debug("dialled", "socket", ev.kind.String())
	p.redial, p.nextAt = firstRedial, time.Time{}
	if ev.kind == wire.CmdInitialData && p.way == bothWays {
		p.metaAt = time.Now().Add(jitter(metaFallback))
	}
	p.watch(s)
	return nil
}

// failedDial plans the next one: the peer may be down for long, and when it
// comes up it dials us at once.
func (p *pairer) failedDial(err error) error {
	if p.way == outward {
		return err
	}
	if !p.unreached {
		p.unreached = true
		p.log.Info("the peer cannot be reached yet; waiting for it", "err", err)
	}
	p.nextAt = time.Now().Add(jitter(p.redial))
	p.redial = min(2*p.redial, p.opt.ConnectInterval)
	return nil
}

func (p *pairer) watch(s *peerSocket) {
	s.watch(func(err error) {
		// The watch must not hold up who closes the socket and waits for it.
		p.wg.Go(func() { p.post(event{sock: s, err: err}) })
	})
}
