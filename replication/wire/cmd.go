package wire

import "fmt"

// Cmd is a packet number. It is a wire value.
type Cmd uint16

// Packet numbers. Source: docs/drbd-wire.md 3.
const (
	CmdData               Cmd = 0x00
	CmdDataReply          Cmd = 0x01
	CmdRSDataReply        Cmd = 0x02
	CmdBarrier            Cmd = 0x03
	CmdBitmap             Cmd = 0x04
	CmdUnplugRemote       Cmd = 0x07
	CmdDataRequest        Cmd = 0x08
	CmdRSDataRequest      Cmd = 0x09
	CmdProtocol           Cmd = 0x0b
	CmdUUIDs              Cmd = 0x0c
	CmdSizes              Cmd = 0x0d
	CmdState              Cmd = 0x0e
	CmdSyncUUID           Cmd = 0x0f
	CmdAuthChallenge      Cmd = 0x10
	CmdAuthResponse       Cmd = 0x11
	CmdStateChgReq        Cmd = 0x12
	CmdPing               Cmd = 0x13
	CmdPingAck            Cmd = 0x14
	CmdRecvAck            Cmd = 0x15
	CmdWriteAck           Cmd = 0x16
	CmdRSWriteAck         Cmd = 0x17
	CmdSuperseded         Cmd = 0x18
	CmdNegAck             Cmd = 0x19
	CmdNegDReply          Cmd = 0x1a
	CmdNegRSDReply        Cmd = 0x1b
	CmdBarrierAck         Cmd = 0x1c
	CmdStateChgReply      Cmd = 0x1d
	CmdOVRequest          Cmd = 0x1e
	CmdOVReply            Cmd = 0x1f
	CmdOVResult           Cmd = 0x20
	CmdCsumRSRequest      Cmd = 0x21
	CmdRSIsInSync         Cmd = 0x22
	CmdSyncParam89        Cmd = 0x23
	CmdCompressedBitmap   Cmd = 0x24
	CmdDelayProbe         Cmd = 0x27
	CmdOutOfSync          Cmd = 0x28
	CmdRSCancel           Cmd = 0x29
	CmdConnStChgReq       Cmd = 0x2a
	CmdConnStChgReply     Cmd = 0x2b
	CmdRetryWrite         Cmd = 0x2c
	CmdProtocolUpdate     Cmd = 0x2d
	CmdTrim               Cmd = 0x31
	CmdRSThinReq          Cmd = 0x32
	CmdRSDeallocated      Cmd = 0x33
	CmdWSame              Cmd = 0x34
	CmdZeroes             Cmd = 0x36
	CmdInitialMeta        Cmd = 0xfff1
	CmdInitialData        Cmd = 0xfff2
	CmdConnectionFeatures Cmd = 0xfffe
)

// Socket names the streams of a connection. Both may be set.
type Socket uint8

const (
	DataSock Socket = 1 << iota
	MetaSock
)

func (s Socket) String() string {
	switch s {
	case DataSock:
		return "data"
	case MetaSock:
		return "meta"
	case DataSock | MetaSock:
		return "data+meta"
	}
	return "none"
}

// Lengths of the fixed parts, in bytes.
const (
	lenBlockData  = 24
	lenTrimBlock  = 28
	lenBlockReq   = 24
	lenBlockAck   = 24
	lenBlockDesc  = 16
	lenBarrier    = 8
	lenState      = 4
	lenStateReq   = 8
	lenStateReply = 4
	lenUUIDs      = 48
	lenSyncUUID   = 8
	lenProtocol   = 24
	lenSyncParam  = 148
	lenSizesShort = 32
	lenSizes      = 56
	lenFeatures   = 72
	lenDelayProbe = 8
)

// Most bytes that may follow a fixed part.
const (
	maxBlock  = MaxDigest + MaxRequest // a digest, then the block
	maxBitmap = 4096 - HeaderLen100    // the peer's socket buffer, less the header
)

// traits of a packet number, beyond its socket and sizes.
type traits uint8

const (
	volumed   traits = 1 << iota // the volume field of the header is meaningful
	handshake                    // belongs before the parameter exchange only
	refused                      // has a name and a form, but no receiver handles it
	whole                        // what follows the fixed part is decoded with it
)

// row is what the protocol fixes about one packet number. The packet may have
// fixed to fixed+more bytes after its header.
type row struct {
	cmd   Cmd
	name  string
	sock  Socket
	fixed int
	more  int
	is    traits
}

