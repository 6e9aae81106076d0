package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// noted is an ELF file with nothing but a note.
func noted(owner string, kind uint32) []byte {
	note := binary.LittleEndian.AppendUint32(nil, uint32(len(owner)+1))
	note = binary.LittleEndian.AppendUint32(note, 4)
	note = binary.LittleEndian.AppendUint32(note, kind)
	note = append(append(note, owner+"\x00"...), 0, 0, 0, 1)
	head := make([]byte, 64+56)
	copy(head, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(head[16:], 2)  // an executable
	binary.LittleEndian.PutUint16(head[18:], 62) // x86-64
	binary.LittleEndian.PutUint32(head[20:], 1)
	binary.LittleEndian.PutUint64(head[32:], 64) // program headers
	for at, v := range map[int]uint16{52: 64, 54: 56, 56: 1, 58: 64} {
		binary.LittleEndian.PutUint16(head[at:], v)
	}
	binary.LittleEndian.PutUint32(head[64:], 4) // PT_NOTE
	binary.LittleEndian.PutUint64(head[64+8:], uint64(len(head)))
	binary.LittleEndian.PutUint64(head[64+32:], uint64(len(note)))
	return append(head, note...)
}

// bzImage packs a kernel as the kernel's build does, behind two sectors.
func bzImage(t *testing.T, vmlinux []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload := binary.LittleEndian.AppendUint32(z.EncodeAll(vmlinux, nil), uint32(len(vmlinux)))
	image := make([]byte, 1024+16)
	image[0x1f1] = 1
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint32(image[0x248:], 16)
	binary.LittleEndian.PutUint32(image[0x24c:], uint32(len(payload)))
	return append(image, append(payload, "behind it"...)...)
}

func TestKernelIsUnpacked(t *testing.T) {
	vmlinux := noted("Xen", physEntry)
	image := bzImage(t, vmlinux)
	if got, err := unpackBzImage(image); err != nil || !bytes.Equal(got, vmlinux) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	lies := bytes.Clone(image)
	binary.LittleEndian.PutUint32(lies[0x24c:], uint32(len(lies)))
	packedOtherwise := bytes.Clone(image)
	copy(packedOtherwise[1024+16:], "\xfd7zXZ\x00")
	short := bytes.Clone(image)
	binary.LittleEndian.PutUint32(short[len(short)-len("behind it")-4:], 10)
	for name, image := range map[string][]byte{
		"empty": nil, "no bzImage": make([]byte, 4096), "longer than the file": lies, "another compression": packedOtherwise, "another size": short,
		"no entry": bzImage(t, noted("Linux", physEntry)), "another note": bzImage(t, noted("Xen", 1)), "no ELF": bzImage(t, []byte("MZ")),
	} {
		if got, err := unpackBzImage(image); !errors.Is(err, errNotUnpackable) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
