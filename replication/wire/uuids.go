package wire

import "encoding/binary"

// Special UUID values. Source: docs/drbd-wire.md 1.
const (
	UUIDJustCreated uint64 = 4                  // current UUID of metadata that was never in use
	UUIDNewBMOffset uint64 = 0x0001000000000000 // added to the bitmap UUID when a resync starts
)

// UUIDFlags travel with the UUIDs. Unknown bits are kept.
// Source: docs/drbd-wire.md 7.4.
type UUIDFlags uint64

const (
	UUIDDiscardMyData   UUIDFlags = 1 << iota // discard-my-data asked for this connect
	UUIDCrashedPrimary                        // the sender was Primary when it died
	UUIDInconsistent                          // a disk shown as Negotiating is Inconsistent
	UUIDSkipInitialSync                       // take over the new current UUID, no resync
)

// UUIDs is P_UUIDS: the data generations the sender's disk knows.
//
//	offset  size  field    unit
//	     0     8  current
//	     8     8  bitmap
//	    16     8  history, start
//	    24     8  history, end
//	    32     8  size     bits set in the sender's bitmap
//	    40     8  flags    UUID flags
//
// Bit 0 of a UUID marks its maker as Primary and takes no part in comparisons.
// Source: docs/drbd-wire.md 7.4.
type UUIDs struct {
	Current, Bitmap uint64
	History         [2]uint64
	Size            uint64
	Flags           UUIDFlags
}

// Append appends the 48 bytes.
func (p UUIDs) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.Current)
	dst = binary.BigEndian.AppendUint64(dst, p.Bitmap)
	dst = binary.BigEndian.AppendUint64(dst, p.History[0])
	dst = binary.BigEndian.AppendUint64(dst, p.History[1])
	dst = binary.BigEndian.AppendUint64(dst, p.Size)
	return binary.BigEndian.AppendUint64(dst, uint64(p.Flags))
}

// DecodeUUIDs reads 48 bytes and refuses any other length.
func DecodeUUIDs(b []byte) (UUIDs, error) {
	if len(b) != lenUUIDs {
		return UUIDs{}, badPacket(CmdUUIDs, len(b), lenUUIDs)
	}
	return UUIDs{
		Current: binary.BigEndian.Uint64(b),
		Bitmap:  binary.BigEndian.Uint64(b[8:]),
		History: [2]uint64{binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])},
		Size:    binary.BigEndian.Uint64(b[32:]),
		Flags:   UUIDFlags(binary.BigEndian.Uint64(b[40:])),
	}, nil
}

// SyncUUID is P_SYNC_UUID: the resync that starts here has this UUID.
//
//	offset  size  field
//	     0     8  uuid
//
// Source: docs/drbd-wire.md 12.1.
type SyncUUID struct{ UUID uint64 }

// Append appends the 8 bytes.
func (p SyncUUID) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(dst, p.UUID)
}

// DecodeSyncUUID reads 8 bytes and refuses any other length.
func DecodeSyncUUID(b []byte) (SyncUUID, error) {
	if len(b) != lenSyncUUID {
		return SyncUUID{}, badPacket(CmdSyncUUID, len(b), lenSyncUUID)
	}
	return SyncUUID{binary.BigEndian.Uint64(b)}, nil
}
