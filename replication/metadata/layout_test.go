package metadata

import (
	"errors"
	"testing"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/scripts/fuzztest"
)

// inSectors is a layout in the units of the documents.
type inSectors struct{ superblock, al, bitmap, limit, bmSectors, mdSize, bmOffset int64 }

func sectors(l Layout) inSectors {
	return inSectors{
		l.Superblock / sector, l.AL / sector, l.Bitmap / sector, l.DataLimit / sector,
		l.BitmapSize / sector, l.MDSize / sector, (l.Bitmap - l.Superblock) / sector,
	}
}

// The examples of docs/drbd-metadata.md 2.3.
func TestWorkedExamples(t *testing.T) {
	for _, c := range []struct {
		name        string
		kind        Kind
		index       int
		backing, md int64 // sectors
		stripes     Stripes
		want        inSectors
	}{
		{"64 MiB", Internal, 0, 131072, 0, Stripes{}, inSectors{131064, 131000, 130992, 130992, 8, 80, -72}},
		{"1 GiB", Internal, 0, 2097152, 0, Stripes{}, inSectors{2097144, 2097080, 2097016, 2097016, 64, 136, -128}},
		{"500 GB", Internal, 0, 976773168, 0, Stripes{}, inSectors{976773160, 976773096, 976743280, 976743280, 29816, 29888, -29880}},
		{"10 TiB", Internal, 0, 21474836480, 0, Stripes{}, inSectors{21474836472, 21474836408, 21474181048, 21474181048, 655360, 655432, -655424}},
		{"not a multiple of 8", Internal, 0, 131075, 0, Stripes{}, inSectors{131064, 131000, 130992, 130992, 8, 80, -72}},
		{"128 MiB", Internal, 0, 262144, 0, Stripes{}, inSectors{262136, 262072, 262064, 262064, 8, 80, -72}},
		{"128 MiB and a bit", Internal, 0, 262152, 0, Stripes{}, inSectors{262144, 262080, 262064, 262064, 16, 88, -80}},
		{"striped", Internal, 0, 131072, 0, Stripes{4, 16}, inSectors{131064, 130552, 130544, 130544, 8, 528, -520}},
		{"striped flexible", ExternalFlexible, 0, 131072, 2048, Stripes{4, 16}, inSectors{0, 8, 520, 131072, 1528, 2048, 520}},
		{"flexible", ExternalFlexible, 0, 131072, 2048, Stripes{1, 8}, inSectors{0, 8, 72, 131072, 1976, 2048, 72}},
		{"flexible, md decides", ExternalFlexible, 0, 1 << 40, 65608, Stripes{}, inSectors{0, 8, 72, 65536 * 32768, 65536, 65608, 72}},
		{"index 1", ExternalIndexed, 1, 1 << 40, 524288, Stripes{}, inSectors{262144, 262152, 262216, 8587575296, 262072, 262144, 72}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Place(c.kind, c.index, c.backing*sector, c.md*sector, c.stripes)
			if err != nil {
				t.Fatal(err)
			}
			if got := sectors(l); got != c.want {
				t.Errorf("%+v\nwant %+v", got, c.want)
			}
			if at, err := Locate(c.kind, c.index, c.backing*sector, c.md*sector); err != nil || at != l.Superblock {
				t.Errorf("Locate = %d, %v, Place says %d", at, err, l.Superblock)
			}
			s := New(l, 1)
			if err := s.Check(l); err != nil {
				t.Errorf("fresh metadata: %v", err)
			}
		})
	}
	l, _ := Place(ExternalIndexed, 1, 1<<30, 1<<30)
	if l.Superblock != 134217728 || l.AL != l.Superblock+4096 || l.Bitmap != l.Superblock+36864 {
		t.Errorf("index 1: %+v", l)
	}
	if b := bitmap.New(130992 * sector); b.Bits() != 16374 {
		t.Errorf("%d bits", b.Bits())
	}
}

