package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/statemachine"
)

// connector finds the peer: both nodes listen and dial, two sockets are kept,
// the peers agree on features and prove that they know the secret. What comes before that proof
// ends its own connection and nothing else: the connector goes on until it has the peer.
// Source: docs/drbd-wire.md 4 to 6.
type connector struct {
	local, peer netip.AddrPort
	name        string // of this node, for its challenges
	opt         config.Net
	log         *slog.Logger
	knocks      *knocks
	pace        *pace
	listening   error // the last failure to listen, so that it is logged once
	unreached   bool  // that the peer cannot be reached was logged, in this search
}

// connected is what a connector brings: two blocking descriptors, owned by the
// receiver, and what was agreed.
type connected struct {
	data, meta int
	link       engine.Link
}

// A peerFault says what the peer does wrong before it has proved to be the peer.
type peerFault struct {
	reason string
	err    error // the same to the byte, where there is more to say; for the log
}

func (e *peerFault) Error() string {
	if e.err != nil {
		return e.reason + ": " + e.err.Error()
	}
	return e.reason
}

func faultf(format string, args ...any) error {
	return &peerFault{reason: fmt.Sprintf(format, args...)}
}

func newConnector(local, peer netip.AddrPort, opt config.Net, log *slog.Logger) *connector {
	return &connector{
		local: local, peer: peer, name: local.String(), opt: opt, log: log.With("peer", peer.String()),
		knocks: &knocks{log: log, peer: peer.Addr().Unmap().WithZone("")},
		pace:   newPace(opt.ConnectInterval),
	}
}

// run tries until there is a connection, or the end of ctx.
func (c *connector) run(ctx context.Context) (connected, error) {
	pause, suspicious := c.pace.begin()
	c.unreached = false
	for {
		if err := sleep(ctx, jitter(pause)); err != nil {
			return connected{}, err
		}
		conn, err := c.attempt(ctx, roadTo(suspicious))
		if err == nil {
			c.pace.meet(introduced)
			return conn, nil
		}
		if ctx.Err() != nil {
			return conn, ctx.Err()
		}
		c.log.Debug("attempt to connect failed", "err", err)
		pause, suspicious = restart, false
		if greeted := new(greetError); errors.As(err, &greeted) {
			pause, suspicious = c.spoilt(greeted), true
		}
	}
}

// spoilt remembers what somebody at the peer's address has done in place of a greeting. It returns the pause that this is worth.
func (c *connector) spoilt(err *greetError) time.Duration {
	fault := new(peerFault)
	if !errors.As(err, &fault) {
		c.knocks.remember(c.knocks.peer, err.Error()) // a link that breaks, a peer that is shut down
		return restart
	}
	var args []any
	if fault.err != nil {
		args = []any{"err", fault.err}
	}
	c.knocks.knock(c.knocks.peer, fault.reason, args...)
	return c.pace.failed()
}

// road is which connections may become the pair.
type road uint8

const (
	bothWays road = iota // dialled and accepted ones, as the protocol has it
	outward              // dialled ones only: who listens at the peer's address is the peer, who comes from it may be any program there
)

// roadTo chooses. After an attempt that was spoilt it tosses a coin: with outward always, two nodes that suspect each other would never meet.
func roadTo(suspicious bool) road {
	if suspicious && rand.N(2) == 0 {
		return outward
	}
	return bothWays
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// attempt makes one pair and greets the peer on it. An error of the greeting is a *greetError.
func (c *connector) attempt(ctx context.Context, way road) (connected, error) {
	data, meta, err := c.pair(ctx, way)
	if err != nil {
		return connected{}, err
	}
	defer data.close()
	defer meta.close()
	stop := context.AfterFunc(ctx, func() { data.close() })
	defer stop()
	flags, err := c.handshake(data.conn)
	if err != nil {
		return connected{}, &greetError{err}
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

// judge hears how the handshake on a connection ends. It does not wait.
func (c *connector) judge(ev engine.StateChange) {
	from, to := ev.From.Conn, ev.To.Conn
	switch {
	case from < statemachine.Connected && to >= statemachine.Connected:
		c.pace.meet(agreed)
		c.knocks.welcome()
	case from == statemachine.WFReportParams && to < statemachine.WFReportParams:
		c.knocks.remember(c.knocks.peer, ev.Cause) // the state change is logged by itself
	case to == statemachine.Timeout:
		c.knocks.remember(c.knocks.peer, ev.Cause) // it may be looked for again after a while only
	}
}
