package metadata

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/scripts/fuzztest"
)

const mib = 1 << 20

// golden is the superblock of docs/drbd-metadata.md annex A.1.
func golden() Superblock {
	return Superblock{
		LastAgreedSize: 130992 * sector,
		Current:        0x1122334455667788,
		Bitmap:         0x99AABBCCDDEEFF00,
		History:        [2]uint64{0x0123456789ABCDEF, 0xFEDCBA9876543210},
		DeviceUUID:     0xA1B2C3D4E5F60718,
		Flags:          Consistent | WasUpToDate | ALClean,
		Clean:          true,
		MDSize:         80 * sector,
		ALOffset:       -64 * sector,
		BMOffset:       -72 * sector,
		ALExtents:      1237,
		BytesPerBit:    4096,
		PeerMaxBIO:     1048576,
		Stripes:        Stripes{1, 8},
	}
}

func goldenBitmap() *bitmap.Bitmap {
	b := bitmap.New(130992 * sector)
	for _, bit := range []int64{0, 37, 16373} {
		b.SetRange(bit*bitmap.BlockSize, 1)
	}
	return b
}

func TestGoldenSuperblock(t *testing.T) {
	want, err := hex.DecodeString(strings.Join(strings.Fields(`
		00 00 00 00 00 01 ff b0  11 22 33 44 55 66 77 88
		99 aa bb cc dd ee ff 00  01 23 45 67 89 ab cd ef
		fe dc ba 98 76 54 32 10  a1 b2 c3 d4 e5 f6 07 18
		00 00 00 00 00 00 00 00  00 00 00 91 83 74 02 6b
		00 00 00 50 ff ff ff c0  00 00 04 d5 ff ff ff b8
		00 00 10 00 00 10 00 00  00 00 00 01 00 00 00 08`), ""))
	if err != nil {
		t.Fatal(err)
	}
	s, block := golden(), bytes.Repeat([]byte{0xEE}, BlockSize)
	s.Encode(block)
	if !bytes.Equal(block[:96], want) {
		t.Errorf("encodes to\n%s, want\n%s", hex.Dump(block[:96]), hex.Dump(want))
	}
	if sum := sha256.Sum256(block); hex.EncodeToString(sum[:]) != "15838c747b727222275ad2cc06aa97a84b8781913211d3427235736e850a1409" {
		t.Errorf("SHA-256 of the block is %x", sum)
	}
	if crc := rawCRC(block); crc != 0x7d453f09 {
		t.Errorf("raw CRC-32C of the block is %#x", crc)
	}
	back, err := DecodeSuperblock(block)
	if err != nil || back != s {
		t.Errorf("decodes to %+v, %v", back, err)
	}
	l, err := Place(Internal, 0, 64*mib, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(l); err != nil {
		t.Errorf("Check: %v", err)
	}
	if s.NeedsReplay() {
		t.Error("a clean superblock needs a replay")
	}
}

func TestGoldenBitmapPage(t *testing.T) {
	want := make([]byte, bitmap.PageSize)
	want[0], want[4], want[2046] = 0x01, 0x20, 0x20
	got := make([]byte, bitmap.PageSize)
	goldenBitmap().EncodePage(0, got)
	if !bytes.Equal(got, want) {
		t.Errorf("page %x", got[:8])
	}
}

func TestForeignMagics(t *testing.T) {
	for magic, word := range map[uint32]string{
		magicV06: "older", magicV07: "older", magicV09: "DRBD 9", magicBase: "no DRBD", 0: "no DRBD", magicAL: "no DRBD",
	} {
		s, block := golden(), make([]byte, BlockSize)
		s.Encode(block)
		block[60], block[61], block[62], block[63] = byte(magic>>24), byte(magic>>16), byte(magic>>8), byte(magic)
		_, err := DecodeSuperblock(block)
		var e *Error
		if !errors.As(err, &e) || e.Field != "magic" || e.Hint == "" || !strings.Contains(e.Reason, word) || e.Absent() != (word == "no DRBD") {
			t.Errorf("magic %#x: %v", magic, err)
		}
	}
	for magic, want := range map[uint32]string{
		magicV06: "DRBD 0.6", magicV07: "DRBD 0.7", magicV09: "DRBD 9", magicClean: "DRBD 8.4", magicUnclean: "DRBD 8.4", magicBase: "", 0: "",
	} {
		block := make([]byte, 64)
		binary.BigEndian.PutUint32(block[60:], magic)
		if got := Format(block); got != want {
			t.Errorf("magic %#x is of %q, want %q", magic, got, want)
		}
	}
	if _, err := DecodeSuperblock(make([]byte, BlockSize-1)); err == nil {
		t.Error("a short block decodes")
	}
}

func TestCheckRefuses(t *testing.T) {
	l, err := Place(Internal, 0, 64*mib, 0)
	if err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Superblock){
		"bm_bytes_per_bit": func(s *Superblock) { s.BytesPerBit = 8192 },
		"al_stripes":       func(s *Superblock) { s.Stripes.Count = 0 },
		"al_stripes ":      func(s *Superblock) { s.Stripes.Size4k = 7 },
		"al_stripes  ":     func(s *Superblock) { s.Stripes = Stripes{1 << 31, 1 << 31} },
		"al_stripes   ":    func(s *Superblock) { s.Stripes = Stripes{2, 8} },
		"md_size_sect":     func(s *Superblock) { s.MDSize += 8 * sector },
		"al_offset":        func(s *Superblock) { s.ALOffset = 8 * sector },
		"bm_offset":        func(s *Superblock) { s.BMOffset -= 8 * sector },
		"la_size":          func(s *Superblock) { s.LastAgreedSize = 128*mib + 1 },
	} {
		s := golden()
		change(&s)
		var e *Error
		if err := s.Check(l); !errors.As(err, &e) || e.Field != strings.TrimSpace(field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	s := golden()
	s.Stripes = Stripes{} // the classic 1 x 8
	if err := s.Check(l); err != nil {
		t.Errorf("stripes 0 x 0: %v", err)
	}
	s.LastAgreedSize = 128 * mib // exactly what the bitmap area holds
	if err := s.Check(l); err != nil {
		t.Errorf("la_size as large as the bitmap: %v", err)
	}
}

// FuzzSuperblock: what decodes encodes to the same fields, and to the same
// bytes where the format keeps them.
func FuzzSuperblock(f *testing.F) {
	fuzztest.Begin(f)
	s, block := golden(), make([]byte, BlockSize)
	s.Encode(block)
	f.Add(block[:96], int64(64*mib))
	s.Clean, s.Flags, s.Stripes = false, 0x1ff, Stripes{}
	s.Encode(block)
	f.Add(block[:96], int64(1<<40))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		block := make([]byte, BlockSize)
		copy(block, head)
		s, err := DecodeSuperblock(block)
		if err != nil {
			return
		}
		again := make([]byte, BlockSize)
		s.Encode(again)
		clear(block[48:56])
		clear(block[96:])
		if !bytes.Equal(block, again) {
			t.Fatalf("encodes to\n%s, was\n%s", hex.Dump(again[:96]), hex.Dump(block[:96]))
		}
		for _, kind := range []Kind{Internal, ExternalFlexible, ExternalIndexed} {
			if l, err := Place(kind, 1, size, size, s.Stripes); err == nil {
				_ = s.Check(l)
			}
		}
		_ = s.ShowGenerations()
	})
}
