package statemachine

import "strings"

// State is one volume as one node sees it. It is comparable; the zero value is
// a volume that was just created apart from its role, for which see [Initial].
type State struct {
	Role, Peer     Role // own, and the peer's as far as known
	Conn           Conn
	Disk, PeerDisk Disk // own, and the peer's as far as known

	Susp        bool // I/O suspended by the administrator
	SuspNoData  bool // I/O suspended: no UpToDate disk within reach
	SuspFencing bool // I/O suspended: the fence-peer handler has not answered
	AfterISP    bool // resync paused here by resync-after
	PeerISP     bool // resync paused by the peer, for either reason
	UserISP     bool // resync paused here by the administrator
}

// Initial is the state of a volume that was just created.
var Initial = State{Role: Secondary, Conn: StandAlone, Disk: Diskless, PeerDisk: DUnknown}

// Positions of the fields in the state word. Source: docs/drbd-wire.md 8.
const (
	shiftRole     = 0
	shiftPeer     = 2
	shiftConn     = 4
	shiftDisk     = 9
	shiftPeerDisk = 13

	bitSusp        = 1 << 17
	bitAfterISP    = 1 << 18
	bitPeerISP     = 1 << 19
	bitUserISP     = 1 << 20
	bitSuspNoData  = 1 << 21
	bitSuspFencing = 1 << 22
)

// Word packs s the way P_STATE carries it.
//
//	bits    field                      bits  field
//	 0-1    role                       17    susp
//	 2-3    peer                       18    aftr_isp
//	 4-8    conn                       19    peer_isp
//	 9-12   disk                       20    user_isp
//	13-16   pdsk                       21    susp_nod
//	                                   22    susp_fen
//
// Source: docs/drbd-wire.md 8.
func (s State) Word() uint32 {
	w := uint32(s.Role)<<shiftRole | uint32(s.Peer)<<shiftPeer | uint32(s.Conn)<<shiftConn |
		uint32(s.Disk)<<shiftDisk | uint32(s.PeerDisk)<<shiftPeerDisk
	for _, f := range []struct {
		on  bool
		bit uint32
	}{
		{s.Susp, bitSusp}, {s.AfterISP, bitAfterISP}, {s.PeerISP, bitPeerISP},
		{s.UserISP, bitUserISP}, {s.SuspNoData, bitSuspNoData}, {s.SuspFencing, bitSuspFencing},
	} {
		if f.on {
			w |= f.bit
		}
	}
	return w
}

// FromWord unpacks a state word, as the one who sent it sees the volume. Bits 23
// to 31 are ignored. The fields of a word from the network may hold values that
// do not exist; ask [State.Known].
func FromWord(w uint32) State {
	return State{
		Role:        Role(w >> shiftRole & roleMask),
		Peer:        Role(w >> shiftPeer & roleMask),
		Conn:        Conn(w >> shiftConn & connMask),
		Disk:        Disk(w >> shiftDisk & diskMask),
		PeerDisk:    Disk(w >> shiftPeerDisk & diskMask),
		Susp:        w&bitSusp != 0,
		SuspNoData:  w&bitSuspNoData != 0,
		SuspFencing: w&bitSuspFencing != 0,
		AfterISP:    w&bitAfterISP != 0,
		PeerISP:     w&bitPeerISP != 0,
		UserISP:     w&bitUserISP != 0,
	}
}

// Known says whether every field holds a value that exists, and the own ones a
// value that an own one can have.
func (s State) Known() bool {
	return s.Role.Known() && s.Peer.Known() && s.Conn.Known() && s.Disk.Known() && s.PeerDisk.Known() &&
		s.Role != RoleUnknown && s.Disk != DUnknown
}

// Suspended says that application I/O is suspended, for whatever reason.
func (s State) Suspended() bool { return s.Susp || s.SuspNoData || s.SuspFencing }

// Pausing says that somebody wants resync paused.
func (s State) Pausing() bool { return s.AfterISP || s.PeerISP || s.UserISP }

// String is the state in one line, own side before the slash:
//
//	Primary/Secondary Connected UpToDate/UpToDate
//
// followed by the marks that are set, by the names they have on the wire.
func (s State) String() string {
	var b strings.Builder
	b.WriteString(s.Role.String() + "/" + s.Peer.String() + " " + s.Conn.String() + " " +
		s.Disk.String() + "/" + s.PeerDisk.String())
	for _, f := range []struct {
		on   bool
		name string
	}{
		{s.Susp, " susp"}, {s.SuspNoData, " susp_nod"}, {s.SuspFencing, " susp_fen"},
		{s.AfterISP, " aftr_isp"}, {s.PeerISP, " peer_isp"}, {s.UserISP, " user_isp"},
	} {
		if f.on {
			b.WriteString(f.name)
		}
	}
	return b.String()
}
