package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/wire"
)

// Waits of the connector that no option sets.
const (
	metaFallback = 3 * time.Second        // after our data socket, until we dial meta ourselves (wire 4.4 b)
	firstRedial  = 500 * time.Millisecond // doubles up to connect-int
	restart      = 1 * time.Second        // after an attempt that failed with the peer there (wire 4.3)
)

// connector finds the peer: both nodes listen and dial, two sockets are kept,
// the peers agree on features and prove that they know the secret.
// Source: docs/drbd-wire.md 4 to 6.
type connector struct {
	local, peer netip.AddrPort
	opt         config.Net
	log         *slog.Logger
	seen        complaints // of all attempts
	listening   error      // the last failure to listen, so that it is logged once
}

// connected is what a connector brings: two blocking descriptors, owned by the
// receiver, and what was agreed.
type connected struct {
	data, meta int
	link       engine.Link
}

// A peerRefusal says that the peer is there and does not fit; trying again does not help.
type peerRefusal struct{ reason string }

func (e *peerRefusal) Error() string { return e.reason }

func newConnector(local, peer netip.AddrPort, opt config.Net, log *slog.Logger) *connector {
	return &connector{local: local, peer: peer, opt: opt, log: log.With("peer", peer.String())}
}

// run tries until there is a connection, a refusal (*peerRefusal), or the end of ctx.
func (c *connector) run(ctx context.Context) (connected, error) {
	for {
		conn, err := c.attempt(ctx)
		var refused *peerRefusal
		if err == nil || errors.As(err, &refused) {
			return conn, err
		}
		if ctx.Err() != nil {
			return conn, ctx.Err()
		}
		c.log.Debug("attempt to connect failed", "err", err)
		select {
		case <-time.After(jitter(restart)):
		case <-ctx.Done():
			return conn, ctx.Err()
		}
	}
}

// attempt makes one pair and greets the peer on it.
func (c *connector) attempt(ctx context.Context) (connected, error) {
	data, meta, err := c.pair(ctx)
	if err != nil {
		return connected{}, err
	}
	defer data.close()
	defer meta.close()
	stop := context.AfterFunc(ctx, func() { data.close() })
	defer stop()
	flags, err := c.handshake(data.conn)
	if err != nil {
		return connected{}, err
	}
	if !stop() {
		return connected{}, ctx.Err()
	}
	return hand(data, meta, flags)
}

// hand turns a finished pair into descriptors with the options of docs/drbd-wire.md 4.6.
func hand(data, meta *peerSocket, flags wire.FeatureFlags) (connected, error) {
	out := connected{link: engine.Link{ResolveConflicts: meta.accepted, Features: uint32(flags)}}
	var err error
	if out.data, err = data.release(); err != nil {
		return connected{}, err
	}
	if out.meta, err = meta.release(); err != nil {
		unix.Close(out.data)
		return connected{}, err
	}
	const bulk, interactive = 4, 6 // TC_PRIO_INTERACTIVE_BULK, TC_PRIO_INTERACTIVE
	for fd, prio := range map[int]int{out.data: bulk, out.meta: interactive} {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, prio) // only a preference
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			unix.Close(out.data)
			unix.Close(out.meta)
			return connected{}, fmt.Errorf("TCP_NODELAY: %w", err)
		}
	}
	return out, nil
}

// event is something that a goroutine of an attempt has found out.
type event struct {
	kind    wire.Cmd // of inbound and dialled
	sock    *peerSocket
	err     error
	inbound bool
	dialled bool
	// neither: a watch has ended; err nil means that the peer has spoken
}

// attempt's state while the pair is being made. One goroutine owns it.
type pairer struct {
	*connector
	pairing
	ctx     context.Context // ends with the attempt
	events  chan event
	wg      sync.WaitGroup
	redial  time.Duration // until the next dial after a failed one
	dialing bool
	nextAt  time.Time // when to dial again
	metaAt  time.Time // when to dial meta though the peer should
	holdTo  time.Time // when to stop waiting for the peer to resolve a crossing
	readyAt time.Time // when a doubtful pair is believed
	silence bool      // an unreachable peer was logged
}

