package metadata

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/bitmap"
)

func goldenDump(t *testing.T) Dump {
	t.Helper()
	l, err := Place(Internal, 0, 64*mib, 0)
	if err != nil {
		t.Fatal(err)
	}
	return Dump{
		Superblock: golden(), Layout: l, Bitmap: goldenBitmap(),
		When: time.Unix(1795380453, 0).UTC(), Host: "alpha", Command: "drbdmeta 0 v08 /dev/vdb internal dump-md",
	}
}

func text(t *testing.T, d Dump) string {
	t.Helper()
	var b bytes.Buffer
	n, err := d.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("%d of %d bytes, %v", n, b.Len(), err)
	}
	return b.String()
}

func same(t *testing.T, got, file string) {
	t.Helper()
	want, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s line %d:\n got %q\nwant %q", file, i+1, at(g, i), at(w, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

// The dump of docs/drbd-metadata.md 10.1 with the rows that drbdmeta prints.
func TestGoldenDump(t *testing.T) { same(t, text(t, goldenDump(t)), "golden.dump") }

// runsDump has a map with runs of every kind.
func runsDump(t *testing.T) Dump {
	t.Helper()
	d := goldenDump(t)
	l, err := Place(Internal, 0, 1<<30, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := bitmap.New(l.DataLimit)
	for _, r := range [][2]int64{{0, 1}, {64 * 3, 64 * 297}, {64 * 1000, 1}, {64 * 1010, 64 * 7}, {64 * 1100, 64 * 8}, {64 * 1204, 64 * 11}, {b.Bits() - 640, 640}} {
		b.SetRange(r[0]*bitmap.BlockSize, r[1]*bitmap.BlockSize)
	}
	for w := int64(1500); w < 1540; w++ { // equal words that are no run for drbdmeta
		b.SetRange(w*64*bitmap.BlockSize, 8*bitmap.BlockSize)
	}
	d.Superblock.Place(l)
	d.Superblock.LastAgreedSize = l.DataLimit
	d.Layout, d.Bitmap = l, b
	return d
}

// As drbdmeta 9.22 printed it.
func TestDumpRuns(t *testing.T) { same(t, text(t, runsDump(t)), "runs.dump") }

func TestDumpEmptyAndUnclean(t *testing.T) {
	d := goldenDump(t)
	d.Superblock, d.Bitmap = New(d.Layout, 0), nil
	if got := text(t, d); !strings.HasSuffix(got, "\nla-size-sect 0;\nbm-byte-per-bit 4096;\ndevice-uuid 0x0000000000000000;\n"+
		"la-peer-max-bio-size 0;\nal-stripes 1;\nal-stripe-size-4k 8;\n# bm-bytes 0;\nbm {\n}\n# bits-set 0;\n") {
		t.Errorf("fresh metadata: %s", got)
	}
	d = goldenDump(t)
	d.Superblock.Clean = false
	if got := text(t, d); !strings.Contains(got, "\nThis_is_an_unclean_meta_data_dump._Don't_trust_the_bitmap.\n") {
		t.Error("the dump of unclean metadata can be restored")
	}
}

type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("no space")
	}
	return len(p), nil
}

func TestDumpReportsTheWriter(t *testing.T) {
	if err := FormatDump(&full{10}, goldenDump(t)); err == nil {
		t.Error("no error from a full disk")
	}
}

func TestGenerations(t *testing.T) {
	s := golden()
	if got := s.Generations(); got != "1122334455667788:99AABBCCDDEEFF00:0123456789ABCDEF:FEDCBA9876543210:1:1:0:0:0:0:0" {
		t.Error(got)
	}
	s.Flags = Consistent | PrimaryInd | FullSync | CrashedPrimary
	if got := s.Generations(); !strings.HasSuffix(got, ":1:0:1:0:1:0:1") {
		t.Error(got)
	}
}

// The words that drbdmeta 9.22 shows and the states that it prints.
func TestShowGenerations(t *testing.T) {
	s := golden()
	same(t, s.ShowGenerations(), "golden.show-gi")
	for _, c := range []struct {
		flags Flags
		words string
		state DiskState
	}{
		{0x00, "Secondary, StandAlone, Inconsistent", DiskInconsistent},
		{0x01, "Secondary, StandAlone, Outdated", DiskOutdated},
		{0x10, "Secondary, StandAlone, Inconsistent", DiskInconsistent},
		{0x17, "Primary, Connected, UpToDate", DiskConsistent},
		{0x31, "Secondary, StandAlone, UpToDate, peer Outdated", DiskUpToDate},
		{0x21, "Secondary, StandAlone, Outdated, peer Outdated", DiskOutdated},
		{0x6a, "crashed Primary, StandAlone, Inconsistent, need full sync, peer Outdated", DiskInconsistent},
		{0x75, "crashed Secondary, Connected, UpToDate, peer Outdated", DiskUpToDate},
	} {
		s.Flags = c.flags
		if got := s.ShowGenerations(); !strings.Contains(got, "\nflags: "+c.words+"\nmeta-data: need apply-al\n") {
			t.Errorf("%#x: %s", uint32(c.flags), got[len(got)-160:])
		}
		if got := c.flags.Offline(); got != c.state {
			t.Errorf("%#x: offline %v, want %v", uint32(c.flags), got, c.state)
		}
	}
	fresh := New(goldenDump(t).Layout, 0)
	if got := fresh.ShowGenerations(); !strings.HasSuffix(got, "flags: Secondary, StandAlone, Inconsistent\nmeta-data: clean\nzero size device -- never seen peer yet?\n") {
		t.Errorf("fresh: %s", got)
	}
}

// Sizes as drbdmeta 9.22 prints them.
func TestRoundSize(t *testing.T) {
	for kib, want := range map[int64]string{
		1: "1 KB", 9999: "9999 KB", 10000: "10 MB", 10751: "10 MB", 10752: "11 MB", 999999: "977 MB", 10239487: "9999 MB",
		10239488: "10 GB", 1 << 30: "1024 GB", 9 << 30: "9216 GB", 12345678901: "11 TB",
	} {
		if got := roundSize(kib * 1024); got != want {
			t.Errorf("%d KiB: %s, want %s", kib, got, want)
		}
	}
	if got := roundSize(maxSize); got != "1024 PB" {
		t.Error(got)
	}
}