// table is the one source of names, sockets and sizes.
// Source: docs/drbd-wire.md 3, in its order.
var table = [...]row{
	{CmdData, "P_DATA", DataSock, lenBlockData, maxBlock, volumed},
	{CmdDataReply, "P_DATA_REPLY", DataSock, lenBlockData, maxBlock, volumed},
	{CmdRSDataReply, "P_RS_DATA_REPLY", DataSock, lenBlockData, maxBlock, volumed},
	{CmdBarrier, "P_BARRIER", DataSock, lenBarrier, 0, 0},
	{CmdBitmap, "P_BITMAP", DataSock, 0, maxBitmap, volumed},
	{CmdUnplugRemote, "P_UNPLUG_REMOTE", DataSock, 0, 0, volumed},
	{CmdDataRequest, "P_DATA_REQUEST", DataSock, lenBlockReq, 0, volumed},
	{CmdRSDataRequest, "P_RS_DATA_REQUEST", DataSock, lenBlockReq, 0, volumed},
	{CmdProtocol, "P_PROTOCOL", DataSock, lenProtocol, MaxName, whole},
	{CmdUUIDs, "P_UUIDS", DataSock, lenUUIDs, 0, volumed},
	{CmdSizes, "P_SIZES", DataSock, lenSizesShort, lenSizes - lenSizesShort, volumed | whole},
	{CmdState, "P_STATE", DataSock, lenState, 0, volumed},
	{CmdSyncUUID, "P_SYNC_UUID", DataSock, lenSyncUUID, 0, volumed},
	{CmdAuthChallenge, "P_AUTH_CHALLENGE", DataSock, 0, MaxChallenge, handshake},
	{CmdAuthResponse, "P_AUTH_RESPONSE", DataSock, 0, MaxDigest, handshake},
	{CmdStateChgReq, "P_STATE_CHG_REQ", DataSock, lenStateReq, 0, volumed},
	{CmdPing, "P_PING", MetaSock, 0, 0, 0},
	{CmdPingAck, "P_PING_ACK", MetaSock, 0, 0, 0},
	{CmdRecvAck, "P_RECV_ACK", MetaSock, lenBlockAck, 0, volumed},
	{CmdWriteAck, "P_WRITE_ACK", MetaSock, lenBlockAck, 0, volumed},
	{CmdRSWriteAck, "P_RS_WRITE_ACK", MetaSock, lenBlockAck, 0, volumed},
	{CmdSuperseded, "P_SUPERSEDED", MetaSock, lenBlockAck, 0, volumed},
	{CmdNegAck, "P_NEG_ACK", MetaSock, lenBlockAck, 0, volumed},
	{CmdNegDReply, "P_NEG_DREPLY", MetaSock, lenBlockAck, 0, volumed},
	{CmdNegRSDReply, "P_NEG_RS_DREPLY", MetaSock, lenBlockAck, 0, volumed},
	{CmdBarrierAck, "P_BARRIER_ACK", MetaSock, lenBarrier, 0, 0},
	{CmdStateChgReply, "P_STATE_CHG_REPLY", MetaSock, lenStateReply, 0, volumed},
	{CmdOVRequest, "P_OV_REQUEST", DataSock, lenBlockReq, 0, volumed},
	{CmdOVReply, "P_OV_REPLY", DataSock, lenBlockReq, MaxDigest, volumed},
	{CmdOVResult, "P_OV_RESULT", MetaSock, lenBlockAck, 0, volumed},
	{CmdCsumRSRequest, "P_CSUM_RS_REQUEST", DataSock, lenBlockReq, MaxDigest, volumed},
	{CmdRSIsInSync, "P_RS_IS_IN_SYNC", MetaSock, lenBlockAck, 0, volumed},
	{CmdSyncParam89, "P_SYNC_PARAM89", DataSock, lenSyncParam, 0, volumed},
	{CmdCompressedBitmap, "P_COMPRESSED_BITMAP", DataSock, 0, maxBitmap, volumed},
	{CmdDelayProbe, "P_DELAY_PROBE", DataSock | MetaSock, lenDelayProbe, 0, volumed},
	{CmdOutOfSync, "P_OUT_OF_SYNC", DataSock, lenBlockDesc, 0, volumed},
	{CmdRSCancel, "P_RS_CANCEL", MetaSock, lenBlockAck, 0, volumed},
	{CmdConnStChgReq, "P_CONN_ST_CHG_REQ", DataSock, lenStateReq, 0, 0},
	{CmdConnStChgReply, "P_CONN_ST_CHG_REPLY", MetaSock, lenStateReply, 0, 0},
	{CmdRetryWrite, "P_RETRY_WRITE", MetaSock, lenBlockAck, 0, volumed},
	{CmdProtocolUpdate, "P_PROTOCOL_UPDATE", DataSock, lenProtocol, MaxName, whole},
	{CmdTrim, "P_TRIM", DataSock, lenTrimBlock, 0, volumed},
	{CmdRSThinReq, "P_RS_THIN_REQ", DataSock, lenBlockReq, 0, volumed},
	{CmdRSDeallocated, "P_RS_DEALLOCATED", DataSock, lenBlockDesc, 0, volumed},
	{CmdWSame, "P_WSAME", DataSock, lenTrimBlock, maxBlock, volumed | refused},
	{CmdZeroes, "P_ZEROES", DataSock, lenTrimBlock, 0, volumed},
	{CmdInitialMeta, "P_INITIAL_META", MetaSock, 0, 0, handshake},
	{CmdInitialData, "P_INITIAL_DATA", DataSock, 0, 0, handshake},
	{CmdConnectionFeatures, "P_CONNECTION_FEATURES", DataSock, lenFeatures, 0, handshake},
}

