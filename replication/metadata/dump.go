package metadata

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/urbd/urbd/bitmap"
)

// A Dump is metadata as drbdmeta dump-md prints it and restore-md reads it.
type Dump struct {
	Superblock Superblock
	Layout     Layout
	Bitmap     *bitmap.Bitmap // of LastAgreedSize bytes, as it is on disk
	When       time.Time
	Host       string
	Command    string // for the header, "urbd dump-md r0"
}

const (
	wordsPerRow     = 4
	wordsPerComment = 32 // a comment with the position: 8 MiB of device
	shortestRun     = 8  // words of 0 or ~0 that are counted instead of listed
)

// FormatDump writes the text to w. A bitmap of another size than LastAgreedSize
// is a bug. The only errors are those of w.
//
// If the log has not been applied the text carries a line that restore-md does
// not accept, because the bitmap may lack hot extents.
// Source: docs/drbd-metadata.md 10.1.
func FormatDump(w io.Writer, d Dump) error {
	out := bufio.NewWriterSize(w, 1<<16)
	d.head(out)
	d.bits(out)
	return out.Flush()
}

// WriteTo writes the text of FormatDump.
func (d Dump) WriteTo(w io.Writer) (int64, error) {
	c := counter{w: w}
	err := FormatDump(&c, d)
	return c.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (d Dump) head(out *bufio.Writer) {
	s := &d.Superblock
	fmt.Fprintf(out, "# DRBD meta data dump\n# %s [%d]\n# %s> %s\n#\n\nversion \"v08\";\n\n",
		d.When.Format("2006-01-02 15:04:05 -0700"), d.When.Unix(), d.Host, d.Command)
	if s.NeedsReplay() {
		fmt.Fprint(out, "This_is_an_unclean_meta_data_dump._Don't_trust_the_bitmap.\n",
			"# You should \"apply-al\" first, if you plan to restore this.\n\n")
	}
	fmt.Fprintf(out, "# md_size_sect %d\n# md_offset %d\n# al_offset %d\n# bm_offset %d\n\n",
		s.MDSize/sector, d.Layout.Superblock, d.Layout.AL, d.Layout.Bitmap)
	fmt.Fprintf(out, "uuid {\n    0x%016X; 0x%016X; 0x%016X; 0x%016X;\n    flags 0x%08X;\n}\n",
		s.Current, s.Bitmap, s.History[0], s.History[1], uint32(s.Flags))
	stripes := s.Stripes.normal()
	fmt.Fprintf(out, "# al-extents %d;\nla-size-sect %d;\nbm-byte-per-bit %d;\ndevice-uuid 0x%016X;\n"+
		"la-peer-max-bio-size %d;\nal-stripes %d;\nal-stripe-size-4k %d;\n",
		s.ALExtents, s.LastAgreedSize/sector, s.BytesPerBit, s.DeviceUUID,
		s.PeerMaxBIO, stripes.Count, stripes.Size4k)
}

// bits lists the words of the bitmap, up to the end of its last page.
func (d Dump) bits(out *bufio.Writer) {
	b := d.Bitmap
	if b == nil {
		b = bitmap.New(0)
	}
	if b.Size() != d.Superblock.LastAgreedSize {
		panic("metadata: dump of a bitmap of another size than la_size")
	}
	words := int64(b.Pages()) * (bitmap.PageSize / 8)
	fmt.Fprintf(out, "# bm-bytes %d;\nbm {\n", words*8)
	for at := int64(0); at < words; {
		if at%wordsPerComment == 0 {
			fmt.Fprintf(out, "   # at %dkB\n", at*64*bitmap.BlockSize/1024)
		}
		if n := (runEnd(b, at, words) - at) / wordsPerRow * wordsPerRow; n >= shortestRun {
			fmt.Fprintf(out, "    %d times 0x%016X;\n", n, b.Word(at))
			at += n
			continue
		}
		fmt.Fprintf(out, "    0x%016X; 0x%016X; 0x%016X; 0x%016X;\n", b.Word(at), b.Word(at+1), b.Word(at+2), b.Word(at+3))
		at += wordsPerRow
	}
	fmt.Fprintf(out, "}\n# bits-set %d;\n", b.Count())
}

// runEnd is the end of the words like word at, if that is all clear or all set;
// otherwise at.
func runEnd(b *bitmap.Bitmap, at, words int64) int64 {
	switch b.Word(at) {
	case 0:
		if bit, ok := b.NextSet(at * 64); ok {
			return bit / 64
		}
		return words
	case ^uint64(0):
		if bit, ok := b.NextClear(at * 64); ok {
			return bit / 64
		}
		return b.Bits() / 64
	}
	return at
}
