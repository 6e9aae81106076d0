package replication

import (
	"crypto/rand"
	"errors"
	"io"
	"net"
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
		refuse string // part of the reason
		again  string // part of an error after which a new attempt is made
	}{
		{name: "8.4", peer: features(86, 101)},
		{name: "newer, with an overlap", peer: features(86, 121)},
		{name: "too old", peer: features(86, 96), refuse: "protocol versions 86 to 96"},
		{name: "max 0 means min", peer: features(90, 0), refuse: "protocol versions 90 to 90"},
		{name: "too new", peer: features(110, 121), refuse: "protocol versions 110 to 121"},
		{name: "another packet first", peer: func(t *testing.T, conn net.Conn) {
			go io.Copy(io.Discard, conn)
			conn.Write(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdPing}))
		}, refuse: "P_PING in place of P_CONNECTION_FEATURES"},
		{name: "features of another length", peer: func(t *testing.T, conn net.Conn) {
			go io.Copy(io.Discard, conn)
			conn.Write(wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdConnectionFeatures, Length: 80}))
		}, refuse: "80 bytes in place of 72"},
		{name: "no magic", peer: func(t *testing.T, conn net.Conn) {
			go io.Copy(io.Discard, conn)
			conn.Write([]byte("SSH-2.0-"))
		}, again: "magic"},
		{name: "silence", peer: silence, again: "timeout"},
		{name: "the stream ends", peer: func(t *testing.T, conn net.Conn) { conn.Close() }, again: "closed pipe"},

		{name: "the same secret", auth: true, peer: features(86, 101).then(good(wire.CmdAuthResponse,
			func(h wire.Digest, theirs []byte) []byte { return h.AppendAuth(nil, []byte(secret), theirs) }))},
		{name: "another secret", auth: true, peer: features(86, 101).then(good(wire.CmdAuthResponse,
			func(h wire.Digest, theirs []byte) []byte { return h.AppendAuth(nil, []byte("x"), theirs) })), refuse: "shared-secret differs"},
		{name: "another algorithm", auth: true, peer: features(86, 101).then(good(wire.CmdAuthResponse,
			func(_ wire.Digest, theirs []byte) []byte { return wire.SHA1.AppendAuth(nil, []byte(secret), theirs) })), again: "cram-hmac-alg differs"},
		{name: "an endless answer", auth: true, peer: features(86, 101).then(good(wire.CmdAuthResponse,
			func(wire.Digest, []byte) []byte { return make([]byte, 65) })), again: "65 bytes"},
		{name: "another packet in place of the answer", auth: true, peer: features(86, 101).then(good(wire.CmdPing,
			func(wire.Digest, []byte) []byte { return nil })), again: "P_PING in place of P_AUTH_RESPONSE"},
		{name: "no secret at the peer", auth: true, peer: features(86, 101).then(opening(wire.CmdProtocol, make([]byte, 24))), refuse: "set cram-hmac-alg and shared-secret on both"},
		{name: "a short challenge", auth: true, peer: features(86, 101).then(opening(wire.CmdAuthChallenge, challenge(63))), refuse: "wrong length"},
		{name: "a long challenge", auth: true, peer: features(86, 101).then(opening(wire.CmdAuthChallenge, challenge(129))), refuse: "129 bytes"},
		{name: "our challenge thrown back", auth: true, peer: features(86, 101).then(func(t *testing.T, conn net.Conn) {
			_, mine := readPacket(t, conn)
			sendPacket(conn, wire.CmdAuthChallenge, mine)
		}), refuse: "thrown back"},
		{name: "silence after features", auth: true, peer: features(86, 101).then(silence), again: "timeout"},
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
				flags, err := (&connector{opt: opt}).handshake(near)
				if took := time.Since(began); took > 2*4*opt.PingTimeout {
					t.Errorf("took %v", took)
				}
				near.Close()
				far.Close()
				<-done
				checkGreeting(t, flags, err, tt.refuse, tt.again)
			})
		})
	}
}

func checkGreeting(t *testing.T, flags wire.FeatureFlags, err error, refuse, again string) {
	t.Helper()
	var no *peerRefusal
	switch {
	case refuse != "":
		if !errors.As(err, &no) || !strings.Contains(no.reason, refuse) {
			t.Errorf("%v, want a refusal with %q", err, refuse)
		}
	case again != "":
		if err == nil || errors.As(err, &no) || !strings.Contains(err.Error(), again) {
			t.Errorf("%v, want an error with %q after which a new attempt is made", err, again)
		}
	case err != nil || flags != wire.FeaturesAll:
		t.Errorf("features %x, %v", flags, err)
	}
}
