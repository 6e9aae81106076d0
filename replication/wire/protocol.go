package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Replication protocols, as in Protocol.Protocol. Source: docs/drbd-wire.md 1.
const (
	ProtA uint32 = 1 // a write is done when it is handed to the network
	ProtB uint32 = 2 // when the peer has received it
	ProtC uint32 = 3 // when the peer's disk has it
)

// After-split-brain policies, as in the AfterSB fields of Protocol.
// Source: docs/drbd-wire.md 1, 9.4.
const (
	ASBDisconnect uint32 = iota
	ASBDiscardYoungerPrimary
	ASBDiscardOlderPrimary
	ASBDiscardZeroChanges
	ASBDiscardLeastChanges
	ASBDiscardLocal
	ASBDiscardRemote
	ASBConsensus
	ASBDiscardSecondary
	ASBCallPriLost
	ASBViolentlyAs0p
)

// ConnFlags are the conn_flags of P_PROTOCOL. Unknown bits are kept.
type ConnFlags uint32

const (
	ConnDiscardMyData ConnFlags = 1 << iota
	ConnDryRun
)

// Protocol is P_PROTOCOL and P_PROTOCOL_UPDATE: what both nodes must be
// configured alike for.
//
//	offset  size  field          unit
//	     0     4  protocol       ProtA, ProtB, ProtC
//	     4     4  after_sb_0pri  ASB value
//	     8     4  after_sb_1pri  ASB value
//	    12     4  after_sb_2pri  ASB value
//	    16     4  conn_flags     Conn bits
//	    20     4  two_primaries  0, 1
//	    24  1-64  integrity_alg  with its NUL
//
// The values are not judged here: one that differs from the own, known or not,
// is a verdict of the handshake. Source: docs/drbd-wire.md 7.1.
type Protocol struct {
	Protocol     uint32
	AfterSB0Pri  uint32
	AfterSB1Pri  uint32
	AfterSB2Pri  uint32
	ConnFlags    ConnFlags
	TwoPrimaries uint32
	IntegrityAlg string // at most 63 bytes, no NUL; empty: none
}

// Append appends the whole body, 25 to 88 bytes.
func (p Protocol) Append(dst []byte) []byte {
	mustName(p.IntegrityAlg)
	dst = binary.BigEndian.AppendUint32(dst, p.Protocol)
	dst = binary.BigEndian.AppendUint32(dst, p.AfterSB0Pri)
	dst = binary.BigEndian.AppendUint32(dst, p.AfterSB1Pri)
	dst = binary.BigEndian.AppendUint32(dst, p.AfterSB2Pri)
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.ConnFlags))
	dst = binary.BigEndian.AppendUint32(dst, p.TwoPrimaries)
	return append(append(dst, p.IntegrityAlg...), 0)
}

// DecodeProtocol reads the whole body. It refuses a name that is not ended by
// the last byte or is longer than 63 bytes.
func DecodeProtocol(b []byte) (Protocol, error) {
	n := len(b) - lenProtocol
	if n < 1 || n > MaxName {
		return Protocol{}, &DecodeError{CmdUnspecified, fmt.Sprintf("p_protocol: %d bytes of integrity_alg", n)}
	}
	if bytes.IndexByte(b[lenProtocol:], 0) != n-1 {
		return Protocol{}, &DecodeError{CmdUnspecified, "p_protocol: integrity_alg does not end with the packet"}
	}
	return Protocol{
		Protocol:     binary.BigEndian.Uint32(b),
		AfterSB0Pri:  binary.BigEndian.Uint32(b[4:]),
		AfterSB1Pri:  binary.BigEndian.Uint32(b[8:]),
		AfterSB2Pri:  binary.BigEndian.Uint32(b[12:]),
		ConnFlags:    ConnFlags(binary.BigEndian.Uint32(b[16:])),
		TwoPrimaries: binary.BigEndian.Uint32(b[20:]),
		IntegrityAlg: string(b[lenProtocol : len(b)-1]),
	}, nil
}

// mustName holds callers to the form of an algorithm's name on the wire.
func mustName(s string) {
	if len(s) >= MaxName {
		panic("wire: the name of an algorithm is longer than 63 bytes")
	}
	for i := range len(s) {
		if s[i] == 0 {
			panic("wire: the name of an algorithm has a NUL in it")
		}
	}
}
