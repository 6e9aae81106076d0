package statemachine

import "fmt"

// Change is a wish for another state, as P_STATE_CHG_REQ and P_CONN_ST_CHG_REQ
// carry it: the bits of the state word under Mask are to become those of Val.
// It is written from the perspective of the node that wishes.
// Source: docs/drbd-wire.md 14.1.
type Change struct{ Mask, Val uint32 }

// The changes that are asked of a peer. Source: docs/drbd-wire.md 14.1.
var (
	PromoteChange        = Change{0x00000003, 0x00000001}
	ForcedPromoteChange  = Change{0x00001E03, 0x00001001} // own disk becomes UpToDate too
	StartingSyncTChange  = Change{0x000001F0, 0x000000C0} // invalidate: overwrite me
	StartingSyncSChange  = Change{0x000001F0, 0x000000B0} // invalidate-remote: I overwrite you
	VerifyChange         = Change{0x000001F0, 0x00000120}
	DetachChange         = Change{0x00001E00, 0x00000400} // own disk becomes Failed
	RemoveVolumeChange   = Change{0x000001F0, 0x00000090}
	DisconnectChange     = Change{0x000001F0, 0x00000010}
	DisconnectPeerChange = Change{0x0001E1F0, 0x0000A010} // and the peer's disk becomes Outdated
	DisconnectSelfChange = Change{0x00001FF0, 0x00000A10} // and the own disk becomes Outdated
)

// Masks of the fields of a state word.
const (
	maskRole     = roleMask << shiftRole
	maskPeer     = roleMask << shiftPeer
	maskConn     = connMask << shiftConn
	maskDisk     = diskMask << shiftDisk
	maskPeerDisk = diskMask << shiftPeerDisk
)

// String names the change by its two words, as in a protocol trace.
func (c Change) String() string { return fmt.Sprintf("%x/%x", c.Mask, c.Val) }

// Apply is s with the change made and nothing corrected: follow it by
// [State.Sanitise].
func (c Change) Apply(s State) State {
	return FromWord(s.Word()&^c.Mask | c.Val&c.Mask)
}

// mirroredConn is what the connection state in a request becomes for the node that
// is asked; a state that is not here becomes 0.
var mirroredConn = map[Conn]Conn{
	WFReportParams: WFReportParams,
	Connected:      Connected,
	StartingSyncS:  StartingSyncT,
	StartingSyncT:  StartingSyncS,
	Disconnecting:  TearDown,
	VerifyS:        VerifyT,
	connMask:       connMask,
}

// within is a change by which a node leaves, without what would make a disk of s Outdated that is worth less, or whose
// volume the peers have not been introduced on: that is a promise about data, and one request speaks for all volumes.
func (c Change) within(s State) Change {
	if s.Disk < Outdated || !s.Conn.Established() {
		c.Mask &^= maskDisk
	}
	if s.PeerDisk < Outdated || !s.Conn.Established() {
		c.Mask &^= maskPeerDisk
	}
	return c
}

// Mirror is the same change from the perspective of the other node.
// Source: docs/drbd-wire.md 8.1.
func (c Change) Mirror() Change { return Change{mirrorWord(c.Mask), mirrorWord(c.Val)} }

// mirrorWord converts one of the two words. A mask is converted like a value,
// which is why connMask maps to itself.
func mirrorWord(w uint32) uint32 {
	const fields = maskRole | maskPeer | maskConn | maskDisk | maskPeerDisk | bitPeerISP
	m := w &^ uint32(fields)
	m |= w >> shiftRole & roleMask << shiftPeer
	m |= w >> shiftPeer & roleMask << shiftRole
	m |= w >> shiftDisk & diskMask << shiftPeerDisk
	m |= w >> shiftPeerDisk & diskMask << shiftDisk
	m |= uint32(mirroredConn[Conn(w>>shiftConn&connMask)]) << shiftConn
	if w&(bitAfterISP|bitUserISP) != 0 {
		m |= bitPeerISP
	}
	return m
}

// grantable says whether a change that a peer wishes, already mirrored, is one of those that
// may be asked for at all: whatever else the words say is not for a peer to decide.
func (c Change) grantable() bool {
	const known = maskPeer | maskConn | maskDisk | maskPeerDisk
	if c.Mask == 0 || c.Mask&^known != 0 {
		return false
	}
	for _, field := range []uint32{maskPeer, maskConn, maskDisk, maskPeerDisk} {
		if m := c.Mask & field; m != 0 && m != field {
			return false // part of a field
		}
	}
	want := FromWord(c.Val)
	if c.Mask&maskPeer != 0 && (want.Peer != Primary || c.Mask&maskConn != 0) {
		return false
	}
	leaving := c.Mask&maskConn != 0 && want.Conn == TearDown
	if c.Mask&maskConn != 0 && !leaving &&
		(c.Mask != maskConn || !want.Conn.StartingSync() && want.Conn != VerifyT && want.Conn != WFReportParams) {
		return false
	}
	if c.Mask&maskDisk != 0 && (!leaving || want.Disk != Outdated) {
		return false
	}
	if c.Mask&maskPeerDisk == 0 {
		return true
	}
	switch want.PeerDisk {
	case UpToDate: // forced promotion
		return c.Mask&maskPeer != 0
	case Failed: // detach
		return c.Mask == maskPeerDisk
	case Outdated: // the peer leaves and stands back
		return leaving
	}
	return false
}
