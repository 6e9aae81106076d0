package statemachine

import "fmt"

// JustCreated is the current UUID of metadata that was never in use.
// Source: docs/drbd-wire.md 1.
const JustCreated uint64 = 4

// newBitmapOffset is added to the bitmap UUID when a resync starts: the result
// is the sync UUID, and it can be told later what it was made of.
const newBitmapOffset uint64 = 1 << 48

// newSyncOffset is added to the current UUID instead, where there is no bitmap UUID. It is not the same, so that the peer,
// should it become the source with that current UUID for its bitmap UUID, makes another sync UUID of it.
const newSyncOffset uint64 = 1 << 60

// sameOrigin reports whether one of two UUIDs was made of the other, by resyncs that began.
func sameOrigin(a, b uint64) bool { return (a^b)&(newBitmapOffset-1)&^RoleBit == 0 }

// RoleBit is bit 0 of a current UUID: its owner was Primary when the UUID was set. It
// is no part of the identity and never compared.
const RoleBit uint64 = 1

// The flags of P_UUIDS. Source: docs/drbd-wire.md 7.4.
const (
	FlagDiscardMyData   uint64 = 0x1 // the sender's data may be thrown away in a split brain
	FlagCrashedPrimary  uint64 = 0x2 // the sender was a Primary that crashed
	FlagInconsistent    uint64 = 0x4 // the sender's Negotiating disk is really Inconsistent
	FlagSkipInitialSync uint64 = 0x8 // adopt my current UUID, nothing is to be synced
)

// UUIDs are a volume's generation identifiers. 0 is "none".
//
//	Current   the data as it is
//	Bitmap    the generation that the bitmap's bits count against; 0: none is counted
//	History   generations before, younger first
//
// The methods return the set after one event; randomness comes in as an argument.
// Source: docs/drbd-metadata.md 5.
type UUIDs struct {
	Current, Bitmap uint64
	History         [2]uint64
}

// PeerUUIDs are what P_UUIDS carries. Bits is the number of set bits in the sender's
// bitmap.
type PeerUUIDs struct {
	UUIDs
	Bits  uint64
	Flags uint64
}

// String is the set the way DRBD prints it: current:bitmap:history:history.
func (u UUIDs) String() string {
	return fmt.Sprintf("%016X:%016X:%016X:%016X", u.Current, u.Bitmap, u.History[0], u.History[1])
}

// withRole is v with its bit 0 set as a current UUID's is.
func withRole(v uint64, primary bool) uint64 {
	if primary {
		return v | RoleBit
	}
	return v &^ RoleBit
}

// WithRole makes bit 0 of the current UUID follow the role.
func (u UUIDs) WithRole(primary bool) UUIDs {
	u.Current = withRole(u.Current, primary)
	return u
}

// rotateBitmap moves the bitmap UUID into the history, if there is one.
func (u UUIDs) rotateBitmap() UUIDs {
	if u.Bitmap != 0 {
		u.History = [2]uint64{u.Bitmap, u.History[0]}
	}
	if u.renewed() {
		u.History[1] = 0 // it has become an older generation than what it would stand for there: see Renew
	}
	return u
}

// NewCurrent starts a generation: what was current is what the bitmap counts against
// now. A bitmap UUID that is set already is lost; callers see to it that there is none, except by
// force: see Renew. Source: docs/drbd-wire.md 14.5.
func (u UUIDs) NewCurrent(random uint64, primary bool) UUIDs {
	u.Bitmap = u.Current
	u.Current = withRole(random, primary)
	return u
}

// renewedUpper are the bits of a current UUID that Renew keeps.
const renewedUpper uint64 = 0xFFFFFFFF_00000000

// renewed reports whether the current UUID is a renewed one, and the oldest of the history the name that the data had before.
func (u UUIDs) renewed() bool {
	upper := u.Current & renewedUpper
	return upper != 0 && u.History[1]&renewedUpper == upper
}

