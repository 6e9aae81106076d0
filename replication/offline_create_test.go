package replication

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
)

func TestCreateWipeCreate(t *testing.T) {
	for _, v := range []*config.Volume{
		internal(t, 64<<20),
		{Disk: file(t, 8<<20), MetaDisk: config.MetaDisk{Device: file(t, 2<<20), Index: -1}},
		{Disk: file(t, 8<<20), MetaDisk: config.MetaDisk{Device: file(t, 2*indexedMeta), Index: 1}},
	} {
		if _, err := ReadSuperblock(v); err == nil {
			t.Error("metadata before create-md")
		}
		if err := CreateMD(v, CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		sb, err := ReadSuperblock(v)
		if err != nil || sb.Current != metadata.JustCreated || sb.NeedsReplay() {
			t.Fatalf("%+v %v", sb, err)
		}
		wantFound(t, v, "metadata of DRBD 8.4 (current generation 0000000000000004)", "it will be overwritten")
		if err := CreateMD(v, CreateOptions{Force: true}); err != nil {
			t.Error(err)
		}
		if err := WipeMD(v); err != nil {
			t.Error(err)
		}
		if err := WipeMD(v); err == nil {
			t.Error("wiped twice")
		}
		if err := CreateMD(v, CreateOptions{Force: !v.MetaDisk.Internal}); err != nil { // the rest of the metadata is some data
			t.Error(err)
		}
	}
}

// wantFound expects that CreateMD asks about what and says loss.
func wantFound(t *testing.T, v *config.Volume, what, loss string) {
	t.Helper()
	var found *FoundError
	if err := CreateMD(v, CreateOptions{}); !errors.As(err, &found) || found.What != what || found.Loss != loss {
		t.Errorf("create-md: %v; want to hear of %s; %s", err, what, loss)
	}
}

func writeAt(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt(b, off)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// extHeader is as much of an ext superblock as says how large the file system is.
func extHeader(t *testing.T, path string, blocks uint32) {
	b := make([]byte, 1024)
	binary.LittleEndian.PutUint16(b[56:], 0xEF53)
	binary.LittleEndian.PutUint32(b[4:], blocks)
	binary.LittleEndian.PutUint32(b[24:], 2) // blocks of 4096 bytes
	writeAt(t, path, 1024, b)
}

func TestCreateMDSparesFileSystems(t *testing.T) {
	v := internal(t, 16<<20)
	extHeader(t, v.Disk, 16<<20/4096)
	var unfit *UnfitError
	for _, force := range []bool{false, true} {
		err := CreateMD(v, CreateOptions{Force: force})
		if !errors.As(err, &unfit) || !strings.Contains(err.Error(), "shrink the file system first") || !strings.Contains(err.Error(), "wipefs --all "+v.Disk) {
			t.Errorf("force %v over a file system that needs the place: %v", force, err)
		}
	}
	extHeader(t, v.Disk, 8<<20/4096)
	wantFound(t, v, "an ext file system of 8388608 bytes", "the metadata goes behind it, to 16736256")
	if err := CreateMD(v, CreateOptions{Force: true}); err != nil {
		t.Error(err)
	}
}

// TestCreateMDAsksAboutTheDeviceItWritesTo: of external metadata that is the meta-disk, and only that.
func TestCreateMDAsksAboutTheDeviceItWritesTo(t *testing.T) {
	for _, v := range []*config.Volume{
		{Disk: file(t, 8<<20), MetaDisk: config.MetaDisk{Device: file(t, 2<<20), Index: -1}},
		{Disk: file(t, 8<<20), MetaDisk: config.MetaDisk{Device: file(t, 2*indexedMeta), Index: 1}},
	} {
		extHeader(t, v.Disk, 8<<20/4096)
		if err := CreateMD(v, CreateOptions{}); err != nil {
			t.Errorf("a file system on the data disk: %v", err)
		}
		if err := WipeMD(v); err != nil {
			t.Error(err)
		}
		extHeader(t, v.MetaDisk.Device, 1<<20/4096)
		want := "2097152 bytes of the device from 0 on will be overwritten"
		if v.MetaDisk.Index == 1 {
			want = "134217728 bytes of the device from 134217728 on will be overwritten"
		}
		wantFound(t, v, "an ext file system of 1048576 bytes", want)
	}
	slot := &config.Volume{Disk: file(t, 8<<20), MetaDisk: config.MetaDisk{Device: file(t, 2*indexedMeta), Index: 1}}
	writeAt(t, slot.MetaDisk.Device, indexedMeta+100<<10, []byte{1})
	wantFound(t, slot, "some data", "134217728 bytes of the device from 134217728 on will be overwritten")
}

// TestCreateMDAsksAboutMetadataOfOthers: also when it cannot be read.
func TestCreateMDAsksAboutMetadataOfOthers(t *testing.T) {
	for _, tt := range []struct {
		magic, sectors uint32
		what           string
	}{
		{0x83740269, 0, "metadata of DRBD 0.6"},
		{0x8374026A, 0, "metadata of DRBD 0.7"},
		{0x8374026D, 0, "metadata of DRBD 9"},
		{0x8374026B, 1 << 31, "metadata of DRBD 8.4"},
	} {
		v := internal(t, 8<<20)
		b := make([]byte, 64)
		binary.BigEndian.PutUint32(b, tt.sectors) // the upper half of la_size
		binary.BigEndian.PutUint32(b[60:], tt.magic)
		writeAt(t, v.Disk, 8<<20-4096, b)
		wantFound(t, v, tt.what, "it will be overwritten")
	}
}

func TestCreateMDAsksAboutEveryContent(t *testing.T) {
	md := []byte{0xfc, 0x4e, 0x2b, 0xa9}
	const size = 8 << 20
	for _, tt := range []struct {
		off   int64
		bytes string
		what  string
	}{
		{510, "\x55\xaa", "a partition table (MBR) or a boot sector"},
		{512, "EFI PART", "a partition table (GPT)"},
		{4096, "EFI PART", "a partition table (GPT)"},
		{0, string(md), "a member of a RAID array (md)"},
		{4096, string(md), "a member of a RAID array (md)"},
		{size - 64<<10, string(md), "a member of a RAID array (md)"},
		{size - 8<<10, string(md), "a member of a RAID array (md)"},
		{1536, "LABELONE", "an LVM physical volume"},
		{3, "NTFS    ", "an NTFS file system"},
		{82, "FAT32", "a FAT file system"},
		{0, "hsqs", "a squashfs file system"},
		{4096 - 10, "SWAPSPACE2", "swap space"},
		{65536 - 10, "SWAPSPACE2", "swap space"},
		{0, "LUKS\xba\xbe", "a LUKS container"},
		{128<<10 - 1, "x", "some data"},
	} {
		v := internal(t, size)
		writeAt(t, v.Disk, tt.off, []byte(tt.bytes))
		wantFound(t, v, tt.what, "the device from 8347648 on will be overwritten, its last 40960 bytes")
		if err := CreateMD(v, CreateOptions{Force: true}); err != nil {
			t.Errorf("--force over %s: %v", tt.what, err)
		}
	}
	v := internal(t, size)
	writeAt(t, v.Disk, 128<<10, []byte("x"))
	if err := CreateMD(v, CreateOptions{}); err != nil {
		t.Errorf("a device whose start is empty: %v", err)
	}
}

// TestProbeOfAShortDevice: what is shorter than the look counts too. No metadata fits on such a device today.
func TestProbeOfAShortDevice(t *testing.T) {
	v := internal(t, 64<<10)
	writeAt(t, v.Disk, 60<<10, []byte("x"))
	o, err := openOffline(v)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	if f, err := o.content(metadata.Layout{}); err != nil || f == nil || f.name != "some data" {
		t.Errorf("%v %v", f, err)
	}
}

func TestCreateMDOnATooSmallDevice(t *testing.T) {
	var unfit *UnfitError
	if err := CreateMD(internal(t, 512<<10), CreateOptions{Force: true}); !errors.As(err, &unfit) || !strings.Contains(err.Error(), "at least 1 MiB") {
		t.Errorf("%v", err)
	}
}
