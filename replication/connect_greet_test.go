package replication

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/wire"
)

// scripted plays the peer's side of a greeting.
type scripted func(t *testing.T, conn net.Conn)

func readPacket(t *testing.T, conn net.Conn) (wire.Header, []byte) {
	t.Helper()
	head := make([]byte, wire.HeaderLen100)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Errorf("peer: %v", err)
		return wire.Header{}, nil
	}
	h, err := wire.DecodeHeader100(head)
	if err != nil {
		t.Errorf("peer: %v", err)
	}
	body := make([]byte, h.Length)
	io.ReadFull(conn, body)
	return h, body
}

func sendPacket(conn net.Conn, cmd wire.Cmd, body []byte) {
	b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Length: uint32(len(body))})
	conn.Write(append(b, body...))
}

func features(min, max uint32) scripted {
	return func(t *testing.T, conn net.Conn) {
		io.ReadFull(conn, make([]byte, wire.HeaderLen80+72))
		body := wire.Features{ProtocolMin: min, Flags: wire.FeaturesAll, ProtocolMax: max}.Append(nil)
		conn.Write(append(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdConnectionFeatures, Length: 72}), body...))
	}
}

func (s scripted) then(next scripted) scripted {
	return func(t *testing.T, conn net.Conn) { s(t, conn); next(t, conn) }
}