// Renew starts a generation of data that the peer does not have already: the bits go on counting against what they
// counted against. Whoever has heard of the data as it was, because its applications worked on it here, can tell that it is not that any more.
// The name that the data had is kept in the history, in the place of the oldest one: the Target of a resync whose end was missed has
// it, see rule 44. A name that is itself renewed is not, and is known by its upper half.
func (u UUIDs) Renew(random uint64, primary bool) UUIDs {
	if u.Bitmap == 0 || u.Bitmap == JustCreated {
		return u.NewCurrent(random, primary) // nobody has data that older bits count against
	}
	before := u.Current
	if !u.renewed() {
		u.History[1] = before
	}
	u.Current = withRole(before&renewedUpper|random&^renewedUpper, primary)
	if (u.Current^before)&^RoleBit == 0 {
		u.Current ^= RoleBit << 1
	}
	return u
}

// NewCurrentRotated is the command new-current-uuid: the same, and a bitmap UUID that is
// set goes into the history. Source: docs/drbd-metadata.md 5.3.
func (u UUIDs) NewCurrentRotated(random uint64, primary bool) UUIDs {
	return u.rotateBitmap().NewCurrent(random, primary)
}

// ClearBitmap says that nothing is counted any more; the bitmap UUID goes into the history.
func (u UUIDs) ClearBitmap() UUIDs {
	u = u.rotateBitmap()
	u.Bitmap = 0
	return u
}

// CatchUp makes up for the end of a resync that was missed, if its bitmap UUID is still there: see [Decision].
func (u UUIDs) CatchUp(missedEnd uint64) UUIDs {
	if u.Bitmap == missedEnd {
		return u.ClearBitmap()
	}
	return u
}

// StartSource begins a resync as its source. syncUUID is what P_SYNC_UUID carries; it derives from
// what the target's data is called: the bitmap UUID, or where there is none, the current one. So a P_SYNC_UUID that got lost is found
// out. (The driver takes a random one in the second case.) Source: docs/drbd-wire.md 12.1.
func (u UUIDs) StartSource() (_ UUIDs, syncUUID uint64) {
	syncUUID = u.Bitmap + newBitmapOffset
	if u.Bitmap == 0 || u.Bitmap == JustCreated {
		syncUUID = u.Current&^RoleBit + newSyncOffset
	}
	u = u.rotateBitmap()
	u.Bitmap = syncUUID
	return u, syncUUID
}

// StartTarget begins a resync as its target: the data is on its way from the generation it
// was to the source's, and while it is, it has the sync UUID for a name.
func (u UUIDs) StartTarget(syncUUID uint64, primary bool) UUIDs {
	u.Current, u.Bitmap = withRole(syncUUID, primary), 0
	return u
}

// FinishSource ends a resync as its source.
func (u UUIDs) FinishSource() UUIDs { return u.ClearBitmap() }

// FinishTarget ends a resync as its target: the data is the peer's. peer is the set
// that the peer announced before the resync. Source: docs/drbd-wire.md 12.6.
func (u UUIDs) FinishTarget(peer UUIDs, primary bool) UUIDs {
	syncUUID := u.Current
	u.Bitmap, u.History = peer.Bitmap, peer.History
	u = u.rotateBitmap()
	u.Bitmap, u.Current = syncUUID, withRole(peer.Current, primary)
	return u.ClearBitmap()
}

// Adopt takes the peer's current UUID over, both disks having been declared equal: initial sync is
// skipped. Source: docs/drbd-wire.md 14.9.
func (u UUIDs) Adopt(current uint64, primary bool) UUIDs {
	u.Current, u.Bitmap = withRole(current, primary), 0
	return u
}

// DataDiffers says that the applications of this node, Primary and without a disk, would go on with other data
// than they had: the peer announces current, and that its disk is there, and they have seen exposed. The connection
// is to be refused. A disk that a handshake has found old does not become good by saying so either: the own disk was lost before
// the peer knew of it, and had the two compared.
//
// What they have seen is the own current UUID as long as the disk is UpToDate, and after that, also while a disk is
// being attached, whatever current UUID the peer announces while Connected with an UpToDate disk. Before the disk is attached again, alone, its
// current UUID has to be the exposed one, too. Source: docs/drbd-wire.md 7.4, docs/drbd-metadata.md 5.3.
func (s State) DataDiffers(disk Disk, exposed, current uint64) bool {
	appears := s.Conn < Connected || s.PeerDisk < Inconsistent || s.PeerDisk == Outdated && disk == UpToDate
	return s.Role == Primary && s.Disk < Inconsistent && disk >= Negotiating && appears && exposed&^RoleBit != current&^RoleBit
}
