package metadata

import "github.com/urbd/urbd/bitmap"

const movedHint = "the device was resized or is another one; restore its former size, run drbdadm check-resize, or create new metadata"

// Check compares the superblock with the layout that Place computes for the
// same stripes: what the driver and drbdmeta both accept, and nothing else. A
// device whose stored sizes differ would make the driver write its bitmap over
// the one on disk. The error is an *Error. Source: docs/drbd-metadata.md 1.4.
func (s *Superblock) Check(l Layout) error {
	if s.BytesPerBit != bitmap.BlockSize {
		return bad("bm_bytes_per_bit", "", "%d, must be %d", s.BytesPerBit, bitmap.BlockSize)
	}
	if err := s.Stripes.check(); err != nil {
		return err
	}
	if s.Stripes.normal() != l.Stripes {
		return bad("al_stripes", "", "%d x %d blocks, expected %d x %d",
			s.Stripes.Count, s.Stripes.Size4k, l.Stripes.Count, l.Stripes.Size4k)
	}
	for _, row := range []struct {
		field     string
		got, want int64
	}{
		{"md_size_sect", s.MDSize, l.MDSize},
		{"al_offset", s.ALOffset, l.AL - l.Superblock},
		{"bm_offset", s.BMOffset, l.Bitmap - l.Superblock},
	} {
		if row.got != row.want {
			return bad(row.field, movedHint, "%d sectors, this device needs %d", row.got/sector, row.want/sector)
		}
	}
	return s.checkSize(l)
}

// checkSize makes sure that the bitmap has room for the last agreed size.
func (s *Superblock) checkSize(l Layout) error {
	blocks := s.LastAgreedSize / bitmap.BlockSize
	if s.LastAgreedSize%bitmap.BlockSize != 0 {
		blocks++
	}
	if need := (blocks + 7) / 8; need > l.BitmapSize {
		return bad("la_size", movedHint, "%d sectors need a bitmap of %d bytes, there is room for %d",
			s.LastAgreedSize/sector, need, l.BitmapSize)
	}
	return nil
}