func TestPlaceRefuses(t *testing.T) {
	for name, place := range map[string]func() (Layout, error){
		"backing too small":    func() (Layout, error) { return Place(Internal, 0, mib-1, 0) },
		"log larger than disk": func() (Layout, error) { return Place(Internal, 0, mib, 0, Stripes{1, 256}) },
		"backing negative":     func() (Layout, error) { return Place(ExternalFlexible, 0, -1, mib) },
		"backing too large":    func() (Layout, error) { return Place(Internal, 0, maxSize+1, 0) },
		"md too small":         func() (Layout, error) { return Place(ExternalFlexible, 0, mib, mib-1) },
		"no room for a bitmap": func() (Layout, error) { return Place(ExternalFlexible, 0, mib, mib, Stripes{1, 255}) },
		"index outside":        func() (Layout, error) { return Place(ExternalIndexed, 1, mib, 256*mib-1) },
		"index negative":       func() (Layout, error) { return Place(ExternalIndexed, -1, mib, 256*mib) },
		"index absurd":         func() (Layout, error) { return Place(ExternalIndexed, 1<<62, mib, 256*mib) },
		"index striped":        func() (Layout, error) { return Place(ExternalIndexed, 0, mib, 256*mib, Stripes{2, 8}) },
		"half a stripe":        func() (Layout, error) { return Place(Internal, 0, 64*mib, 0, Stripes{0, 8}) },
		"ring too small":       func() (Layout, error) { return Place(Internal, 0, 64*mib, 0, Stripes{1, 7}) },
		"ring too large":       func() (Layout, error) { return Place(Internal, 0, 1<<40, 0, Stripes{1, 8193}) },
		"unknown kind":         func() (Layout, error) { return Place(Kind(7), 0, 64*mib, 0) },
	} {
		l, err := place()
		var e *Error
		if !errors.As(err, &e) || e.Reason == "" {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

// Whatever size is placed, the parts follow each other without overlap, fit the
// device, and the bitmap covers the data.
func FuzzPlace(f *testing.F) {
	fuzztest.Begin(f)
	f.Add(0, 0, int64(64*mib), int64(0), uint32(1), uint32(8))
	f.Add(1, 0, int64(1<<40), int64(2*mib+512), uint32(4), uint32(16))
	f.Add(2, 3, int64(1<<44), int64(1<<30), uint32(0), uint32(0))
	f.Fuzz(func(t *testing.T, kind, index int, backing, md int64, count, size uint32) {
		l, err := Place(Kind(kind), index, backing, md, Stripes{count, size})
		if err != nil {
			return
		}
		device, ring := md, int64(l.ALBlocks())*BlockSize
		ok := l.AL == l.Superblock+BlockSize && l.Bitmap == l.AL+ring && l.Superblock+l.MDSize <= device
		if l.Kind == Internal {
			device = backing
			ok = l.DataLimit <= l.Bitmap && l.Bitmap+l.BitmapSize == l.AL && l.AL+ring == l.Superblock
		}
		if !ok || l.Superblock+BlockSize > device || l.Superblock%BlockSize != 0 || l.DataLimit > backing || l.DataLimit < 0 {
			t.Fatalf("%+v on %d and %d bytes", l, backing, md)
		}
		if bits := (l.DataLimit + bitmap.BlockSize - 1) / bitmap.BlockSize; (bits+7)/8 > l.BitmapSize {
			t.Fatalf("%d bits in %d bytes", bits, l.BitmapSize)
		}
		s := New(l, 1)
		block := make([]byte, BlockSize)
		s.Encode(block)
		back, err := DecodeSuperblock(block)
		if err != nil || back != s {
			t.Fatalf("%+v decodes to %+v, %v", s, back, err)
		}
		if err := back.Check(l); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRingPositions(t *testing.T) {
	s := Stripes{4, 16}
	for tr, want := range []uint32{0, 16, 32, 48, 1, 17} {
		if got := s.Position(uint32(tr)); got != want {
			t.Errorf("4 x 16: transaction %d at block %d, want %d", tr, got, want)
		}
	}
	if got := (Stripes{}).Position(0xFFFFFFFF); got != 7 {
		t.Errorf("1 x 8: the last transaction before the wrap is at block %d", got)
	}
	l, _ := Place(Internal, 0, 64*mib, 0)
	if l.MaxSlots() != 6433 || l.Slots(1237) != 1237 || l.Slots(0) != 67 || l.Slots(65534) != 6433 {
		t.Errorf("slots: at most %d", l.MaxSlots())
	}
	if l, _ := Place(Internal, 0, 64*mib, 0, Stripes{1, 73}); l.Slots(65535) != 65534 {
		t.Errorf("73 blocks: %d slots", l.Slots(65535))
	}
	if l.BitmapPageOffset(0) != l.Bitmap || l.ALBlockOffset(9) != l.AL+BlockSize {
		t.Errorf("page 0 at %d, transaction 9 at %d", l.BitmapPageOffset(0), l.ALBlockOffset(9))
	}
	odd, _ := Place(ExternalFlexible, 0, 1<<50, mib+512)
	if last := int(odd.BitmapSize / bitmap.PageSize); odd.BitmapPageLen(0) != 4096 || odd.BitmapPageLen(last) != 512 || odd.BitmapPageLen(last+1) != 0 {
		t.Errorf("page lengths of an odd md device: %d, %d", odd.BitmapPageLen(0), odd.BitmapPageLen(last))
	}
}
