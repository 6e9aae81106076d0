package wire

import "fmt"

// CmdUnspecified stands in a DecodeError for "one of several": a layout that
// several packets share does not know which one it was part of. It is no packet
// number of the protocol.
const CmdUnspecified Cmd = 0xffff

// DecodeError says why bytes from the peer are refused. The packet is not
// decoded and nothing of it should be used.
type DecodeError struct {
	Packet Cmd // CmdUnspecified where the reason names the layout instead
	Reason string
}

func (e *DecodeError) Error() string {
	if e.Packet == CmdUnspecified {
		return "wire: " + e.Reason
	}
	return "wire: " + e.Packet.String() + ": " + e.Reason
}

func badPacket(c Cmd, got, want int) error {
	return &DecodeError{c, fmt.Sprintf("%d bytes in place of %d", got, want)}
}
