package metadata

import "github.com/urbd/urbd/bitmap"

// Released is the superblock to leave behind when a device is given up in good
// order, so that the kernel's DRBD or drbdmeta can go on without a replay: the
// log counts as applied, the node as a Secondary without connection. The
// bitmap, then INIT blocks have to be on disk before it.
// Source: docs/drbd-metadata.md annex B.2.
func (s Superblock) Released() Superblock {
	s.Clean = true
	s.Flags = s.Flags&^(PrimaryInd|ConnectedInd) | ALClean
	return s
}

// DriverDrops reports whether the kernel's driver would forget set bits of b
// when it attaches: it masks off the last 64 bits of a bitmap whose number of
// bits is a multiple of 64. Such a device is handed over with FULL_SYNC, or
// after a resync. Source: docs/drbd-metadata.md 3.1 (TRAP 4).
func DriverDrops(b *bitmap.Bitmap) bool {
	n := b.Bits()
	return n > 0 && n%64 == 0 && b.Word(n/64-1) != 0
}