// low holds, for the numbers below 0x40, one more than the place in table; so a
// look-up on the hot path is one load.
var low = func() (at [0x40]uint8) {
	for i, r := range table {
		if int(r.cmd) < len(at) {
			at[r.cmd] = uint8(i + 1)
		}
	}
	return at
}()

// look gives the row of c, or nil for a number that nothing is known about.
func (c Cmd) look() *row {
	if int(c) < len(low) {
		if i := low[c]; i != 0 {
			return &table[i-1]
		}
		return nil
	}
	for i := range table {
		if table[i].cmd == c {
			return &table[i]
		}
	}
	return nil
}

// String gives the protocol's own spelling: P_RS_DATA_REQUEST.
func (c Cmd) String() string {
	if r := c.look(); r != nil {
		return r.name
	}
	return fmt.Sprintf("P_0x%02x", uint16(c))
}

// Known reports whether the number is in the packet table.
func (c Cmd) Known() bool { return c.look() != nil }

// Socket tells on which streams the packet travels; 0 for an unknown number.
func (c Cmd) Socket() Socket {
	if r := c.look(); r != nil {
		return r.sock
	}
	return 0
}

// Handled reports whether a receiver has a handler for the packet on sock. A
// number without one costs the connection: on the data socket by a reconnect,
// on the meta socket for good (docs/drbd-wire.md 2.1).
func (c Cmd) Handled(sock Socket) bool {
	r := c.look()
	return r != nil && r.sock&sock != 0 && r.is&refused == 0
}

// Fixed is the length in bytes of the part that every such packet has. For
// P_SIZES it is the short form (see SizesLen). 0 for an unknown number.
func (c Cmd) Fixed() int {
	if r := c.look(); r != nil {
		return r.fixed
	}
	return 0
}

// DecodeLen is how many of the bytes after the header the packet's decoder
// takes. The others, a digest, a block or a bitmap, are passed on as they are.
// It is Fixed, but for P_PROTOCOL, P_PROTOCOL_UPDATE and P_SIZES everything.
// The header has passed CheckLength.
func (h Header) DecodeLen() int {
	r := h.Cmd.look()
	switch {
	case r == nil:
		return 0
	case r.is&whole != 0:
		return int(h.Length)
	}
	return r.fixed
}

// MayCarryPayload reports whether bytes may follow the fixed part.
func (c Cmd) MayCarryPayload() bool {
	r := c.look()
	return r != nil && r.more > 0
}

// Volumed reports whether the header names a volume; other packets belong to
// the connection and carry volume 0.
func (c Cmd) Volumed() bool {
	r := c.look()
	return r != nil && r.is&volumed != 0
}

// Handshake reports whether the packet belongs to the opening of a connection
// and is out of place after the parameter exchange began.
func (c Cmd) Handshake() bool {
	r := c.look()
	return r != nil && r.is&handshake != 0
}
