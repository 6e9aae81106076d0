package replication

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/urbd/urbd/replication/metadata"
)

// probed is how much of the start of a device is looked at, in bytes.
const probed = 128 << 10

// found is what a device holds.
type found struct {
	name string
	size int64 // bytes that it uses; 0 if it does not tell
}

func (f *found) String() string {
	if f.size == 0 {
		return f.name
	}
	return fmt.Sprintf("%s of %d bytes", f.name, f.size)
}

// content looks for data on the device that the metadata of l goes to; nil if there is none. Of an indexed one, whose
// other parts are other volumes' metadata, only the own part counts, and what a file system on the whole device says.
func (o *offline) content(l metadata.Layout) (*found, error) {
	start, err := o.probe(0)
	if err != nil {
		return nil, err
	}
	if f := signature(start); f != nil {
		return f, nil
	}
	if f, err := o.raid(); f != nil || err != nil {
		return f, err
	}
	if l.Kind == metadata.ExternalIndexed {
		if start, err = o.probe(l.Superblock); err != nil {
			return nil, err
		}
	}
	if len(bytes.Trim(start, "\x00")) > 0 {
		return &found{name: "some data"}, nil
	}
	return nil, nil
}

// probe reads what is looked at, from off on; a device that ends before is followed by zeroes.
func (o *offline) probe(off int64) ([]byte, error) {
	b, err := o.read(off, min(probed, o.meta.size-off))
	if err != nil {
		return nil, err
	}
	return append(b, make([]byte, probed-len(b))...), nil
}

// raid finds a member of an array of the kernel whose superblock is at the end of the device: formats 0.90 and 1.0.
func (o *offline) raid() (*found, error) {
	size := o.meta.size
	for _, at := range []int64{size&^(64<<10-1) - 64<<10, (size - 8<<10) &^ (4<<10 - 1)} {
		if at < 0 {
			continue
		}
		b, err := o.read(at, metadata.BlockSize)
		if err != nil {
			return nil, err
		}
		if isRAID(b) {
			return &found{name: raidMember}, nil
		}
	}
	return nil, nil
}

const raidMember = "a member of a RAID array (md)"

func isRAID(b []byte) bool { return binary.LittleEndian.Uint32(b) == 0xa92b4efc }

// signature knows what people keep on disks by its first bytes b[:probed]; nil if it does not know it.
func signature(b []byte) *found {
	le, be := binary.LittleEndian, binary.BigEndian
	at := func(off int, magic string) bool { return string(b[off:off+len(magic)]) == magic }
	ext := b[1024:]
	switch {
	case le.Uint16(ext[56:]) == 0xEF53:
		blocks := uint64(le.Uint32(ext[4:]))
		if le.Uint32(ext[96:])&0x80 != 0 { // INCOMPAT_64BIT
			blocks |= uint64(le.Uint32(ext[336:])) << 32
		}
		return &found{"an ext file system", sized(blocks, 1024<<(le.Uint32(ext[24:])&31))}
	case at(0, "XFSB"):
		return &found{"an xfs file system", sized(be.Uint64(b[8:]), uint64(be.Uint32(b[4:])))}
	case at(0x10040, "_BHRfS_M"):
		return &found{"a btrfs file system", sized(le.Uint64(b[0x10070:]), 1)}
	case at(3, "NTFS    "):
		return &found{"an NTFS file system", sized(le.Uint64(b[40:])+1, uint64(le.Uint16(b[11:])))}
	case at(0, "hsqs"):
		return &found{"a squashfs file system", sized(le.Uint64(b[40:]), 1)}
	case at(3, "EXFAT   "), at(54, "FAT1"), at(82, "FAT32"):
		return &found{name: "a FAT file system"}
	case at(0, "LUKS\xba\xbe"):
		return &found{name: "a LUKS container"}
	case isRAID(b), isRAID(b[4096:]):
		return &found{name: raidMember}
	case at(512, "EFI PART"), at(4096, "EFI PART"):
		return &found{name: "a partition table (GPT)"}
	}
	for sector := range 4 {
		if at(sector*512, "LABELONE") {
			return &found{name: "an LVM physical volume"}
		}
	}
	for page := 4 << 10; page <= 64<<10; page *= 2 {
		if at(page-10, "SWAPSPACE2") || at(page-10, "SWAP-SPACE") {
			return &found{name: "swap space"}
		}
	}
	if at(510, "\x55\xaa") {
		return &found{name: "a partition table (MBR) or a boot sector"}
	}
	return nil
}

// sized multiplies what a device claims about itself; nonsense counts as unknown.
func sized(blocks, block uint64) int64 {
	const most = 1 << 60
	if block == 0 || blocks > most/block {
		return 0
	}
	return int64(blocks * block)
}
