package statemachine

import (
	"fmt"
	"strings"
)

// Effect is something that has to be done because of a change, in the order
// given. Whoever does them may let one wait for the next only where its comment
// says so: everything before a WriteMetadata only changes memory, and nothing
// after it may be seen by anybody before it is durable.
type Effect interface{ effect() }

// What is remembered.
type (
	// MarkUnacked marks every write that the peer has not confirmed (by P_BARRIER_ACK, if it comes to
	// that) as out of sync. It does not end the requests: what the peer still answers it answers.
	MarkUnacked struct{}
	// SetAllBits sets the whole bitmap. The FULL_SYNC mark goes into the next
	// WriteMetadata; when the bitmap itself is on disk it is taken off again. In
	// StartingSyncS and StartingSyncT [BitsSet] is awaited then.
	SetAllBits struct{}
	// ClearAllBits clears the whole bitmap: both disks are declared equal.
	ClearAllBits struct{}
	// MarkConsiderResync sets Rules.ConsiderResync until the next [PeerState].
	MarkConsiderResync struct{}
	// NewCurrentUUID starts a data generation: [UUIDs.NewCurrent].
	NewCurrentUUID struct{}
	// RenewCurrentUUID starts one where the bits count already: [UUIDs.Renew].
	RenewCurrentUUID struct{}
	// RememberNewUUID sets Rules.NewUUIDPending: I/O is frozen, the new
	// generation starts when it is let go, unless the peer is back by then.
	RememberNewUUID struct{}
	// ForgetNewUUID clears Rules.NewUUIDPending: the peer was back in time.
	ForgetNewUUID struct{}
	// AdoptCurrentUUID takes the peer's current UUID over: [UUIDs.Adopt]. As after the
	// three below, both sets are equal now, which nobody announces: the copy of the peer's becomes the own one.
	AdoptCurrentUUID struct{}
	// ClearBitmapUUID is [UUIDs.ClearBitmap]; the copy of the peer's set becomes the own one.
	ClearBitmapUUID struct{}
	// StartSourceUUIDs is [UUIDs.StartSource]; SendSyncUUID sends its result.
	StartSourceUUIDs struct{}
	// StartTargetUUIDs is [UUIDs.StartTarget] with the UUID just received.
	StartTargetUUIDs struct{}
	// FinishSourceUUIDs is [UUIDs.FinishSource]; the copy of the peer's set becomes the own one.
	FinishSourceUUIDs struct{}
	// FinishTargetUUIDs is [UUIDs.FinishTarget] with the copy of the peer's set; then that
	// becomes the own one. A later invalidate, which announces nothing, depends on it.
	FinishTargetUUIDs struct{}
	// SetRoleBit makes bit 0 of the current UUID follow the role: [UUIDs.WithRole].
	SetRoleBit struct{ Primary bool }
	// WriteMetadata makes flags, UUIDs and marks durable in one write.
	WriteMetadata struct{}
)

// What is sent. Each is for this volume, on the data socket unless said otherwise.
type (
	// SendParameters sends the volume's share of the parameter block: options,
	// sizes, UUIDs, and last a P_STATE that still says WFConnection.
	// Source: docs/drbd-wire.md 4.7, 9.6 row a.
	SendParameters struct{}
	// SendState sends P_STATE with the state that the transition led to.
	SendState struct{}
	// SendUUIDs sends P_UUIDS (not if the own disk is below Negotiating).
	// SkipInitialSync is its flag 0x8.
	SendUUIDs struct{ SkipInitialSync bool }
	// SendSizes sends P_SIZES.
	SendSizes struct{}
	// SendSyncUUID sends P_SYNC_UUID, before anything else of the new state.
	SendSyncUUID struct{}
	// SendBitmap sends the whole bitmap; [OwnBitmapSent] is awaited.
	SendBitmap struct{}
	// SendRequest asks the peer for a change: P_STATE_CHG_REQ, or
	// P_CONN_ST_CHG_REQ if it is the connection's. [PeerReply] is awaited. If the
	// connection is lost instead, the event that led here is applied again.
	SendRequest struct {
		Change     Change
		Connection bool
	}
	// SendLeave tells the peer that this node disconnects, in the words of a request whose answer nobody waits for:
	// what the peer sees next is the end of the sockets, which a crash looks like, too.
	SendLeave struct{}
	// SendReply answers a [PeerRequest], on meta.
	SendReply struct {
		Code       int32
		Connection bool
	}
	// SendPing sends P_PING, on meta: is the peer alive at all?
	SendPing struct{}
	// ConsentFence does one after the consent to be the source of a resync; then [ConsentHeard] is
	// due, if the volume is in StartingSyncS all the time until then.
	ConsentFence struct{}
)