func challenge(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// TestGreeting has one row for each row of docs/drbd-wire.md 5 and 6. The clock is virtual.
func TestGreeting(t *testing.T) {
	const secret = "geheim"
	good := func(cmd wire.Cmd, answer func(h wire.Digest, theirs []byte) []byte) scripted {
		return func(t *testing.T, conn net.Conn) {
			_, theirs := readPacket(t, conn)
			go func() { sendPacket(conn, wire.CmdAuthChallenge, challenge(64)) }()
			readPacket(t, conn)
			sendPacket(conn, cmd, answer(wire.SHA256, theirs))
		}
	}
	silence := func(t *testing.T, conn net.Conn) { io.Copy(io.Discard, conn) }
	opening := func(cmd wire.Cmd, body []byte) scripted {
		return func(t *testing.T, conn net.Conn) {
			readPacket(t, conn)
			sendPacket(conn, cmd, body)
		}
	}
	for _, tt := range []struct {
		name   string
		auth   bool
		peer   scripted
		fault  string // part of what the peer is said to do wrong
		broken string // part of the error of a connection that does not last
	}{
		{name: "8.4", peer: features(86, 101)},
		{name: "newer, with an overlap", peer: features(86, 121)},
		{name: "too old", peer: features(86, 96), fault: "protocol versions 86 to 96"},
		{name: "max 0 means min", peer: features(90, 0), fault: "protocol versions 90 to 90"},
		{name: "too new", peer: features(110, 121), fault: "protocol versions 110 to 121"},
		{name: "another packet first", peer: func(t *testing.T, conn net.Conn) {
			go io.Copy(io.Discard, conn)
			conn.Write(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdPing}))
		}, fault: "P_PING in place of P_CONNECTION_FEATURES"},
		{name: "features of another length", peer: func(t *testing.T, conn net.Conn) {
			go io.Copy(io.Discard, conn)
			conn.Write(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdConnectionFeatures, Length: 80}))
		}, fault: "80 bytes in place of 72"},
		{name: "no magic", peer: func(t *testing.T, conn net.Conn) {
			go io.Copy(io.Discard, conn)
			conn.Write([]byte("SSH-2.0-"))
		}, fault: "magic"},
		{name: "silence", peer: silence, broken: "timeout"},
		{name: "the stream ends", peer: func(t *testing.T, conn net.Conn) { conn.Close() }, broken: "closed pipe"},

		{name: "the same secret", auth: true, peer: features(86, 101).then(good(wire.CmdAuthResponse,
			func(h wire.Digest, theirs []byte) []byte { return h.AppendAuth(nil, []byte(secret), theirs) }))},
		{name: "another secret", auth: true, peer: features(86, 101).then(good(wire.CmdAuthResponse,
			func(h wire.Digest, theirs []byte) []byte { return h.AppendAuth(nil, []byte("x"), theirs) })), fault: "shared-secret differs"},
		{name: "another algorithm", auth: true, peer: features(86, 101).then(good(wire.CmdAuthResponse,
			func(_ wire.Digest, theirs []byte) []byte { return wire.SHA1.AppendAuth(nil, []byte(secret), theirs) })), fault: "cram-hmac-alg differs"},
		{name: "an endless answer", auth: true, peer: features(86, 101).then(good(wire.CmdAuthResponse,
			func(wire.Digest, []byte) []byte { return make([]byte, 65) })), fault: "65 bytes"},
		{name: "another packet in place of the answer", auth: true, peer: features(86, 101).then(good(wire.CmdPing,
			func(wire.Digest, []byte) []byte { return nil })), fault: "P_PING in place of P_AUTH_RESPONSE"},
		{name: "no secret at the peer", auth: true, peer: features(86, 101).then(opening(wire.CmdProtocol, make([]byte, 24))), fault: "set cram-hmac-alg and shared-secret on both"},
		{name: "a short challenge", auth: true, peer: features(86, 101).then(opening(wire.CmdAuthChallenge, challenge(63))), fault: "wrong length"},
		{name: "a long challenge", auth: true, peer: features(86, 101).then(opening(wire.CmdAuthChallenge, challenge(129))), fault: "129 bytes"},
		{name: "our challenge thrown back", auth: true, peer: features(86, 101).then(func(t *testing.T, conn net.Conn) {
			_, mine := readPacket(t, conn)
			sendPacket(conn, wire.CmdAuthChallenge, mine)
		}), fault: "thrown back"},
		{name: "a challenge of another connection of ours", auth: true, peer: features(86, 101).then(func(t *testing.T, conn net.Conn) {
			readPacket(t, conn)
			other := newChallenge([]byte(secret), "alpha")
			sendPacket(conn, wire.CmdAuthChallenge, other[:])
		}), fault: "from another connection"},
		{name: "a challenge of a node with the same secret", auth: true, peer: features(86, 101).then(func(t *testing.T, conn net.Conn) {
			_, theirs := readPacket(t, conn)
			mine := newChallenge([]byte(secret), "beta")
			go func() { sendPacket(conn, wire.CmdAuthChallenge, mine[:]) }()
			readPacket(t, conn)
			sendPacket(conn, wire.CmdAuthResponse, wire.SHA256.AppendAuth(nil, []byte(secret), theirs))
		})},
		{name: "silence after features", auth: true, peer: features(86, 101).then(silence), broken: "timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opt := config.DefaultNet()
				if tt.auth {
					opt.CRAMHMACAlg, opt.SharedSecret = "sha256", secret
				}
				near, far := net.Pipe()
				done := make(chan struct{})
				go func() { defer close(done); tt.peer(t, far) }()
				began := time.Now()
				flags, err := (&connector{opt: opt, name: "alpha"}).handshake(near)
				if took := time.Since(began); took > 2*4*opt.PingTimeout {
					t.Errorf("took %v", took)
				}
				near.Close()
				far.Close()
				<-done
				checkGreeting(t, flags, err, tt.fault, tt.broken)
			})
		})
	}
}

func checkGreeting(t *testing.T, flags wire.FeatureFlags, err error, fault, broken string) {
	t.Helper()
	var no *peerFault
	switch {
	case fault != "":
		if !errors.As(err, &no) || !strings.Contains(no.Error(), fault) {
			t.Errorf("%v, want a fault of the peer with %q", err, fault)
		}
	case broken != "":
		if err == nil || errors.As(err, &no) || !strings.Contains(err.Error(), broken) {
			t.Errorf("%v, want an error with %q that is no fault of the peer", err, broken)
		}
	case err != nil || flags != wire.FeaturesAll:
		t.Errorf("features %x, %v", flags, err)
	}
}

