// Package metadata decides where DRBD's v08 metadata lies on a device, what its
// bytes mean and what they oblige to after a crash. It reads and writes nothing
// itself: bytes in, values out, and back.
//
//	internal      | data ................ | bitmap | activity log | superblock | 0-7 sectors |
//	flexible      | superblock | activity log | bitmap ... to the end of the md device |
//	indexed       | 128 MiB of index 0 | 128 MiB of index 1 | ... each as flexible
//
//	take over:    Locate -> DecodeSuperblock -> Place -> Check -> Replay
//	              -> MarkHot, write the bitmap -> INIT blocks -> superblock
//	create:       Place -> New -> Layout.Create
//
// A disk can come from and go back to the kernel's DRBD, so only what both its
// driver and drbdmeta accept is written: exact sizes, 8 to 8192 blocks of
// activity log. Malformed metadata gives an *Error with a hint for a person; no
// bytes make this package panic.
//
// The two older formats (v06, v07), the one of DRBD 9 (v09), the log of 8.3 and
// the log on persistent memory are recognised and refused.
//
// Offsets and sizes are bytes. On disk they are 512-byte sectors, and all
// numbers but the bitmap's are big-endian. Source: docs/drbd-metadata.md.
package metadata
