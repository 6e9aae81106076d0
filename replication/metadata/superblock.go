package metadata

import (
	"encoding/binary"
)

const (
	// BlockSize is the size of the superblock and of a block of the activity log.
	BlockSize = 4096

	sector = 512

	magicBase    = 0x83740267 // also the sectors of the 8.3 activity log
	magicV06     = 0x83740269
	magicV07     = 0x8374026A
	magicClean   = 0x8374026B // v08; the activity log need not be read
	magicUnclean = 0x8374026C // v08; the activity log may be needed
	magicV09     = 0x8374026D

	// JustCreated is the current UUID of metadata that never had data.
	JustCreated = 4

	// maxSize bounds what is taken for a size or an offset in bytes: the 2^51
	// sectors that the driver is compiled for. Source: docs/drbd-metadata.md 2.2.
	maxSize = 1 << 60
)

// A Superblock is the block that says which generation of data a device holds
// and how far the rest of the metadata is to be trusted.
//
//	offset  size  field
//	     0     8  la_size               sectors
//	     8     8  uuid[0] current
//	    16     8  uuid[1] bitmap
//	    24    16  uuid[2..3] history    younger, older
//	    40     8  device_uuid
//	    48     8  -
//	    56     4  flags
//	    60     4  magic                 0x8374026B clean, 0x8374026C unclean
//	    64     4  md_size_sect          sectors
//	    68     4  al_offset             signed sectors from the superblock
//	    72     4  al_nr_extents         slots
//	    76     4  bm_offset             signed sectors from the superblock
//	    80     4  bm_bytes_per_bit      4096
//	    84     4  la_peer_max_bio_size  bytes
//	    88     4  al_stripes            0 with the next one 0: 1 x 8
//	    92     4  al_stripe_size_4k     blocks of 4096 bytes
//	    96  4000  -                     zero
//
// Big-endian, no checksum, written as one block of 4096 bytes. Whatever stands
// in the unnamed parts is lost when it is written again.
// Source: docs/drbd-metadata.md 1.1.
type Superblock struct {
	LastAgreedSize int64     // bytes; 0: never agreed
	Current        uint64    // generation of the data; bit 0: written by a Primary
	Bitmap         uint64    // generation that the bitmap counts against; 0: none
	History        [2]uint64 // younger, older
	DeviceUUID     uint64    // identity of this replica; 0: none yet
	Flags          Flags
	Clean          bool   // the magic; AL_CLEAN has to be set too
	MDSize         int64  // bytes of the whole metadata area
	ALOffset       int64  // bytes from the superblock, negative for internal
	BMOffset       int64  // bytes from the superblock
	ALExtents      uint32 // activity-log slots last in use
	BytesPerBit    uint32 // 4096
	PeerMaxBIO     uint32 // bytes; largest request the peer took
	Stripes        Stripes
}

// Encode writes the block to dst[:4096]. Sizes and offsets have to be whole
// sectors in range, as New, Place and DecodeSuperblock give them.
func (s *Superblock) Encode(dst []byte) {
	dst = dst[:BlockSize]
	clear(dst)
	be := binary.BigEndian
	be.PutUint64(dst[0:], uint64(s.LastAgreedSize/sector))
	be.PutUint64(dst[8:], s.Current)
	be.PutUint64(dst[16:], s.Bitmap)
	be.PutUint64(dst[24:], s.History[0])
	be.PutUint64(dst[32:], s.History[1])
	be.PutUint64(dst[40:], s.DeviceUUID)
	be.PutUint32(dst[56:], uint32(s.Flags))
	be.PutUint32(dst[60:], s.magic())
	be.PutUint32(dst[64:], uint32(s.MDSize/sector))
	be.PutUint32(dst[68:], uint32(int32(s.ALOffset/sector)))
	be.PutUint32(dst[72:], s.ALExtents)
	be.PutUint32(dst[76:], uint32(int32(s.BMOffset/sector)))
	be.PutUint32(dst[80:], s.BytesPerBit)
	be.PutUint32(dst[84:], s.PeerMaxBIO)
	be.PutUint32(dst[88:], s.Stripes.Count)
	be.PutUint32(dst[92:], s.Stripes.Size4k)
}

func (s *Superblock) magic() uint32 {
	if s.Clean {
		return magicClean
	}
	return magicUnclean
}

// DecodeSuperblock reads the block b[:4096]. The error is an *Error: no v08
// metadata here, or a size that cannot be. Whether the fields fit the device is
// for Check to say.
func DecodeSuperblock(b []byte) (Superblock, error) {
	if len(b) < BlockSize {
		return Superblock{}, bad("superblock", "", "%d bytes, need %d", len(b), BlockSize)
	}
	be := binary.BigEndian
	if err := checkMagic(be.Uint32(b[60:])); err != nil {
		return Superblock{}, err
	}
	size := be.Uint64(b[0:])
	if size > maxSize/sector {
		return Superblock{}, bad("la_size", "", "%d sectors is more than any device has", size)
	}
	relative := func(off int) int64 { return int64(int32(be.Uint32(b[off:]))) * sector }
	return Superblock{
		LastAgreedSize: int64(size) * sector,
		Current:        be.Uint64(b[8:]),
		Bitmap:         be.Uint64(b[16:]),
		History:        [2]uint64{be.Uint64(b[24:]), be.Uint64(b[32:])},
		DeviceUUID:     be.Uint64(b[40:]),
		Flags:          Flags(be.Uint32(b[56:])),
		Clean:          be.Uint32(b[60:]) == magicClean,
		MDSize:         int64(be.Uint32(b[64:])) * sector,
		ALOffset:       relative(68),
		BMOffset:       relative(76),
		ALExtents:      be.Uint32(b[72:]),
		BytesPerBit:    be.Uint32(b[80:]),
		PeerMaxBIO:     be.Uint32(b[84:]),
		Stripes:        Stripes{be.Uint32(b[88:]), be.Uint32(b[92:])},
	}, nil
}

// checkMagic accepts the two magics of v08 and names the others.
// Source: docs/drbd-metadata.md 1.2.
func checkMagic(magic uint32) error {
	switch magic {
	case magicClean, magicUnclean:
		return nil
	case magicV06, magicV07:
		return bad("magic", "convert it with drbdmeta create-md of drbd-utils, or create new metadata", "metadata of an older format (0x%08X)", magic)
	case magicV09:
		return bad("magic", "this device belongs to DRBD 9; convert it with drbdmeta, or create new metadata", "metadata of DRBD 9 (0x%08X)", magic)
	}
	return &Error{Field: "magic", Reason: "no DRBD metadata found", Hint: "is the disk, or its meta-disk, another one, or has its size changed?", absent: true}
}

// Format names the DRBD whose superblock b[:64] begins, usable or not: "DRBD
// 8.4", "DRBD 9", "DRBD 0.7", "DRBD 0.6"; empty if it is none.
// Source: docs/drbd-metadata.md 1.2.
func Format(b []byte) string {
	switch binary.BigEndian.Uint32(b[60:]) {
	case magicClean, magicUnclean:
		return "DRBD 8.4"
	case magicV09:
		return "DRBD 9"
	case magicV07:
		return "DRBD 0.7"
	case magicV06:
		return "DRBD 0.6"
	}
	return ""
}

// NeedsReplay reports whether the activity log has to be read before the
// bitmap can be trusted. Source: docs/drbd-metadata.md 1.2, annex B.1.
func (s *Superblock) NeedsReplay() bool { return !s.Clean || s.Flags&ALClean == 0 }
