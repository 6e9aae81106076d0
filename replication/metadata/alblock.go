package metadata

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/urbd/urbd/bitmap"
)

const (
	magicAL   = 0x69CB65A2
	magicPMEM = 0x6AA667A6 // DRBD 9 only

	typeUpdate = 0
	typeInit   = 0xFFFF

	noSlot = 0xFFFF

	offSlots   = 36
	offExtents = offSlots + 2*bitmap.MaxUpdates
	offContext = offExtents + 4*bitmap.MaxUpdates
)

// An ALBlock is one block of the activity-log ring as read from disk.
//
//	offset  size  field
//	     0     4  magic               0x69CB65A2
//	     4     4  tr_number           one more per transaction, wraps
//	     8     4  crc32c              of the block with this field 0, not inverted
//	    12     2  type                0 update, 0xFFFF initialised
//	    14     2  n_updates           0..64
//	    16     2  context_size        slots of the whole table
//	    18     2  context_start_slot
//	    20    16  -                   zero
//	    36   128  update_slot[64]     2 bytes each, unused 0xFFFF
//	   164   256  update_extent[64]   4 bytes each, unused 0xFFFFFFFF
//	   420  3676  context[919]        4 bytes each, free 0xFFFFFFFF
//
// Big-endian. An initialised block has 0 instead of all fillers.
// Source: docs/drbd-metadata.md 4.3.
type ALBlock struct {
	Init         bool
	Number       uint32
	Slots        int // size of the table
	ContextStart int
	Updates      []bitmap.Update // Evicted is not on disk and stays 0
	Context      []uint32        // slots ContextStart and on, cut at Slots
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// rawCRC is CRC-32C from 0 without the final inversion.
func rawCRC(parts ...[]byte) uint32 {
	crc := ^uint32(0) // crc32.Update inverts at entry and at exit
	for _, p := range parts {
		crc = crc32.Update(crc, castagnoli, p)
	}
	return ^crc
}

// blockCRC is the checksum of an activity-log block, its own field taken as 0.
func blockCRC(b []byte) uint32 {
	return rawCRC(b[:8], make([]byte, 4), b[12:BlockSize])
}

// EncodeTransaction writes the block of transaction number tr to dst[:4096]. It
// goes to Layout.ALBlockOffset(tr).
func EncodeTransaction(dst []byte, tr uint32, t bitmap.Transaction) {
	dst = dst[:BlockSize]
	clear(dst[:offSlots])
	for i := offSlots; i < BlockSize; i++ {
		dst[i] = 0xFF
	}
	be := binary.BigEndian
	be.PutUint32(dst[0:], magicAL)
	be.PutUint32(dst[4:], tr)
	be.PutUint16(dst[12:], typeUpdate)
	be.PutUint16(dst[14:], uint16(len(t.Updates)))
	be.PutUint16(dst[16:], uint16(t.Slots))
	be.PutUint16(dst[18:], t.ContextStart)
	for i, u := range t.Updates {
		be.PutUint16(dst[offSlots+2*i:], u.Slot)
		be.PutUint32(dst[offExtents+4*i:], u.Extent)
	}
	for i, extent := range t.Context {
		be.PutUint32(dst[offContext+4*i:], extent)
	}
	be.PutUint32(dst[8:], blockCRC(dst))
}

// EncodeInit writes the block of an empty ring to dst[:4096].
func EncodeInit(dst []byte) {
	dst = dst[:BlockSize]
	clear(dst)
	be := binary.BigEndian
	be.PutUint32(dst[0:], magicAL)
	be.PutUint16(dst[12:], typeInit)
	be.PutUint32(dst[8:], blockCRC(dst))
}

// DecodeALBlock reads the block b[:4096]. The error is an *Error: a torn or
// damaged block, or none at all.
func DecodeALBlock(b []byte) (ALBlock, error) {
	fail := func(format string, args ...any) (ALBlock, error) {
		return ALBlock{}, &Error{Field: "activity log", Reason: fmt.Sprintf(format, args...)}
	}
	if len(b) < BlockSize {
		return fail("block of %d bytes", len(b))
	}
	be := binary.BigEndian
	switch magic := be.Uint32(b[0:]); {
	case magic == magicPMEM:
		return fail("a log on persistent memory, of DRBD 9")
	case magic != magicAL:
		return fail("magic 0x%08X, not 0x%08X", magic, uint32(magicAL))
	case be.Uint32(b[8:]) != blockCRC(b):
		return fail("checksum 0x%08X, not 0x%08X", be.Uint32(b[8:]), blockCRC(b))
	}
	blk := ALBlock{
		Number:       be.Uint32(b[4:]),
		Slots:        int(be.Uint16(b[16:])),
		ContextStart: int(be.Uint16(b[18:])),
	}
	n := int(be.Uint16(b[14:]))
	switch kind := be.Uint16(b[12:]); {
	case kind == typeInit:
		blk.Init = true
		return blk, nil
	case kind != typeUpdate:
		return fail("block type 0x%04X", kind)
	case n > bitmap.MaxUpdates:
		return fail("%d updates in one block", n)
	}
	for i := range n {
		u := bitmap.Update{Slot: be.Uint16(b[offSlots+2*i:]), Extent: be.Uint32(b[offExtents+4*i:])}
		if u.Slot != noSlot {
			blk.Updates = append(blk.Updates, u)
		}
	}
	for i := range min(bitmap.ContextSlots, max(blk.Slots-blk.ContextStart, 0)) {
		blk.Context = append(blk.Context, be.Uint32(b[offContext+4*i:]))
	}
	return blk, nil
}
