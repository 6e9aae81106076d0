package replication

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// handshake agrees on version and features and, when a secret is configured,
// proves it to the peer and lets the peer prove it. What it reads is bounded, in
// time by 4 ping-timeouts for each packet. The error is a *peerRefusal where
// the driver goes StandAlone; after any other a new attempt may do.
// Source: docs/drbd-wire.md 5, 6.
func (c *connector) handshake(data net.Conn) (wire.FeatureFlags, error) {
	g := greeting{data, 4 * c.opt.PingTimeout}
	defer data.SetDeadline(time.Time{})
	flags, err := g.features()
	if err != nil {
		return 0, err
	}
	if c.opt.CRAMHMACAlg == "" {
		return flags, nil
	}
	alg, ok := wire.DigestByName(c.opt.CRAMHMACAlg)
	if !ok || !alg.Authenticates() {
		return 0, &peerRefusal{fmt.Sprintf("cram-hmac-alg %s cannot be used here", c.opt.CRAMHMACAlg)}
	}
	return flags, g.authenticate(alg, []byte(string(c.opt.SharedSecret)))
}

// greeting is the data socket before the engine has it.
type greeting struct {
	conn   net.Conn
	within time.Duration
}

func (g *greeting) send(b []byte) error {
	g.conn.SetWriteDeadline(time.Now().Add(g.within))
	_, err := g.conn.Write(b)
	return err
}

func (g *greeting) read(b []byte) error {
	g.conn.SetReadDeadline(time.Now().Add(g.within))
	_, err := io.ReadFull(g.conn, b)
	return err
}

func (g *greeting) features() (wire.FeatureFlags, error) {
	own := wire.Offer()
	body := own.Append(nil)
	b := wire.AppendHeader80(nil, wire.Header{Cmd: wire.CmdConnectionFeatures, Length: uint32(len(body))})
	if err := g.send(append(b, body...)); err != nil {
		return 0, err
	}
	head := make([]byte, wire.HeaderLen80)
	if err := g.read(head); err != nil {
		return 0, fmt.Errorf("features of the peer: %w", err)
	}
	h, err := wire.DecodeHeader80(head)
	if err != nil {
		return 0, err
	}
	if h.Cmd != wire.CmdConnectionFeatures {
		return 0, &peerRefusal{fmt.Sprintf("the peer opens with %s in place of P_CONNECTION_FEATURES: it is no DRBD of 8.3 or newer", h.Cmd)}
	}
	if int(h.Length) != len(body) {
		return 0, &peerRefusal{fmt.Sprintf("the peer's P_CONNECTION_FEATURES has %d bytes in place of %d", h.Length, len(body))}
	}
	if err := g.read(body); err != nil {
		return 0, fmt.Errorf("features of the peer: %w", err)
	}
	theirs, err := wire.DecodeFeatures(body)
	if err != nil {
		return 0, err
	}
	_, flags, ok := wire.Agree(own, theirs)
	if !ok {
		return 0, &peerRefusal{fmt.Sprintf("the peer speaks protocol versions %d to %d, this node speaks %d: bring the peer to DRBD 8.4.11 or newer, or to urbd",
			theirs.ProtocolMin, max(theirs.ProtocolMin, theirs.ProtocolMax), wire.Version)}
	}
	return flags, nil
}

// packet reads one packet with the 16 byte header and at most most bytes. A
// longer one is announced by tooLong, and nothing of its body is read.
func (g *greeting) packet(most int) (h wire.Header, body []byte, tooLong bool, err error) {
	head := make([]byte, wire.HeaderLen100)
	if err := g.read(head); err != nil {
		return h, nil, false, err
	}
	if h, err = wire.DecodeHeader100(head); err != nil {
		return h, nil, false, err
	}
	if h.Length > uint32(most) {
		return h, nil, true, nil
	}
	body = make([]byte, h.Length)
	return h, body, false, g.read(body)
}

func (g *greeting) post(cmd wire.Cmd, body []byte) error {
	b := wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Length: uint32(len(body))})
	return g.send(append(b, body...))
}

// authenticate has one row of docs/drbd-wire.md 6 for each return.
func (g *greeting) authenticate(alg wire.Digest, secret []byte) error {
	var mine [wire.ChallengeLen]byte
	rand.Read(mine[:])
	if err := g.post(wire.CmdAuthChallenge, mine[:]); err != nil {
		return fmt.Errorf("authentication: %w", err)
	}
	h, theirs, tooLong, err := g.packet(wire.MaxChallenge)
	switch {
	case err != nil:
		return fmt.Errorf("authentication: %w", err)
	case h.Cmd != wire.CmdAuthChallenge:
		return &peerRefusal{fmt.Sprintf("the peer sends %s where it should authenticate: set cram-hmac-alg and shared-secret on both nodes", h.Cmd)}
	case tooLong:
		return &peerRefusal{fmt.Sprintf("the peer's challenge has %d bytes, at most %d are allowed", h.Length, wire.MaxChallenge)}
	}
	if err := wire.CheckChallenge(theirs, mine); err != nil {
		return &peerRefusal{"the peer's challenge is not acceptable: " + err.Error()}
	}
	if err := g.post(wire.CmdAuthResponse, alg.AppendAuth(nil, secret, theirs)); err != nil {
		return fmt.Errorf("authentication: %w", err)
	}
	h, answer, tooLong, err := g.packet(wire.MaxDigest)
	switch {
	case err != nil:
		return fmt.Errorf("authentication: %w", err)
	case h.Cmd != wire.CmdAuthResponse:
		return fmt.Errorf("authentication: %s in place of P_AUTH_RESPONSE", h.Cmd)
	case tooLong, len(answer) != alg.Size():
		return fmt.Errorf("authentication: the peer's answer has %d bytes, %s makes %d: cram-hmac-alg differs", h.Length, alg, alg.Size())
	}
	if !alg.AuthMatches(answer, secret, mine[:]) {
		return &peerRefusal{"the peer's answer does not fit our challenge: the shared-secret differs"}
	}
	return nil
}
