// Package bitmap decides which parts of a replicated device are out of sync
// and which parts a Primary may write to right now.
//
//	device   |0 ............. 4 KiB blocks ................ size|
//	Bitmap    one bit per block: 1 = may differ from the peer
//	page      32768 bits = 4096 bytes on disk = 128 MiB of device
//	                 nil = all clear   shared sentinel = all set
//	Sender   bitmap --> payloads of P_BITMAP and P_COMPRESSED_BITMAP
//	Merger   those payloads --OR--> bitmap
//	ActivityLog  one slot per 4 MiB extent that may be written to:
//
//	   TryGet hit ------------------------------> write goes on
//	   TryGet miss -> Stage -> Begin ~~disk~~> Commit -> write goes on
//	                                     Put when the write is over
//
// The package is pure: data in, data out, one owner, no I/O and no clock. All
// sizes and offsets are bytes unless a name says bit, page, slot or extent.
//
// Limits: a page costs 4096 bytes only while it is mixed, so a bitmap never
// takes more than 32 MiB per TiB of device plus about 11 bytes per 128 MiB.
// The largest device is 1 PiB (docs/drbd-metadata.md 2.2).
//
// Sources: docs/drbd-wire.md 10 (exchange), docs/drbd-metadata.md 3 (bitmap)
// and 4 (activity log).
package bitmap
