package wire

import (
	"encoding/binary"
	"fmt"
)

// Header lengths in bytes and magics. Fixed by wire.
const (
	HeaderLen80  = 8
	HeaderLen100 = 16

	magic80  = 0x83740267
	magic100 = 0x8620ec20
)

// Header opens every packet. Two forms are in use (docs/drbd-wire.md 2):
//
//	h80, up to and including P_CONNECTION_FEATURES     h100, everything after
//	offset  size  field                                offset  size  field
//	     0     4  magic 0x83740267                          0     4  magic 0x8620ec20
//	     4     2  command                                   4     2  volume, 0 where there is none
//	     6     2  length                                    6     2  command
//	                                                        8     4  length
//	                                                       12     4  pad, 0
//
// Big-endian. Length counts the bytes after the header.
type Header struct {
	Cmd    Cmd
	Volume uint16 // 0..65534; h80 has none
	Length uint32 // bytes
}

// AppendHeader80 appends the 8 byte form, which has no volume and at most 65535
// bytes after it.
func AppendHeader80(dst []byte, h Header) []byte {
	if h.Length > 0xffff || h.Volume != 0 {
		panic("wire: a header that does not fit the 8 byte form")
	}
	dst = binary.BigEndian.AppendUint32(dst, magic80)
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.Cmd))
	return binary.BigEndian.AppendUint16(dst, uint16(h.Length))
}

// AppendHeader100 appends the 16 byte form.
func AppendHeader100(dst []byte, h Header) []byte {
	dst = binary.BigEndian.AppendUint32(dst, magic100)
	dst = binary.BigEndian.AppendUint16(dst, h.Volume)
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.Cmd))
	dst = binary.BigEndian.AppendUint32(dst, h.Length)
	return binary.BigEndian.AppendUint32(dst, 0)
}

// DecodeHeader80 reads the first 8 bytes of b. It refuses fewer bytes and a
// wrong magic; whether command and length make sense is CheckLength's.
func DecodeHeader80(b []byte) (Header, error) {
	if len(b) < HeaderLen80 {
		return Header{}, badHeader("%d bytes of a header of %d", len(b), HeaderLen80)
	}
	if m := binary.BigEndian.Uint32(b); m != magic80 {
		return Header{}, badHeader("magic %08x in place of %08x", m, uint32(magic80))
	}
	return Header{
		Cmd:    Cmd(binary.BigEndian.Uint16(b[4:])),
		Length: uint32(binary.BigEndian.Uint16(b[6:])),
	}, nil
}

// DecodeHeader100 reads the first 16 bytes of b. It refuses fewer bytes, a
// wrong magic and a pad that is not zero.
func DecodeHeader100(b []byte) (Header, error) {
	if len(b) < HeaderLen100 {
		return Header{}, badHeader("%d bytes of a header of %d", len(b), HeaderLen100)
	}
	if m := binary.BigEndian.Uint32(b); m != magic100 {
		return Header{}, badHeader("magic %08x in place of %08x", m, uint32(magic100))
	}
	if pad := binary.BigEndian.Uint32(b[12:]); pad != 0 {
		return Header{}, badHeader("pad %08x in place of zero", pad)
	}
	return Header{
		Volume: binary.BigEndian.Uint16(b[4:]),
		Cmd:    Cmd(binary.BigEndian.Uint16(b[6:])),
		Length: binary.BigEndian.Uint32(b[8:]),
	}, nil
}

func badHeader(format string, args ...any) error {
	return &DecodeError{CmdUnspecified, "header: " + fmt.Sprintf(format, args...)}
}

// CheckLength says whether a packet with this header may be read from sock: the
// number has a handler there, the length covers the fixed part, and nothing
// beyond what such a packet can carry is announced. After it, h.Length is at
// most a little over MaxRequest, and at most 148 for a packet without a block
// or a bitmap. Source: docs/drbd-wire.md 2.1.
//
// A caller that must tell "no such packet here" from "wrong length" asks
// h.Cmd.Handled(sock).
func CheckLength(sock Socket, h Header) error {
	r := h.Cmd.look()
	if r == nil || r.sock&sock == 0 || r.is&refused != 0 {
		return &DecodeError{h.Cmd, "not expected on the " + sock.String() + " socket"}
	}
	if h.Length < uint32(r.fixed) {
		return &DecodeError{h.Cmd, fmt.Sprintf("length %d below %d", h.Length, r.fixed)}
	}
	if h.Length-uint32(r.fixed) > uint32(r.more) {
		return &DecodeError{h.Cmd, fmt.Sprintf("length %d above %d", h.Length, r.fixed+r.more)}
	}
	return nil
}

// BlockLen gives the bytes of the block that follows the fixed part and a
// digest of digestLen bytes (0 without data integrity) in P_DATA, P_DATA_REPLY
// or P_RS_DATA_REPLY. It refuses what is not a multiple of a sector or exceeds
// MaxRequest. A block of 0 bytes passes: P_DATA may be a bare flush.
// Source: docs/drbd-wire.md 11.1.
func BlockLen(h Header, digestLen int) (int, error) {
	before := lenBlockData + digestLen
	if int64(h.Length) < int64(before) {
		return 0, &DecodeError{h.Cmd, fmt.Sprintf("length %d below %d", h.Length, before)}
	}
	n := int64(h.Length) - int64(before)
	if n%SectorSize != 0 || n > MaxRequest {
		return 0, &DecodeError{h.Cmd, fmt.Sprintf("a block of %d bytes", n)}
	}
	return int(n), nil
}
