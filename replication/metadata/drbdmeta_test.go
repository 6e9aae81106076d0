//go:build drbdutils

// These tests ask the drbdmeta of drbd-utils what it thinks of our metadata.
// They need no root, no block device and no kernel module, because --force
// makes it take regular files:
//
//	apt-get download drbd-utils && dpkg -x drbd-utils_*.deb u
//	URBD_DRBDMETA=$PWD/u/sbin/drbdmeta go test -tags drbdutils ./replication/metadata
//
// With -record they write the texts in testdata that the ordinary tests compare
// with.
package metadata

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/urbd/urbd/bitmap"
)

var record = flag.Bool("record", false, "write what drbdmeta prints to testdata")

// An image is a file with metadata in it.
type image struct {
	path string
	l    Layout
}

func newImage(t *testing.T, size int64, kind Kind, index int, stripes Stripes) image {
	t.Helper()
	l, err := Place(kind, index, size, size, stripes)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return image{path, l}
}

func (im image) write(t *testing.T, off int64, p []byte) {
	t.Helper()
	f, err := os.OpenFile(im.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

func (im image) read(t *testing.T, off, n int64) []byte {
	t.Helper()
	f, err := os.Open(im.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, n)
	if _, err := f.ReadAt(p, off); err != nil {
		t.Fatal(err)
	}
	return p
}

// store writes everything as create-md does, then the bitmap.
func (im image) store(t *testing.T, s Superblock, b *bitmap.Bitmap) {
	t.Helper()
	for w := range im.l.Create(s) {
		if w.Data != nil { // the file is zero elsewhere
			im.write(t, w.Off, w.Data)
		}
	}
	page := make([]byte, bitmap.PageSize)
	for p := range b.Pages() {
		if b.CountRange(int64(p)*bitmap.PageBits*bitmap.BlockSize, bitmap.PageBits*bitmap.BlockSize) > 0 {
			b.EncodePage(p, page)
			im.write(t, im.l.BitmapPageOffset(p), page[:im.l.BitmapPageLen(p)])
		}
	}
}

func (im image) superblock(t *testing.T) Superblock {
	t.Helper()
	s, err := DecodeSuperblock(im.read(t, im.l.Superblock, BlockSize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tool runs drbdmeta on the image and returns what it prints.
func (im image) tool(t *testing.T, args ...string) string {
	t.Helper()
	tool := os.Getenv("URBD_DRBDMETA")
	if tool == "" {
		tool = "drbdmeta"
	}
	where := map[Kind]string{Internal: "internal", ExternalFlexible: "flex-external"}[im.l.Kind]
	if im.l.Kind == ExternalIndexed {
		where = strconv.Itoa(im.l.Index)
	}
	cmd := exec.Command(tool, append([]string{"--force", "4242", "v08", im.path, where}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("drbdmeta %v: %v\n%s%s", args, err, out, &stderr)
	}
	return string(out)
}

var flagsLine = regexp.MustCompile(`flags 0x[0-9A-F]{8};`)

// comparable is a pair of dumps without what differs by place and version: the
// header, and the flags if the tool prints 0, as drbd-utils before 9.33 always
// does (TRAP 18).
func comparable(ours, tool string) (a, b []string) {
	_, ours, _ = strings.Cut(ours, "\n#\n\n")
	_, tool, _ = strings.Cut(tool, "\n#\n\n")
	if strings.Contains(tool, "flags 0x00000000;") {
		ours = flagsLine.ReplaceAllString(ours, "flags 0x00000000;")
	}
	return strings.Split(ours, "\n"), strings.Split(tool, "\n")
}

func (im image) compare(t *testing.T, s Superblock, b *bitmap.Bitmap) (toolText string) {
	t.Helper()
	toolText = im.tool(t, "dump-md")
	ours := text(t, Dump{Superblock: s, Layout: im.l, Bitmap: b})
	g, w := comparable(ours, toolText)
	for i := range max(len(g), len(w)) {
		if at(g, i) != at(w, i) {
			t.Fatalf("dump line %d:\n    ours %q\ndrbdmeta %q", i+1, at(g, i), at(w, i))
		}
	}
	if got, want := s.Generations()+"\n", im.tool(t, "get-gi"); got != want {
		t.Errorf("get-gi: ours %sdrbdmeta %s", got, want)
	}
	if got, want := s.ShowGenerations(), im.tool(t, "show-gi"); got != want {
		t.Errorf("show-gi: ours\n%sdrbdmeta\n%s", got, want)
	}
	if got, want := s.Flags.Offline().String()+"\n", im.tool(t, "dstate"); got != want {
		t.Errorf("dstate: ours %s, drbdmeta %s", got, want)
	}
	return toolText
}

// save writes what the tool printed, with our header and flags, to testdata.
func save(t *testing.T, file, toolText string, d Dump) {
	t.Helper()
	if !*record {
		return
	}
	ours := text(t, d)
	head, _, _ := strings.Cut(ours, "\n#\n\n")
	_, body, _ := strings.Cut(toolText, "\n#\n\n")
	body = flagsLine.ReplaceAllString(body, "flags 0x00000091;") // TRAP 18
	if err := os.WriteFile("testdata/"+file, []byte(head+"\n#\n\n"+body), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestToolReadsGolden(t *testing.T) {
	im, d := newImage(t, 64*mib, Internal, 0, Stripes{}), goldenDump(t)
	im.store(t, d.Superblock, d.Bitmap)
	save(t, "golden.dump", im.compare(t, d.Superblock, d.Bitmap), d)
	if *record {
		if err := os.WriteFile("testdata/golden.show-gi", []byte(im.tool(t, "show-gi")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestToolReadsRuns(t *testing.T) {
	im, d := newImage(t, 1<<30, Internal, 0, Stripes{}), runsDump(t)
	im.store(t, d.Superblock, d.Bitmap)
	save(t, "runs.dump", im.compare(t, d.Superblock, d.Bitmap), d)
}

// Every layout, random contents.
func TestToolReadsEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(2026, 11))
	for i, c := range []struct {
		size    int64
		kind    Kind
		index   int
		stripes Stripes
	}{
		{64 * mib, Internal, 0, Stripes{}}, {1 * mib, Internal, 0, Stripes{}}, {64*mib + 1536, Internal, 0, Stripes{4, 16}},
		{1 << 40, Internal, 0, Stripes{1, 8192}}, {15 << 40, Internal, 0, Stripes{}}, {2 * mib, ExternalFlexible, 0, Stripes{}},
		{33*mib + 512*7, ExternalFlexible, 0, Stripes{8, 8}}, {256 * mib, ExternalIndexed, 1, Stripes{}},
		{128 * mib, ExternalIndexed, 0, Stripes{}},
	} {
		im := newImage(t, c.size, c.kind, c.index, c.stripes)
		s := New(im.l, rng.Uint64())
		im.store(t, s, bitmap.New(0))
		im.compare(t, s, bitmap.New(0))
		for range 3 {
			s.Flags = Flags(rng.Uint32()) & 0x1ff
			s.Clean = s.Flags.Has(ALClean)
			s.Current, s.Bitmap, s.History = rng.Uint64(), rng.Uint64(), [2]uint64{rng.Uint64(), rng.Uint64()}
			s.ALExtents, s.PeerMaxBIO = uint32(im.l.Slots(1237)), 1<<20
			s.LastAgreedSize = (1 + rng.Int64N(im.l.DataLimit/sector)) * sector
			b := bitmap.New(s.LastAgreedSize)
			for range rng.IntN(40) {
				b.SetRange(rng.Int64N(b.Size()), 1+rng.Int64N(1<<(12+rng.IntN(20))))
			}
			for p := range im.l.BitmapSize / bitmap.PageSize { // what the last round left
				if page := im.read(t, im.l.Bitmap+p*4096, 4096); c.size < 1<<35 && bytes.ContainsFunc(page, func(r rune) bool { return r != 0 }) {
					im.write(t, im.l.Bitmap+p*4096, make([]byte, 4096))
				}
			}
			if c.size >= 1<<35 {
				im = newImage(t, c.size, c.kind, c.index, c.stripes)
			}
			im.store(t, s, b)
			t.Logf("case %d: %d bytes, %d bits set", i, c.size, b.Count())
			im.compare(t, s, b)
		}
	}
}

// What the tool creates is what we create.
func TestToolCreatesTheSame(t *testing.T) {
	for _, c := range []struct {
		size    int64
		kind    Kind
		index   int
		stripes Stripes
		args    []string
	}{
		{64 * mib, Internal, 0, Stripes{}, nil},
		{65*mib + 3*512, Internal, 0, Stripes{2, 16}, []string{"--al-stripes", "2", "--al-stripe-size-kB", "64"}},
		{8 * mib, ExternalFlexible, 0, Stripes{}, nil},
		{256 * mib, ExternalIndexed, 1, Stripes{}, nil},
	} {
		im := newImage(t, c.size, c.kind, c.index, c.stripes)
		im.tool(t, append([]string{"create-md"}, c.args...)...)
		theirs, err := os.ReadFile(im.path)
		if err != nil {
			t.Fatal(err)
		}
		ours := disk(make([]byte, c.size))
		ours.create(t, im.l, New(im.l, 0))
		if !bytes.Equal(ours, theirs) {
			t.Errorf("%v of %d bytes: create-md wrote something else", c.kind, c.size)
		}
	}
}

// The tool's replay of a log that we wrote marks what our replay marks.
func TestToolReplaysOurLog(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for _, c := range []struct {
		stripes Stripes
		slots   int
		n       int
	}{{Stripes{}, 67, 3}, {Stripes{}, 1237, 30}, {Stripes{}, 6433, 100}, {Stripes{4, 16}, 1237, 90}} {
		im := newImage(t, 4<<30, Internal, 0, c.stripes)
		s := golden()
		s.Place(im.l)
		s.Clean, s.Flags, s.ALExtents = false, Consistent|WasUpToDate|PrimaryInd, uint32(c.slots)
		s.LastAgreedSize = im.l.DataLimit
		b := bitmap.New(s.LastAgreedSize)
		b.SetRange(rng.Int64N(b.Size()), 5<<20)
		im.store(t, s, b)

		a := bitmap.NewActivityLog(c.slots)
		block := make([]byte, BlockSize)
		for tr := range uint32(c.n) {
			for range 1 + rng.IntN(40) {
				e := rng.Uint32N(uint32(b.Size() / bitmap.ExtentSize))
				if r := a.Stage(e, e); r == bitmap.Staged || r == bitmap.AlreadyHot {
					a.Put(e, e, 0)
				}
			}
			EncodeTransaction(block, tr, a.BeginContext())
			im.write(t, im.l.ALBlockOffset(tr), block)
			a.Commit()
		}
		// A torn transaction after them must not matter.
		for e := range uint32(30) {
			a.Stage(e, e)
		}
		EncodeTransaction(block, uint32(c.n), a.BeginContext())
		block[4000] ^= 0x55
		im.write(t, im.l.ALBlockOffset(uint32(c.n)), block)

		hot, next, verdict := Replay(im.read(t, im.l.AL, int64(im.l.ALBlocks())*BlockSize), im.l.Stripes)
		if !verdict.Trusted() || next != uint32(c.n) {
			t.Fatalf("%v, next %d", verdict, next)
		}
		MarkHot(b, hot)
		im.tool(t, "apply-al")
		s.Clean, s.Flags = true, s.Flags|ALClean
		if got := im.superblock(t); got != s {
			t.Errorf("superblock after apply-al %+v, want %+v", got, s)
		}
		im.compare(t, s, b)
		if _, _, v := Replay(im.read(t, im.l.AL, int64(im.l.ALBlocks())*BlockSize), im.l.Stripes); v != NothingHot {
			t.Errorf("the ring after apply-al: %v", v)
		}
	}
}

// The tool restores our dump to the metadata that it came from, but for the
// flags in versions that do not read them.
func TestToolRestoresOurDump(t *testing.T) {
	for _, d := range []Dump{goldenDump(t), runsDump(t)} {
		im := newImage(t, int64(d.Layout.Superblock+BlockSize), Internal, 0, Stripes{})
		dump := filepath.Join(t.TempDir(), "dump")
		if err := os.WriteFile(dump, []byte(text(t, d)), 0o600); err != nil {
			t.Fatal(err)
		}
		im.tool(t, "create-md")
		im.tool(t, "restore-md", dump)
		got, want := im.superblock(t), d.Superblock
		got.Flags, want.Flags, got.ALExtents, want.ALExtents = 0, 0, 0, 0 // al-extents is a comment
		if got != want {
			t.Errorf("superblock %+v\nwant %+v", got, want)
		}
		page := make([]byte, bitmap.PageSize)
		for p := range d.Bitmap.Pages() {
			d.Bitmap.EncodePage(p, page)
			if !bytes.Equal(page, im.read(t, im.l.BitmapPageOffset(p), bitmap.PageSize)) {
				t.Errorf("page %d of the bitmap differs", p)
			}
		}
	}
}
