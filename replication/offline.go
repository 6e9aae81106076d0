package replication

import (
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
)

// WipeMD destroys the metadata of v, whose device must not be in use. Data
// stays. Without metadata it is a *metadata.Error.
func WipeMD(v *config.Volume) error {
	o, err := openOffline(v)
	if err != nil {
		return err
	}
	defer o.close()
	at, _, err := o.find(v)
	if err != nil {
		return err
	}
	if err := o.put(metadata.Write{Off: at, Len: metadata.BlockSize}); err != nil {
		return err
	}
	return o.flush()
}

// DumpMD prints the metadata of v as `drbdmeta dump-md` does; the device must
// not be in use. Of a bitmap that was not written since a crash it says so.
func DumpMD(w io.Writer, v *config.Volume) error {
	o, err := openOffline(v)
	if err != nil {
		return err
	}
	defer o.close()
	sb, l, err := o.load(v)
	if err != nil {
		return err
	}
	b := bitmap.New(sb.LastAgreedSize)
	for p := range b.Pages() {
		page, err := o.read(l.BitmapPageOffset(p), bitmap.PageSize)
		if err != nil {
			return err
		}
		b.LoadPage(p, page)
	}
	host, _ := os.Hostname()
	return metadata.FormatDump(w, metadata.Dump{Superblock: sb, Layout: l, Bitmap: b, When: time.Now(), Host: host, Command: strings.Join(os.Args, " ")})
}

// ReadSuperblock reads the superblock of v, also while the device is in use:
// what a running daemon has written last.
func ReadSuperblock(v *config.Volume) (metadata.Superblock, error) {
	o, err := openReadOnly(v)
	if err != nil {
		return metadata.Superblock{}, err
	}
	defer o.close()
	_, sb, err := o.find(v)
	return sb, err
}

// Applied is what ApplyAL did.
type Applied struct {
	Needed  bool             // the log had to be read: the last owner died
	Verdict metadata.Verdict // what the log told
	Hot     int              // extents of 4 MiB that count as out of sync now
	Full    bool             // the log could not be trusted: every block counts as out of sync
}

// ApplyAL replays the activity log of v into its bitmap, so that other tools
// may use the bitmap; the device must not be in use. Each step is durable before
// the next: bitmap, ring, superblock. Source: docs/drbd-metadata.md 4.6.
func ApplyAL(v *config.Volume) (Applied, error) {
	var a Applied
	o, err := openOffline(v)
	if err != nil {
		return a, err
	}
	defer o.close()
	sb, l, err := o.load(v)
	if err != nil {
		return a, err
	}
	if a.Needed = sb.NeedsReplay(); !a.Needed {
		return a, nil
	}
	ring, err := o.read(l.AL, int64(l.ALBlocks())*metadata.BlockSize)
	if err != nil {
		return a, err
	}
	hot, _, verdict := metadata.Replay(ring, l.Stripes)
	a.Verdict = verdict
	if sb.Flags.Has(metadata.PrimaryInd) {
		if a.Full = !verdict.Trusted(); a.Full {
			sb.Flags |= metadata.FullSync
		}
		a.Hot = len(hot)
		if err := o.mark(l, sb.LastAgreedSize, hot); err != nil {
			return a, err
		}
	}
	return a, o.writeAll(l, l.Apply(sb))
}

// mark sets the bits of the hot extents on disk. Only their pages are read.
func (o *offline) mark(l metadata.Layout, size int64, hot []uint32) error {
	b := bitmap.New(size)
	var pages []int
	for _, e := range hot {
		if off := int64(e) * bitmap.ExtentSize; off < size {
			pages = append(pages, b.PageOf(off))
		}
	}
	pages = slices.Compact(pages) // hot is in ascending order
	for _, p := range pages {
		page, err := o.read(l.BitmapPageOffset(p), bitmap.PageSize)
		if err != nil {
			return err
		}
		b.LoadPage(p, page)
	}
	metadata.MarkHot(b, hot)
	page := make([]byte, bitmap.PageSize)
	for _, p := range pages {
		b.EncodePage(p, page)
		if err := o.put(metadata.Write{Off: l.BitmapPageOffset(p), Len: bitmap.PageSize, Data: page}); err != nil {
			return err
		}
	}
	return o.flush()
}

// writeAll carries out what creates or changes metadata as a whole. What a superblock speaks of is durable before it, and it before what follows.
func (o *offline) writeAll(l metadata.Layout, writes iter.Seq[metadata.Write]) error {
	for w := range writes {
		super := w.Off == l.Superblock
		if super {
			if err := o.flush(); err != nil {
				return err
			}
		}
		if err := o.put(w); err != nil {
			return err
		}
		if super {
			if err := o.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}
