package wiretest

import (
	"fmt"

	"github.com/urbd/urbd/replication/wire"
)

// splitter cuts one direction of a connection into packets.
type splitter struct {
	buf  []byte
	long bool // the 16 byte header is in use
}

// packet is one packet of a stream; raw is nil where none is whole yet.
type packet struct {
	header wire.Header
	body   []byte
	raw    []byte
}

func (s *splitter) push(b []byte) { s.buf = append(s.buf, b...) }

// purpose tells from the dialer's first packet what the connection is for.
func (s *splitter) purpose() wire.Socket {
	h, err := wire.DecodeHeader80(s.buf)
	if err != nil {
		return 0
	}
	return h.Cmd.Socket()
}

// pop cuts off the next packet. The header changes its form after the packet
// that names the purpose of a meta connection, and after the features on a data
// connection; the listener of a meta connection never uses the short one.
// Source: docs/drbd-wire.md 2.
func (s *splitter) pop(sock wire.Socket, dialer bool) (packet, error) {
	if sock == wire.MetaSock && !dialer {
		s.long = true
	}
	n, decode := wire.HeaderLen80, wire.DecodeHeader80
	if s.long {
		n, decode = wire.HeaderLen100, wire.DecodeHeader100
	}
	if len(s.buf) < n {
		return packet{}, nil
	}
	h, err := decode(s.buf)
	if err != nil {
		return packet{}, err
	}
	if err := wire.CheckLength(sock, h); err != nil {
		return packet{}, err
	}
	if h.Cmd.Handshake() == s.long && h.Cmd != wire.CmdAuthChallenge && h.Cmd != wire.CmdAuthResponse {
		return packet{}, fmt.Errorf("%v with a header of %d bytes", h.Cmd, n)
	}
	end := n + int(h.Length)
	if len(s.buf) < end {
		return packet{}, nil
	}
	raw := s.buf[:end:end]
	s.buf = s.buf[end:]
	s.long = s.long || h.Cmd == wire.CmdInitialMeta || h.Cmd == wire.CmdConnectionFeatures
	return packet{h, raw[n:], raw}, nil
}
