package wire

import "encoding/binary"

// Version is the protocol version this package speaks, the only one.
const Version = 101

// FeatureFlags are what two peers may agree on. Unknown bits are kept.
// Source: docs/drbd-wire.md 5.
type FeatureFlags uint32

const (
	FeatureTrim       FeatureFlags = 1 << iota // P_TRIM
	FeatureThinResync                          // P_RS_THIN_REQ, P_RS_DEALLOCATED
	FeatureWSame                               // the long P_SIZES, trims above 4 MiB; never P_WSAME
	FeatureWZeroes                             // P_ZEROES; P_TRIM need not read back as zeroes

	FeaturesAll = FeatureTrim | FeatureThinResync | FeatureWSame | FeatureWZeroes
)

// Features is P_CONNECTION_FEATURES, the first packet of both nodes on the data
// socket and the last with the 8 byte header.
//
//	offset  size  field          unit
//	     0     4  protocol_min
//	     4     4  feature_flags  Feature bits
//	     8     4  protocol_max   0 for "same as min"
//	    12     4  pad            0
//	    16    56  reserved       written as 0, not looked at
//
// Source: docs/drbd-wire.md 5.
type Features struct {
	ProtocolMin uint32
	Flags       FeatureFlags
	ProtocolMax uint32
}

// Offer is what this side says: everything, in the one version it speaks. A
// peer that has only older ones then finds out by itself.
func Offer() Features {
	return Features{ProtocolMin: Version, Flags: FeaturesAll, ProtocolMax: Version}
}

// Append appends the 72 bytes.
func (p Features) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.ProtocolMin)
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Flags))
	dst = binary.BigEndian.AppendUint32(dst, p.ProtocolMax)
	var rest [lenFeatures - 12]byte
	return append(dst, rest[:]...)
}

// DecodeFeatures reads 72 bytes and refuses any other length.
func DecodeFeatures(b []byte) (Features, error) {
	if len(b) != lenFeatures {
		return Features{}, badPacket(CmdConnectionFeatures, len(b), lenFeatures)
	}
	return Features{
		ProtocolMin: binary.BigEndian.Uint32(b),
		Flags:       FeatureFlags(binary.BigEndian.Uint32(b[4:])),
		ProtocolMax: binary.BigEndian.Uint32(b[8:]),
	}, nil
}

// Agree gives the version and the features both sides have; both compute the
// same. ok is false when no version is common, and then the connection is
// refused for good. Source: docs/drbd-wire.md 5.
func Agree(own, peer Features) (version uint32, flags FeatureFlags, ok bool) {
	ownMax, peerMax := own.highest(), peer.highest()
	if ownMax < peer.ProtocolMin || own.ProtocolMin > peerMax {
		return 0, 0, false
	}
	return min(ownMax, peerMax), own.Flags & peer.Flags, true
}

func (p Features) highest() uint32 {
	if p.ProtocolMax == 0 {
		return p.ProtocolMin
	}
	return p.ProtocolMax
}
