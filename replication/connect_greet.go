package replication

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// handshake agrees on version and features and, when a secret is configured,
// proves it to the peer and lets the peer prove it. What it reads is bounded, in
// time by 4 ping-timeouts for each packet. The error is a *peerFault where the peer is there and says the wrong thing,
// for which the driver goes StandAlone. This node does not: whoever says it may be any program at the peer's address.
// Source: docs/drbd-wire.md 5, 6.
func (c *connector) handshake(data net.Conn) (wire.FeatureFlags, error) {
	g := greeting{data, 4 * c.opt.PingTimeout}
	defer data.SetDeadline(time.Time{})
	flags, err := g.features()
	if err != nil {
		return 0, err
	}
	if !c.opt.Authenticates() {
		return flags, nil
	}
	alg, ok := wire.DigestByName(c.opt.CRAMHMACAlg)
	if !ok || !alg.Authenticates() {
		return 0, faultf("cram-hmac-alg %s cannot be used here", c.opt.CRAMHMACAlg)
	}
	return flags, g.authenticate(alg, []byte(string(c.opt.SharedSecret)), c.name)
}

// A greetError is why the greeting of a peer has failed.
type greetError struct{ err error }

// Error leaves out what is never the same twice, like the port that the peer came from.
func (e *greetError) Error() string {
	var op *net.OpError
	switch {
	case errors.Is(e.err, os.ErrDeadlineExceeded):
		return "the peer connects and then says nothing"
	case errors.Is(e.err, io.EOF), errors.Is(e.err, io.ErrUnexpectedEOF), errors.Is(e.err, syscall.ECONNRESET), errors.Is(e.err, syscall.EPIPE):
		return "the peer connects and then closes the connection: if it goes on, its log says what it does not like about this node"
	case errors.As(e.err, &op):
		return "the connection fails while the peer is greeted: " + op.Err.Error()
	}
	return e.err.Error()
}

func (e *greetError) Unwrap() error { return e.err }

// greeting is the data socket before the engine has it.
type greeting struct {
	conn   net.Conn
	within time.Duration // for one packet
}

func (g *greeting) send(b []byte) error {
	g.conn.SetWriteDeadline(time.Now().Add(g.within))
	_, err := g.conn.Write(b)
	return err
}

// next gives the peer the time for its next packet.
func (g *greeting) next() { g.conn.SetReadDeadline(time.Now().Add(g.within)) }

func (g *greeting) read(b []byte) error {
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
	g.next()
	if err := g.read(head); err != nil {
		return 0, fmt.Errorf("features of the peer: %w", err)
	}
	h, err := wire.DecodeHeader80(head)
	if err != nil {
		return 0, &peerFault{"what answers at the peer's address is no DRBD peer", err}
	}
	if h.Cmd != wire.CmdConnectionFeatures {
		return 0, faultf("the peer opens with %s in place of P_CONNECTION_FEATURES: it is no DRBD of 8.3 or newer", h.Cmd)
	}
	if int(h.Length) != len(body) {
		return 0, faultf("the peer's P_CONNECTION_FEATURES has %d bytes in place of %d", h.Length, len(body))
	}
	if err := g.read(body); err != nil {
		return 0, fmt.Errorf("features of the peer: %w", err)
	}
	theirs, err := wire.DecodeFeatures(body)
	if err != nil {
		return 0, &peerFault{"the peer's P_CONNECTION_FEATURES make no sense", err}
	}
	_, flags, ok := wire.Agree(own, theirs)
	if !ok {
		return 0, faultf("the peer speaks protocol versions %d to %d, this node speaks %d: bring the peer to DRBD 8.4.11 or newer, or to urbd",
			theirs.ProtocolMin, max(theirs.ProtocolMin, theirs.ProtocolMax), wire.Version)
	}
	return flags, nil
}

// packet reads one packet with the 16 byte header and at most most bytes. A
// longer one is announced by tooLong, and nothing of its body is read.
func (g *greeting) packet(most int) (h wire.Header, body []byte, tooLong bool, err error) {
	head := make([]byte, wire.HeaderLen100)
	g.next()
	if err := g.read(head); err != nil {
		return h, nil, false, err
	}
	if h, err = wire.DecodeHeader100(head); err != nil {
		return h, nil, false, &peerFault{"the peer sends no packet where it should authenticate", err}
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

// authenticate has one row of docs/drbd-wire.md 6 for each return. name is this node's.
func (g *greeting) authenticate(alg wire.Digest, secret []byte, name string) error {
	mine := newChallenge(secret, name)
	if err := g.post(wire.CmdAuthChallenge, mine[:]); err != nil {
		return fmt.Errorf("authentication: %w", err)
	}
	h, theirs, tooLong, err := g.packet(wire.MaxChallenge)
	switch {
	case err != nil:
		return fmt.Errorf("authentication: %w", err)
	case h.Cmd != wire.CmdAuthChallenge:
		return faultf("the peer sends %s where it should authenticate: set cram-hmac-alg and shared-secret on both nodes", h.Cmd)
	case tooLong:
		return faultf("the peer's challenge has %d bytes, at most %d are allowed", h.Length, wire.MaxChallenge)
	}
	if err := wire.CheckChallenge(theirs, mine); err != nil {
		return &peerFault{"the peer's challenge is not acceptable", err}
	}
	if ownChallenge(secret, name, theirs) {
		return faultf("the peer's challenge is one of this node's, from another connection: somebody without the secret wants it answered")
	}
	if err := g.post(wire.CmdAuthResponse, alg.AppendAuth(nil, secret, theirs)); err != nil {
		return fmt.Errorf("authentication: %w", err)
	}
	h, answer, tooLong, err := g.packet(wire.MaxDigest)
	switch {
	case err != nil:
		return fmt.Errorf("authentication: %w", err)
	case h.Cmd != wire.CmdAuthResponse:
		return faultf("the peer sends %s in place of P_AUTH_RESPONSE", h.Cmd)
	case tooLong, len(answer) != alg.Size():
		return faultf("the peer's answer has %d bytes, %s makes %d: cram-hmac-alg differs, make it equal on both nodes", h.Length, alg, alg.Size())
	}
	if !alg.AuthMatches(answer, secret, mine[:]) {
		return faultf("the peer's answer does not fit our challenge: the shared-secret differs, make it equal on both nodes")
	}
	return nil
}