// What is begun and ended.
type (
	// StartReceiver begins attempts to connect, after the back-off if the last
	// connection was lost; [ReceiverStarted] is awaited.
	StartReceiver struct{}
	// CloseConn closes the sockets, lets what was received finish, and cleans up;
	// [Cleaned] is awaited. What was sent before it in the same turn goes out
	// first. Why is the reason, nil if it is simply the state's name.
	CloseConn struct{ Why error }
	// DropNetConfig forgets the peer's address: connecting needs a new command.
	DropNetConfig struct{}
	// StartResync takes the number of set bits as the total and, unless Paused, the
	// Target begins to ask for blocks.
	StartResync struct{ Paused bool }
	// PauseResync stops asking for blocks; those under way are finished.
	PauseResync struct{}
	// ResumeResync asks again.
	ResumeResync struct{}
	// StopResync ends the resync's bookkeeping: it is done, or aborted.
	StopResync struct{}
	// StartVerify begins an online verify.
	StartVerify struct{}
	// StopVerify ends it.
	StopVerify struct{}
	// ReleaseDisk lets the own disk go when the last request on it has ended;
	// [DetachDone] is awaited.
	ReleaseDisk struct{}
	// FencePeer runs the fence-peer handler; [Fenced] is awaited.
	FencePeer struct{}
)

func (MarkUnacked) effect()        {}
func (SetAllBits) effect()         {}
func (ClearAllBits) effect()       {}
func (MarkConsiderResync) effect() {}
func (NewCurrentUUID) effect()     {}
func (RenewCurrentUUID) effect()   {}
func (RememberNewUUID) effect()    {}
func (ForgetNewUUID) effect()      {}
func (AdoptCurrentUUID) effect()   {}
func (ClearBitmapUUID) effect()    {}
func (StartSourceUUIDs) effect()   {}
func (StartTargetUUIDs) effect()   {}
func (FinishSourceUUIDs) effect()  {}
func (FinishTargetUUIDs) effect()  {}
func (SetRoleBit) effect()         {}
func (WriteMetadata) effect()      {}
func (SendParameters) effect()     {}
func (SendState) effect()          {}
func (SendUUIDs) effect()          {}
func (SendSizes) effect()          {}
func (SendSyncUUID) effect()       {}
func (SendBitmap) effect()         {}
func (SendRequest) effect()        {}
func (SendLeave) effect()          {}
func (SendReply) effect()          {}
func (SendPing) effect()           {}
func (ConsentFence) effect()       {}
func (StartReceiver) effect()      {}
func (CloseConn) effect()          {}
func (DropNetConfig) effect()      {}
func (StartResync) effect()        {}
func (PauseResync) effect()        {}
func (ResumeResync) effect()       {}
func (StopResync) effect()         {}
func (StartVerify) effect()        {}
func (StopVerify) effect()         {}
func (ReleaseDisk) effect()        {}
func (FencePeer) effect()          {}

// EffectString is an effect as transcripts and logs show it: its name and fields,
// without the package.
func EffectString(e Effect) string {
	s := fmt.Sprintf("%+v", e)
	return strings.TrimPrefix(fmt.Sprintf("%T", e), "statemachine.") + s
}
