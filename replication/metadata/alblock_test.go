package metadata

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/scripts/fuzztest"
)

// free is a table of n slots without extents.
func free(n int) []uint32 {
	c := make([]uint32, n)
	for i := range c {
		c[i] = bitmap.NoExtent
	}
	return c
}

func crcOf(block []byte) uint32 { return binary.BigEndian.Uint32(block[8:]) }

func encoded(tr uint32, t bitmap.Transaction) []byte {
	block := bytes.Repeat([]byte{0xEE}, BlockSize)
	EncodeTransaction(block, tr, t)
	return block
}

// The blocks of docs/drbd-metadata.md 4.3 and annex A.2.
func TestGoldenALBlocks(t *testing.T) {
	if crc := rawCRC([]byte("123456789")); crc != 0x58E3FA20 {
		t.Errorf("raw CRC-32C of 123456789 is %#x", crc)
	}
	block := bytes.Repeat([]byte{0xEE}, BlockSize)
	EncodeInit(block)
	want := make([]byte, BlockSize)
	copy(want, []byte{0x69, 0xcb, 0x65, 0xa2, 0, 0, 0, 0, 0x70, 0x9c, 0xc6, 0x51, 0xff, 0xff})
	if !bytes.Equal(block, want) {
		t.Errorf("INIT block begins %x", block[:32])
	}
	for _, c := range []struct {
		tr  uint32
		tx  bitmap.Transaction
		crc uint32
	}{
		{0, bitmap.Transaction{Slots: 1237, Context: free(919)}, 0x7396232E},
		{1, bitmap.Transaction{Slots: 1237, ContextStart: 919, Context: free(318)}, 0xA619FD4B},
		{24, bitmap.Transaction{Slots: 1237, Context: free(919), Updates: []bitmap.Update{{Slot: 1236}}}, 0x2EADD0F3},
		{100, goldenTransactions()[0], 0xADD8F7B1},
		{101, goldenTransactions()[1], 0xCF96A6D9},
	} {
		if crc := crcOf(encoded(c.tr, c.tx)); crc != c.crc {
			t.Errorf("transaction %d: crc %#x, want %#x", c.tr, crc, c.crc)
		}
	}
}

// goldenTransactions are 100 and 101 of annex A.2.
func goldenTransactions() [2]bitmap.Transaction {
	second := free(67)
	second[65], second[66] = 31, 5
	return [2]bitmap.Transaction{
		{Slots: 67, Context: free(67), Updates: []bitmap.Update{{Slot: 66, Extent: 5}, {Slot: 65, Extent: 31}}},
		{Slots: 67, Context: second, Updates: []bitmap.Update{{Slot: 64, Extent: 63}, {Slot: 66, Extent: 7, Evicted: 5}}},
	}
}

func TestALBlockRefuses(t *testing.T) {
	good := encoded(7, goldenTransactions()[0])
	if blk, err := DecodeALBlock(good); err != nil || blk.Number != 7 || blk.Slots != 67 || len(blk.Updates) != 2 || len(blk.Context) != 67 {
		t.Fatalf("%+v, %v", blk, err)
	}
	for name, change := range map[string]func(b []byte){
		"torn":             func(b []byte) { clear(b[512:]) },
		"one bit":          func(b []byte) { b[4000] ^= 1 },
		"no magic":         func(b []byte) { b[0] = 0 },
		"persistent log":   func(b []byte) { binary.BigEndian.PutUint32(b, magicPMEM) },
		"unknown type":     func(b []byte) { b[13] = 1; binary.BigEndian.PutUint32(b[8:], blockCRC(b)) },
		"too many updates": func(b []byte) { b[15] = 65; binary.BigEndian.PutUint32(b[8:], blockCRC(b)) },
	} {
		b := bytes.Clone(good)
		change(b)
		if blk, err := DecodeALBlock(b); err == nil {
			t.Errorf("%s: %+v", name, blk)
		}
	}
	if _, err := DecodeALBlock(good[:4095]); err == nil {
		t.Error("a short block decodes")
	}
}

// FuzzALBlock: what decodes describes the table well enough to be applied, and
// encodes to a block that decodes to the same.
func FuzzALBlock(f *testing.F) {
	fuzztest.Begin(f)
	f.Add(encoded(100, goldenTransactions()[0])[:1024])
	f.Add(encoded(1, bitmap.Transaction{Slots: 1237, ContextStart: 919, Context: free(318)})[:1024])
	f.Fuzz(func(t *testing.T, data []byte) {
		block := bytes.Repeat([]byte{0xFF}, BlockSize)
		copy(block, data)
		binary.BigEndian.PutUint32(block[8:], blockCRC(block)) // else nothing gets past the checksum
		blk, err := DecodeALBlock(block)
		if err != nil || blk.Init {
			return
		}
		newSlotTable().apply(&blk)
		again, err := DecodeALBlock(encoded(blk.Number, bitmap.Transaction{
			Updates: blk.Updates, ContextStart: uint16(blk.ContextStart), Context: blk.Context, Slots: blk.Slots,
		}))
		if err != nil || again.Number != blk.Number || again.Slots != blk.Slots || len(again.Updates) != len(blk.Updates) ||
			len(again.Context) != len(blk.Context) {
			t.Fatalf("%+v became %+v, %v", blk, again, err)
		}
	})
}