// TestNothingBeforeProof looks at every byte that a node with a secret sends to somebody who does not know it.
func TestNothingBeforeProof(t *testing.T) {
	const secret = "geheim"
	mac := func(key string, theirs []byte) []byte { return wire.SHA256.AppendAuth(nil, []byte(key), theirs) }
	for _, tt := range []struct {
		name   string
		answer func(theirs []byte) []byte // nil: silence
		then   []byte
		said   string // in the status
	}{
		{name: "silence", said: "the peer connects and then says nothing"},
		{name: "a wrong answer", answer: func(theirs []byte) []byte { return mac("x", theirs) }, said: "the shared-secret differs"},
		{name: "a wrong answer and the whole of a handshake", answer: func(theirs []byte) []byte { return mac("x", theirs) }, said: "the shared-secret differs",
			then: append(wire.AppendHeader100(nil, wire.Header{Cmd: wire.CmdProtocol, Length: 24}), wire.Protocol{Protocol: 3}.Append(nil)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nodes := newNodes(t, func(r *config.Resource) { r.Net.CRAMHMACAlg, r.Net.SharedSecret = "sha256", secret })
			nodes[0].up()
			x := newStranger(t, nodes[0], nodes[0].cfg.Peer.Address.Addr())
			x.pair()
			x.features()
			got := x.packet(wire.CmdAuthChallenge)
			x.send(wire.CmdAuthChallenge, challenge(64))
			x.packet(wire.CmdAuthResponse)
			if tt.answer != nil {
				x.send(wire.CmdAuthResponse, tt.answer(got))
				x.data.Write(tt.then)
			}
			x.data.SetReadDeadline(time.Now().Add(10 * time.Second))
			x.meta.SetReadDeadline(time.Now().Add(10 * time.Second))
			for _, c := range []net.Conn{x.data, x.meta} {
				if more, err := io.ReadAll(c); len(more) > 0 || isTimeout(err) {
					t.Errorf("% x was sent before the proof, %v", more, err)
				}
			}
			nodes[0].knocks(nodes[0].cfg.Peer.Address.Addr(), tt.said)
		})
	}
}

// A node knows its challenges again from another resource of its own, also where hosts have no names, and never takes the peer's for its own.
func TestChallengesAreMarkedForTheNode(t *testing.T) {
	host := func(at string, names ...string) *config.Host {
		return &config.Host{Names: names, Address: netip.MustParseAddrPort(at)}
	}
	for _, tt := range []struct {
		what                    string
		local, peer             *config.Host
		otherLocal, otherRemote *config.Host // of another resource
	}{
		{"names", host("10.0.0.1:7789", "alpha"), host("10.0.0.2:7789", "beta"), host("10.1.0.1:7790", "alpha"), host("10.1.0.2:7790", "beta")},
		{"floating", host("10.0.0.1:7789"), host("10.0.0.2:7789"), host("10.0.0.1:7790"), host("10.0.0.2:7790")},
		{"one machine", host("127.0.0.1:7789"), host("127.0.0.1:7790"), host("127.0.0.1:7789"), host("127.0.0.1:7791")},
	} {
		own, peer := markName(tt.local, tt.peer), markName(tt.peer, tt.local)
		challenge := newChallenge([]byte("secret"), own)
		if !ownChallenge([]byte("secret"), markName(tt.otherLocal, tt.otherRemote), challenge[:]) {
			t.Errorf("%s: in another resource the node does not know its challenge again", tt.what)
		}
		if ownChallenge([]byte("secret"), peer, challenge[:]) {
			t.Errorf("%s: the peer takes the node's challenge for its own", tt.what)
		}
	}
}
