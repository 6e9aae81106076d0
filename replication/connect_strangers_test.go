package replication

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/statemachine"
)

// A stranger is any program at some address that talks to a node.
type stranger struct {
	t          *testing.T
	at         netip.AddrPort // the node
	from       netip.Addr
	data, meta net.Conn
}

func newStranger(t *testing.T, n *node, from netip.Addr) *stranger {
	x := &stranger{t: t, at: n.cfg.Local.Address, from: from}
	t.Cleanup(x.close)
	return x
}

func (x *stranger) close() {
	for _, c := range []net.Conn{x.data, x.meta} {
		if c != nil {
			c.Close()
		}
	}
	x.data, x.meta = nil, nil
}

// dial waits until the node listens.
func (x *stranger) dial(first []byte) net.Conn {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
	defer cancel()
	c := dialFrom(x.t, ctx, x.from, x.at)
	c.Write(first)
	return c
}

// pair opens both sockets until the node greets on them: it may be busy with a predecessor.
func (x *stranger) pair() {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		x.close()
		x.data = x.dial(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdInitialData}))
		x.meta = x.dial(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdInitialMeta}))
		x.data.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadFull(x.data, make([]byte, wire.HeaderLen80+72)); err == nil {
			return
		}
	}
	x.t.Fatal("the node never greets")
}

// features answers what pair has read.
func (x *stranger) features() {
	body := wire.Offer().Append(nil)
	x.data.Write(append(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdConnectionFeatures, Length: uint32(len(body))}), body...))
}

func (x *stranger) send(cmd wire.Cmd, body []byte) { sendPacket(x.data, cmd, body) }

func (x *stranger) packet(want wire.Cmd) []byte {
	x.t.Helper()
	x.data.SetReadDeadline(time.Now().Add(5 * time.Second))
	h, body := readPacket(x.t, x.data)
	if h.Cmd != want {
		x.t.Fatalf("the node sends %v, want %v", h.Cmd, want)
	}
	return body
}

// secretAndNot runs a test for a resource with a secret and for one without.
func secretAndNot(t *testing.T, test func(t *testing.T, secret bool)) {
	for name, secret := range map[string]bool{"secret": true, "no secret": false} {
		t.Run(name, func(t *testing.T) { test(t, secret) })
	}
}

func nodesWith(t *testing.T, secret bool) [2]*node {
	return newNodes(t, func(r *config.Resource) {
		if secret {
			r.Net.CRAMHMACAlg, r.Net.SharedSecret = "sha256", "geheim"
		}
	})
}

// knocks waits until the status says of an address what it does wrong.
func (n *node) knocks(from netip.Addr, reason string) KnockStatus {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	for {
		st, err := n.res.report(ctx)
		if err != nil {
			n.t.Fatalf("%q is never said of %v: %v", reason, from, err)
		}
		for _, k := range st.Connections[0].Knocks {
			if k.Address == from.String() && strings.Contains(k.Reason, reason) {
				return k
			}
		}
		select {
		case <-time.After(10 * time.Millisecond): // one more of the same is no change
		case <-ctx.Done():
			n.t.Fatalf("%q is never said of %v, but %+v", reason, from, st.Connections[0].Knocks)
		}
	}
}

// stillConnecting checks that nothing of what was done to a node has changed its state.
func (n *node) stillConnecting() {
	n.t.Helper()
	st, err := n.res.Status(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	if c := st.Volumes[0].State.Conn; c != statemachine.WFConnection {
		n.t.Errorf("the connection is %v", c)
	}
	for _, l := range n.log.all() {
		if strings.Contains(l, "from=Secondary/Unknown WFConnection") {
			n.t.Errorf("it has changed: %s", l)
		}
	}
}

// meet brings up the peer, and waits until both are connected and nobody knocks any more.
func meet(t *testing.T, nodes [2]*node) {
	t.Helper()
	began := time.Now()
	nodes[1].up()
	for _, n := range nodes {
		n.await("Connected", func(s statemachine.State) bool { return s.Conn >= statemachine.Connected })
	}
	st, err := nodes[0].res.report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range st.Connections[0].Knocks {
		if k.Address == nodes[0].cfg.Peer.Address.Addr().String() {
			t.Errorf("still said of the peer: %+v", k)
		}
	}
	t.Logf("connected within %v", time.Since(began))
}

func TestStrangerWithoutTheSecret(t *testing.T) {
	nodes := nodesWith(t, true)
	nodes[0].up()
	peer := nodes[0].cfg.Peer.Address.Addr()
	x := newStranger(t, nodes[0], peer)
	x.pair()
	x.features()
	x.packet(wire.CmdAuthChallenge)
	x.send(wire.CmdAuthChallenge, challenge(64))
	x.packet(wire.CmdAuthResponse)
	x.send(wire.CmdAuthResponse, make([]byte, 32))
	k := nodes[0].knocks(peer, "shared-secret differs")
	if k.Count != 1 || time.Since(k.Since) > time.Minute || k.Since.After(k.Last) {
		t.Errorf("%+v", k)
	}
	nodes[0].stillConnecting()

	x.pair()
	x.features()
	x.packet(wire.CmdAuthChallenge)
	x.send(wire.CmdProtocol, wire.Protocol{Protocol: 1}.Append(nil))
	nodes[0].knocks(peer, "should authenticate")
	nodes[0].stillConnecting()
	meet(t, nodes)
}

func TestStrangersFirstPacket(t *testing.T) {
	secretAndNot(t, func(t *testing.T, secret bool) {
		nodes := nodesWith(t, secret)
		nodes[0].up()
		peer := nodes[0].cfg.Peer.Address.Addr()
		x := newStranger(t, nodes[0], peer)
		for _, tt := range []struct {
			first  []byte
			reason string
		}{
			{wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdPing}), "P_PING in place of P_CONNECTION_FEATURES"},
			{[]byte("GET / HTTP/1.1\r\n"), "no DRBD peer"},
			{append(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdConnectionFeatures, Length: 72}),
				wire.Features{ProtocolMin: 110, ProtocolMax: 121}.Append(nil)...), "protocol versions 110 to 121"},
		} {
			x.pair()
			x.data.Write(tt.first)
			nodes[0].knocks(peer, tt.reason)
			nodes[0].stillConnecting()
		}
		meet(t, nodes)
	})
}

