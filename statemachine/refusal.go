package statemachine

import "fmt"

// Refusal answers a request that the rules do not allow. Nothing has changed.
type Refusal string

// The refusals that have a code on the wire. Source: docs/drbd-wire.md 1, 14.3.
const (
	TwoPrimaries           Refusal = "the peer is Primary, and allow-two-primaries is not set"
	NoUpToDateDisk         Refusal = "need access to UpToDate data"
	NoLocalDisk            Refusal = "need a usable local disk"
	NoRemoteDisk           Refusal = "need a usable disk on the peer"
	ConnectedOutdates      Refusal = "own disk may not be Outdated nor the peer's unknown while connected"
	PrimaryNOP             Refusal = "a Primary may not lose its peer before the peer's disk is outdated (fencing)"
	ResyncRunning          Refusal = "a resync or verify is running"
	AlreadyStandAlone      Refusal = "already StandAlone"
	RefusedByPeer          Refusal = "refused by the peer"
	IsDiskless             Refusal = "there is no disk attached"
	DeviceInUse            Refusal = "the device is in use"
	NoNetConfig            Refusal = "there is no network configuration"
	NoVerifyAlg            Refusal = "verify-alg is not set"
	NeedConnection         Refusal = "need a connection to the peer"
	LowerThanOutdated      Refusal = "the disk is worth less than Outdated"
	NotSupported           Refusal = "not supported"
	InTransientState       Refusal = "in a transient state, try again"
	ConcurrentChange       Refusal = "a change asked for by this node is pending"
	OtherVolumePeerPrimary Refusal = "the peer is Primary on another volume"
	OutdateWithoutPeer     Refusal = "need a connection to outdate the peer"
)

// Refusals of this package's own; none of them is ever sent.
const (
	AlreadyConnecting Refusal = "the connection is not StandAlone"
	DiscardOnPrimary  Refusal = "a Primary cannot discard its data"
	AlreadyAttached   Refusal = "a disk is attached"
	NotAttaching      Refusal = "the disk is not being attached"
	NotFresh          Refusal = "the data is not just created"
	OutdatedDisk      Refusal = "this node's disk is Outdated: the peer could go on without it, and whatever was written there since is lost with --force"
	OtherDataInUse    Refusal = "the device is in use since before its daemon died, and its users worked on data that this node does not have"
	UsersNeedDisk     Refusal = "the device is in use since before its daemon died, and its users worked on this node's disk, which is not UpToDate"
	LeftMeanwhile     Refusal = "the nodes were disconnected while the promotion waited for the peer"
	PrimaryLost       Refusal = "the peer was Primary, and alive, until the connection was lost while the promotion waited"
)

// Codes that are not refusals. Source: docs/drbd-wire.md 1.
const (
	CodeSuccess     int32 = 1 // granted, and done
	CodeNothingToDo int32 = 2
	CodeUnknown     int32 = 0 // what a refusal without a code of its own is sent as
)

var refusalCodes = map[Refusal]int32{
	TwoPrimaries: -1, NoUpToDateDisk: -2, NoLocalDisk: -4, NoRemoteDisk: -5, ConnectedOutdates: -6, PrimaryNOP: -7,
	ResyncRunning: -8, AlreadyStandAlone: -9, RefusedByPeer: -10, IsDiskless: -11, DeviceInUse: -12, NoNetConfig: -13,
	NoVerifyAlg: -14, NeedConnection: -15, LowerThanOutdated: -16, NotSupported: -17, InTransientState: -18,
	ConcurrentChange: -19, OtherVolumePeerPrimary: -20, OutdateWithoutPeer: -21,
}

var refusalOf = func() map[int32]Refusal {
	m := make(map[int32]Refusal, len(refusalCodes))
	for r, code := range refusalCodes {
		m[code] = r
	}
	return m
}()

// Error says what the request was refused for.
func (r Refusal) Error() string { return "refused: " + string(r) }

// RefusalCode is the code that a reply carries for r; [CodeUnknown] if it has none.
func (r Refusal) RefusalCode() int32 {
	if r == OutdatedDisk {
		r = NoUpToDateDisk // which it says more of
	}
	return refusalCodes[r]
}

// Consents says whether a peer's reply is a yes. Source: docs/drbd-wire.md 1.
func Consents(code int32) bool { return code >= CodeSuccess }

// PeerRefusal is a refusal that the peer answered.
type PeerRefusal struct{ Code int32 }

// Reason is what the peer's code stands for; empty for a code that is unknown here.
func (e *PeerRefusal) Reason() Refusal { return refusalOf[e.Code] }

// Error says that it was the peer, and what it gave as the reason.
func (e *PeerRefusal) Error() string {
	if why := e.Reason(); why != "" {
		return "refused by the peer: " + string(why)
	}
	return fmt.Sprintf("refused by the peer: code %d", e.Code)
}

// Unwrap makes errors.Is(err, RefusedByPeer) hold.
func (e *PeerRefusal) Unwrap() error { return RefusedByPeer }
