package wire

// Limits fixed by the protocol, in bytes unless the name says otherwise.
// Source: docs/drbd-wire.md 1, 2.1, 6.
const (
	// MaxRequest bounds a block in P_DATA, P_DATA_REPLY, P_RS_DATA_REPLY and
	// the range of every read and resync request.
	MaxRequest = 1 << 20
	// MaxTrim bounds the range of P_TRIM and P_ZEROES.
	MaxTrim = 128 << 20
	// MaxBitmap is the payload of a full P_BITMAP and the most that a
	// P_COMPRESSED_BITMAP holds: 510 words of 8 bytes.
	MaxBitmap = maxBitmap
	// MaxName bounds the name of an algorithm, with its NUL.
	MaxName = 64
	// MaxDigest is the longest digest that any supported algorithm makes.
	MaxDigest = 64
	// ChallengeLen is the length of the challenge a node sends; MaxChallenge
	// bounds what it accepts.
	ChallengeLen = 64
	MaxChallenge = 128
	// MaxVolume is the highest volume number.
	MaxVolume = 65534

	// SectorSize is the unit of positions on the wire.
	SectorSize = 1 << sectorShift

	sectorShift = 9
	// maxSector keeps every position, in bytes, inside an int64. The largest
	// device the protocol knows has 2^51 sectors.
	maxSector = 1<<(63-sectorShift) - 1
)

// Special block ids. All other values are opaque: chosen by the sender of a
// request and returned bit for bit. Source: docs/drbd-wire.md 1.
const (
	IDSyncer    uint64 = 1<<64 - 1 // resync and verify traffic
	IDInSync    uint64 = 4711      // P_OV_RESULT: the blocks are equal
	IDOutOfSync uint64 = 4712      // P_OV_RESULT: the blocks differ
)

// SectorOf gives the sector of a byte position, which must not be negative and
// must be on a sector boundary.
func SectorOf(off int64) uint64 {
	if off < 0 || off%SectorSize != 0 {
		panic("wire: a position that is not a sector boundary")
	}
	return uint64(off) >> sectorShift
}

// offset is for sectors that a decoder let pass, so the shift cannot overflow.
func offset(sector uint64) int64 { return int64(sector) << sectorShift }