// Without a secret whoever has the peer's address is the peer, and one that is configured otherwise ends the connection for good.
func TestStrangersProtocol(t *testing.T) {
	nodes := nodesWith(t, false)
	nodes[0].up()
	peer := nodes[0].cfg.Peer.Address.Addr()
	x := newStranger(t, nodes[0], peer)
	x.pair()
	x.features()
	x.packet(wire.CmdProtocol)
	x.send(wire.CmdProtocol, wire.Protocol{Protocol: 1}.Append(nil))
	nodes[0].await("StandAlone", func(s statemachine.State) bool { return s.Conn == statemachine.StandAlone })
	nodes[0].knocks(peer, "the peer uses protocol A, this node C")
}

// A challenge may not be had answered by the node that has made it, on a second connection or by another resource.
func TestStrangerReflectsChallenge(t *testing.T) {
	nodes := nodesWith(t, true)
	nodes[0].up()
	peer := nodes[0].cfg.Peer.Address.Addr()
	x := newStranger(t, nodes[0], peer)
	x.pair()
	x.features()
	theirs := x.packet(wire.CmdAuthChallenge)
	x.close()
	nodes[0].knocks(peer, "closes the connection")
	x.pair()
	x.features()
	x.packet(wire.CmdAuthChallenge)
	x.send(wire.CmdAuthChallenge, theirs)
	x.data.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, err := io.ReadAll(x.data); len(got) > 0 || isTimeout(err) {
		t.Errorf("answered with % x, %v", got, err)
	}
	nodes[0].knocks(peer, "from another connection")
	nodes[0].stillConnecting()
}

func TestStrangersGarbage(t *testing.T) {
	secretAndNot(t, func(t *testing.T, secret bool) {
		nodes := nodesWith(t, secret)
		nodes[0].up()
		before := descriptors()
		r := rand.New(rand.NewPCG(1, 2))
		peer := nodes[0].cfg.Peer.Address.Addr()
		for i := range 600 {
			from := peer
			if i%2 == 1 {
				from = netip.AddrFrom4([4]byte{127, 0, 1, byte(i % 100)})
			}
			junk := make([]byte, r.IntN(200))
			for j := range junk {
				junk[j] = byte(r.Uint32())
			}
			if r.IntN(3) == 0 { // data alone makes no pair
				junk = append(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdInitialData}), junk...)
			}
			x := stranger{t: t, at: nodes[0].cfg.Local.Address, from: from}
			c := x.dial(junk)
			if r.IntN(3) == 0 {
				c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
		}
		nodes[0].knocks(netip.AddrFrom4([4]byte{127, 0, 1, 99}), "not the peer's") // it came last
		nodes[0].stillConnecting()
		if n := descriptors() - before; n > maxGreeting+16 {
			t.Errorf("%d descriptors more than before", n)
		}
		if n := len(nodes[0].log.all()); n > 3*maxKnockers {
			t.Errorf("%d lines of log", n)
		}
		meet(t, nodes)
	})
}

// Connections that say nothing take no place from the peer for long, and no descriptor beyond the bound.
func TestStrangersThatSayNothing(t *testing.T) {
	secretAndNot(t, func(t *testing.T, secret bool) {
		nodes := nodesWith(t, secret)
		for _, n := range nodes {
			n.cfg.Resource.Net.PingTimeout = 10 * time.Second // a first packet may be owed for 40 s
		}
		nodes[0].up()
		before := descriptors()
		peer := nodes[0].cfg.Peer.Address.Addr()
		x := newStranger(t, nodes[0], peer)
		var open []net.Conn
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		for range 4 * maxGreeting {
			open = append(open, x.dial([]byte{0x83, 0x74}))
		}
		if n := descriptors() - before - len(open); n > maxGreeting+16 {
			t.Errorf("%d descriptors for %d connections", n, len(open))
		}
		s := x.dial(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdInitialData}))
		defer s.Close()
		s.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := s.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("who says who it is is shown the door: %v", err)
		}
		nodes[0].stillConnecting()
	})
}

