package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// unpackKernel replaces the packed kernel of an image by one that was unpacked here, once: an emulated processor takes longer for that
// than for many a test. QEMU enters it as a Xen PVH guest. One that cannot be unpacked boots as it is. The caller holds the cache's lock.
func (img *Image) unpackKernel(log func(format string, args ...any)) error {
	info, err := os.Stat(img.vmlinuz)
	if err != nil {
		return err
	}
	cache, prefix := img.fetched.cache, "images/vmlinux-"+string(img.Kernel)+"-"
	name := prefix + shortHash(img.Release, info.ModTime().UTC().String(), fmt.Sprint(info.Size()))
	unpacked, err := cache.complete(name, func(tmp string) error {
		if err := cache.dropOld(prefix + "*"); err != nil {
			return err
		}
		packed, err := os.ReadFile(img.vmlinuz)
		if err != nil {
			return err
		}
		vmlinux, err := unpackBzImage(packed)
		if err != nil {
			return err
		}
		return os.WriteFile(tmp, vmlinux, 0o644)
	})
	if errors.Is(err, errNotUnpackable) {
		if log != nil {
			log("%s: %v: it unpacks itself at each boot", filepath.Base(img.vmlinuz), err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	img.vmlinuz = unpacked
	return cache.touch(unpacked)
}

// errNotUnpackable is the cause when a kernel is packed in a way that is not known here, or cannot be entered unpacked.
var errNotUnpackable = errors.New("the kernel cannot be unpacked")

// unpackBzImage returns the ELF file inside of a bzImage, whose header the kernel's Documentation/arch/x86/boot.rst describes.
func unpackBzImage(image []byte) ([]byte, error) {
	if len(image) < 0x250 || string(image[0x202:0x206]) != "HdrS" {
		return nil, fmt.Errorf("%w: it is no bzImage", errNotUnpackable)
	}
	setup := int64(image[0x1f1]) // sectors behind the first
	if setup == 0 {
		setup = 4
	}
	from := (setup+1)*512 + int64(binary.LittleEndian.Uint32(image[0x248:]))
	length := int64(binary.LittleEndian.Uint32(image[0x24c:]))
	if length < 8 || from+length > int64(len(image)) {
		return nil, fmt.Errorf("%w: its payload is %d bytes at %d of %d", errNotUnpackable, length, from, len(image))
	}
	payload := image[from:][:length]
	size := binary.LittleEndian.Uint32(payload[length-4:])
	r, err := zstd.NewReader(bytes.NewReader(payload[:length-4]), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20)) // as the kernel's own
	if err != nil {
		return nil, err
	}
	defer r.Close()
	vmlinux, err := io.ReadAll(io.LimitReader(r, int64(size)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotUnpackable, err)
	}
	if len(vmlinux) != int(size) {
		return nil, fmt.Errorf("%w: it holds %d bytes, and says %d", errNotUnpackable, len(vmlinux), size)
	}
	if !enteredAsPVH(vmlinux) {
		return nil, fmt.Errorf("%w: it has no PVH entry", errNotUnpackable)
	}
	return vmlinux, nil
}

// physEntry is the type of Xen's note that names the entry for PVH (XEN_ELFNOTE_PHYS32_ENTRY).
const physEntry = 18

// enteredAsPVH reports whether an ELF file has a note with the address at which a PVH guest begins.
func enteredAsPVH(file []byte) bool {
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return false
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		notes, err := io.ReadAll(p.Open())
		if err != nil {
			return false
		}
		for len(notes) >= 12 {
			name, desc, kind := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:]), binary.LittleEndian.Uint32(notes[8:])
			size := 12 + int64(name+3)&^3 + int64(desc+3)&^3
			if size > int64(len(notes)) {
				break
			}
			if kind == physEntry && bytes.HasPrefix(notes[12:], []byte("Xen\x00")) {
				return true
			}
			notes = notes[size:]
		}
	}
	return false
}
