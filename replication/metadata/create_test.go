package metadata

import (
	"bytes"
	"errors"
	"testing"

	"github.com/urbd/urbd/bitmap"
)

// disk is a device in memory.
type disk []byte

func (d disk) apply(w Write) {
	if w.Data == nil {
		clear(d[w.Off : w.Off+w.Len])
		return
	}
	copy(d[w.Off:w.Off+w.Len], w.Data)
}

func (d disk) create(t *testing.T, l Layout, s Superblock) {
	t.Helper()
	var last Write
	for w := range l.Create(s) {
		if w.Data != nil && int64(len(w.Data)) != w.Len {
			t.Fatalf("%d bytes of data for %d", len(w.Data), w.Len)
		}
		d.apply(w)
		last = w
	}
	if last.Off != l.Superblock {
		t.Fatal("the superblock is not the last thing written")
	}
}

func TestCreate(t *testing.T) {
	for kind, size := range map[Kind]int{Internal: 5*mib + 512, ExternalFlexible: 5 * mib, ExternalIndexed: 256 * mib} {
		d := disk(bytes.Repeat([]byte{0xEE}, size))
		l, err := Place(kind, 1, int64(len(d)), int64(len(d)))
		if err != nil {
			t.Fatal(err)
		}
		d.create(t, l, New(l, 0xABCD))
		s, err := DecodeSuperblock(d[l.Superblock:])
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(l); err != nil {
			t.Error(err)
		}
		if s.Flags != 0x080 || !s.Clean || s.Current != 4 || s.ALExtents != 257 || s.LastAgreedSize != 0 || s.DeviceUUID != 0xABCD || s.PeerMaxBIO != 0 {
			t.Errorf("%v: %+v is not what create-md leaves", kind, s)
		}
		if _, _, v := Replay(d[l.AL:l.AL+8*BlockSize], l.Stripes); v != NothingHot {
			t.Errorf("%v: log %v", kind, v)
		}
		if area := d[l.Bitmap : l.Bitmap+l.BitmapSize]; bytes.Count(area, []byte{0}) != len(area) {
			t.Errorf("%v: the bitmap is not zero", kind)
		}
		if outside := bytes.Count(d, []byte{0xEE}); int64(outside) != int64(len(d))-l.MDSize {
			t.Errorf("%v: %d bytes were not written, the metadata takes %d of %d", kind, outside, l.MDSize, len(d))
		}
	}
}

// A large ring is written in pieces.
func TestInitRingLarge(t *testing.T) {
	l, err := Place(Internal, 0, 64*mib, 0, Stripes{10, 15})
	if err != nil {
		t.Fatal(err)
	}
	d := disk(make([]byte, 64*mib))
	for w := range l.InitRing() {
		d.apply(w)
	}
	if _, _, v := Replay(d[l.AL:l.Superblock], l.Stripes); v != NothingHot {
		t.Errorf("log %v", v)
	}
	if d[l.AL-1] != 0 || d[l.Superblock] != 0 {
		t.Error("written outside the ring")
	}
	for range l.Create(New(l, 0)) {
		break // a consumer may stop at an error
	}
}

// crashedDisk is a metadata device whose Primary has crashed: what its peer misses is in the bitmap and, if the log is whole, in that.
func crashedDisk(t *testing.T, l Layout, whole bool) (disk, Superblock) {
	t.Helper()
	disk := make(disk, l.Superblock+BlockSize)
	s := New(l, 7)
	s.LastAgreedSize, s.Clean = l.DataLimit, false
	s.Current, s.Bitmap, s.Flags = 0x1001, 0x2000, Consistent|WasUpToDate|PrimaryInd
	for w := range l.InitRing() {
		disk.apply(w)
	}
	if whole {
		al := bitmap.NewActivityLog(l.Slots(67))
		al.Stage(1, 1)
		tr, _ := al.Begin()
		EncodeTransaction(disk[l.ALBlockOffset(0):], 0, tr)
	} else {
		clear(disk[l.AL:][:l.ALBlocks()*BlockSize])
	}
	disk[l.Bitmap] = 0xff
	s.Encode(disk[l.Superblock:])
	return disk, s
}

// Whoever interrupts create-md leaves no metadata, or the new: never a superblock that tells of marks that are gone.
func TestCreateInterrupted(t *testing.T) {
	l, err := Place(Internal, 0, 16<<20, 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	disk, _ := crashedDisk(t, l, true)
	for w := range l.Create(New(l, 8)) {
		disk.apply(w)
		s, err := DecodeSuperblock(disk[l.Superblock:])
		if bad := new(Error); errors.As(err, &bad) && bad.Absent() {
			continue
		}
		if err != nil || s.DeviceUUID != 8 || disk[l.Bitmap] != 0 {
			t.Errorf("after a write at %d: %+v, %v", w.Off, s, err)
		}
	}
	if s, err := DecodeSuperblock(disk[l.Superblock:]); err != nil || s.DeviceUUID != 8 {
		t.Errorf("in the end: %+v, %v", s, err)
	}
}

// Whoever interrupts apply-al of a log that cannot be read leaves what says that every block may differ.
func TestApplyInterrupted(t *testing.T) {
	l, err := Place(Internal, 0, 16<<20, 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	disk, s := crashedDisk(t, l, false)
	s.Flags |= FullSync
	for w := range l.Apply(s) {
		disk.apply(w)
		got, err := DecodeSuperblock(disk[l.Superblock:])
		if err != nil {
			t.Fatal(err)
		}
		_, _, verdict := Replay(disk[l.AL:][:l.ALBlocks()*BlockSize], l.Stripes)
		if !got.Flags.Has(FullSync) && (!got.NeedsReplay() || verdict.Trusted()) {
			t.Errorf("after a write at %d: %v, the log is %v: what was hot is forgotten", w.Off, got.Flags, verdict)
		}
	}
	if got, err := DecodeSuperblock(disk[l.Superblock:]); err != nil || got.NeedsReplay() || !got.Flags.Has(FullSync|PrimaryInd) {
		t.Errorf("in the end: %+v, %v", got, err)
	}
}