// A flood of pairs from the peer's address keeps the peer out for seconds, not for good.
func TestStrangersFlood(t *testing.T) {
	secretAndNot(t, func(t *testing.T, secret bool) {
		nodes := nodesWith(t, secret)
		nodes[0].up()
		ctx, cancel := context.WithCancel(t.Context())
		peer := nodes[0].cfg.Peer.Address.Addr()
		done := make(chan int)
		go func() { done <- flood(ctx, peer, nodes[0].cfg.Local.Address) }()
		for nodes[0].knocks(peer, "no DRBD peer").Count < 3 {
		}
		nodes[0].stillConnecting()
		meet(t, nodes)
		cancel()
		t.Logf("%d pairs", <-done)
	})
}

// flood opens pair after pair, says nothing on them and leaves them open for a while.
func flood(ctx context.Context, from netip.Addr, to netip.AddrPort) (pairs int) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: time.Second}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for ctx.Err() == nil {
		for _, kind := range []wire.Cmd{wire.CmdInitialData, wire.CmdInitialMeta} {
			c, err := d.DialContext(ctx, "tcp", to.String())
			if err != nil {
				sleep(ctx, 2*time.Millisecond)
				continue
			}
			c.Write(append(wire.AppendHeader80(nil, wire.Header{Cmd: kind}), bytes.Repeat([]byte{0xff}, 80)...))
			open = append(open, c)
			pairs++
		}
		for len(open) > 100 {
			open[0].Close()
			open = open[1:]
		}
	}
	return pairs / 2
}

// A secret that differs keeps the nodes apart until it is mended on one of them; nobody has to do anything on the other.
func TestWrongSecretMended(t *testing.T) {
	nodes := nodesWith(t, true)
	wrong := *nodes[1].cfg.Resource
	wrong.Net.SharedSecret = "anders"
	right := nodes[1].cfg.Resource
	nodes[1].cfg.Resource = &wrong
	nodes[0].up()
	nodes[1].up()
	for _, n := range nodes {
		n.knocks(n.cfg.Peer.Address.Addr(), "shared-secret differs")
		n.stillConnecting()
	}
	nodes[1].down()
	nodes[1].cfg.Resource = right
	meet(t, nodes)
	if n := nodes[0].log.count("WARN the peer's answer"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// A secret on one node only: each says what the other does, neither gives up, and when both have it they meet.
func TestSecretOnOneNode(t *testing.T) {
	nodes := nodesWith(t, true)
	open := *nodes[1].cfg.Resource
	open.Net.CRAMHMACAlg, open.Net.SharedSecret = "", ""
	right := nodes[1].cfg.Resource
	nodes[1].cfg.Resource = &open
	nodes[0].up()
	nodes[1].up()
	nodes[0].knocks(nodes[0].cfg.Peer.Address.Addr(), "the peer sends P_PROTOCOL where it should authenticate")
	nodes[0].stillConnecting()
	nodes[1].knocks(nodes[1].cfg.Peer.Address.Addr(), "the peer asks this node to authenticate")
	nodes[1].await("connecting again", func(s statemachine.State) bool { return s.Conn == statemachine.WFConnection })
	nodes[1].down()
	nodes[1].cfg.Resource = right
	meet(t, nodes)
}

// A node that accepts nobody, because somebody at the peer's address spoils what it accepts, meets a peer that does, be it the driver.
func TestConnectOutward(t *testing.T) {
	for round := range 12 {
		own, theirs := twoAddresses(t)
		if round%2 == 1 {
			own, theirs = theirs, own
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		run := newConnector(theirs, own, testNet(), slog.New(slog.DiscardHandler)).run
		if round%4 >= 2 {
			run = (&driver{local: theirs, peer: own, opt: testNet()}).run
		}
		far, peerEnded := make(chan connected, 1), make(chan error, 1)
		go func() {
			c, err := run(ctx)
			far <- c
			peerEnded <- err
		}()
		c := newConnector(own, theirs, testNet(), slog.New(slog.DiscardHandler))
		near, err := c.attempt(ctx, outward)
		for err != nil && ctx.Err() == nil { // the peer does not listen yet, or has dialled and waits
			sleep(ctx, 10*time.Millisecond)
			near, err = c.attempt(ctx, outward)
		}
		b, berr := <-far, <-peerEnded
		if err != nil || berr != nil {
			t.Fatalf("round %d: %v, peer %v", round, err, berr)
		}
		if near.link.ResolveConflicts {
			t.Errorf("round %d: the meta socket was accepted", round)
		}
		if err := err2(near, b); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		cancel()
	}
}
