package wire

// StateBits is the state word taken apart. The numbers are wire values; which
// of them are states, and which go together, is not decided here.
//
//	bits   field     bits  field
//	 0-1   role        17  susp      I/O suspended by the user
//	 2-3   peer        18  aftr_isp  resync waits for another one
//	 4-8   conn        19  peer_isp  resync paused by the peer
//	 9-12  disk        20  user_isp  resync paused by the local administrator
//	13-16  pdsk        21  susp_nod  I/O suspended, no data
//	                   22  susp_fen  I/O suspended, fencing under way
//
// Bits 23-31 are zero. Role and Disk are the sender's own, Peer and PeerDisk
// what it thinks of the receiver. Source: docs/drbd-wire.md 1, 8.
type StateBits struct {
	Role, Peer     uint8 // 0..3
	Conn           uint8 // 0..31
	Disk, PeerDisk uint8 // 0..15
	Susp           bool
	AftrISP        bool
	PeerISP        bool
	UserISP        bool
	SuspNoData     bool
	SuspFencing    bool
}

// Masks of the fields in a state word, for StateChgReq.
const (
	MaskRole     uint32 = 0x3
	MaskPeer     uint32 = 0x3 << shiftPeer
	MaskConn     uint32 = 0x1f << shiftConn
	MaskDisk     uint32 = 0xf << shiftDisk
	MaskPeerDisk uint32 = 0xf << shiftPeerDisk

	shiftPeer     = 2
	shiftConn     = 4
	shiftDisk     = 9
	shiftPeerDisk = 13

	bitSusp        uint32 = 1 << 17
	bitAftrISP     uint32 = 1 << 18
	bitPeerISP     uint32 = 1 << 19
	bitUserISP     uint32 = 1 << 20
	bitSuspNoData  uint32 = 1 << 21
	bitSuspFencing uint32 = 1 << 22
)

// BitsOf takes a state word apart; bits 23 to 31 are dropped.
func BitsOf(word uint32) StateBits {
	return StateBits{
		Role:        uint8(word & MaskRole),
		Peer:        uint8(word & MaskPeer >> shiftPeer),
		Conn:        uint8(word & MaskConn >> shiftConn),
		Disk:        uint8(word & MaskDisk >> shiftDisk),
		PeerDisk:    uint8(word & MaskPeerDisk >> shiftPeerDisk),
		Susp:        word&bitSusp != 0,
		AftrISP:     word&bitAftrISP != 0,
		PeerISP:     word&bitPeerISP != 0,
		UserISP:     word&bitUserISP != 0,
		SuspNoData:  word&bitSuspNoData != 0,
		SuspFencing: word&bitSuspFencing != 0,
	}
}

// Word puts the fields together. A field beyond its width is a bug.
func (s StateBits) Word() uint32 {
	if s.Role > 3 || s.Peer > 3 || s.Conn > 31 || s.Disk > 15 || s.PeerDisk > 15 {
		panic("wire: a state that does not fit the state word")
	}
	w := uint32(s.Role) | uint32(s.Peer)<<shiftPeer | uint32(s.Conn)<<shiftConn |
		uint32(s.Disk)<<shiftDisk | uint32(s.PeerDisk)<<shiftPeerDisk
	for _, f := range [...]struct {
		on  bool
		bit uint32
	}{
		{s.Susp, bitSusp}, {s.AftrISP, bitAftrISP}, {s.PeerISP, bitPeerISP},
		{s.UserISP, bitUserISP}, {s.SuspNoData, bitSuspNoData}, {s.SuspFencing, bitSuspFencing},
	} {
		if f.on {
			w |= f.bit
		}
	}
	return w
}