// pair listens and dials until one data and one meta socket are alive.
func (c *connector) pair(ctx context.Context) (data, meta *peerSocket, err error) {
	opts := socketOptions{c.opt.SndBuf, c.opt.RcvBuf}
	listener, err := opts.listen(ctx, c.local)
	if err != nil {
		if c.listening == nil || c.listening.Error() != err.Error() {
			c.log.Warn("cannot listen; trying again", "err", err)
		}
		c.listening = err
		return nil, nil, err
	}
	c.listening = nil
	ctx, cancel := context.WithCancel(ctx)
	p := &pairer{connector: c, ctx: ctx, events: make(chan event), redial: firstRedial}
	p.lower = c.local.Compare(c.peer) < 0
	in := &inbound{listener: listener, peer: c.peer.Addr(), within: 4 * c.opt.PingTimeout, log: c.log, seen: &c.seen,
		deliver: func(k wire.Cmd, s *peerSocket) bool { return p.post(event{kind: k, sock: s, inbound: true}) }}
	p.wg.Go(func() { in.serve(ctx) })

	data, meta, err = p.make(opts)
	cancel()
	listener.Close()
	for _, s := range p.all() {
		if s == data || s == meta {
			s.unwatch()
		} else {
			s.close()
		}
	}
	p.wg.Wait()
	return data, meta, err
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
			p.handle(ev)
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
	if kind, from := p.wanted(); kind != 0 && !p.dialing {
		sooner(from)
	}
	return max(next.Sub(now), 0)
}

// dial starts the dial that is due. One runs at a time.
func (p *pairer) dial(now time.Time, opts socketOptions) {
	kind, from := p.wanted()
	if kind == 0 || p.dialing || now.Before(from) {
		return
	}
	p.dialing = true
	p.wg.Go(func() {
		conn, err := opts.dial(p.ctx, p.local.Addr(), p.peer, p.opt.ConnectInterval)
		ev := event{kind: kind, err: err, dialled: true}
		if err == nil {
			ev.sock = &peerSocket{conn: conn}
		}
		if !p.post(ev) && conn != nil {
			conn.Close()
		}
	})
}

func (p *pairer) handle(ev event) {
	switch {
	case ev.inbound:
		p.log.Debug("accepted", "socket", ev.kind.String())
		if drop := p.accept(ev.kind, ev.sock); drop != nil {
			drop.close()
			if drop == ev.sock {
				return
			}
		}
		p.nextAt = time.Time{} // the peer is up now, whatever the last dial said
		p.watch(ev.sock)
	case ev.dialled:
		p.dialing = false
		p.handleDial(ev)
	case ev.err != nil:
		if p.died(ev.sock) {
			ev.sock.close()
			p.nextAt = time.Time{}
		}
	default:
		if drop := p.spoke(ev.sock); drop != nil {
			drop.close()
		}
		p.readyAt = unsetPast(p.readyAt) // the peer has made up its mind
	}
}

// unsetPast makes a set deadline due.
func unsetPast(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Unix(1, 0)
}

func (p *pairer) handleDial(ev event) {
	if ev.err != nil {
		p.failedDial(ev.err)
		return
	}
	s := ev.sock
	if !p.dialed(ev.kind, s) {
		s.close()
		return
	}
	if err := s.sendFirst(ev.kind, p.opt.ConnectInterval); err != nil {
		p.died(s)
		s.close()
		p.failedDial(err)
		return
	}
	p.log.Debug("dialled", "socket", ev.kind.String())
	p.redial, p.nextAt = firstRedial, time.Time{}
	if ev.kind == wire.CmdInitialData {
		p.metaAt = time.Now().Add(jitter(metaFallback))
	}
	p.watch(s)
}

// failedDial plans the next one: the peer may be down for long, and when it
// comes up it dials us at once.
func (p *pairer) failedDial(err error) {
	if !p.silence {
		p.silence = true
		p.log.Info("the peer cannot be reached yet; waiting for it", "err", err)
	}
	p.nextAt = time.Now().Add(jitter(p.redial))
	p.redial = min(2*p.redial, p.opt.ConnectInterval)
}

func (p *pairer) watch(s *peerSocket) {
	s.watch(func(err error) {
		// The watch must not hold up who closes the socket and waits for it.
		p.wg.Go(func() { p.post(event{sock: s, err: err}) })
	})
}

// jitter spreads d by a seventh up and down, so that two nodes that start together drift apart (docs/drbd-wire.md 4.3).
func jitter(d time.Duration) time.Duration {
	return d - d/7 + rand.N(2*d/7+1)
}
