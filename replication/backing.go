package replication

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
)

// indexedMeta is what one index takes of an indexed metadata device, in bytes (docs/drbd-metadata.md 2.1).
const indexedMeta = 128 << 20

// maxBlock is the largest logical block size that metadata of blocks of 4096 bytes can be written to.
const maxBlock = 4096

// backing is the opened backing store of one volume: the data and the
// metadata, which are one file for internal metadata. Nobody else can open
// them for writing the same way until it is closed, and the kernel still holds
// them while I/O of a dead owner is in flight.
type backing struct {
	data, meta *store
}

// openBacking opens what v names. The errors are sentences with the next step;
// a *BusyError when somebody has it.
func openBacking(v *config.Volume) (*backing, error) {
	data, err := openStore(v.Disk, whole)
	if err != nil {
		return nil, fmt.Errorf("disk of volume %d: %w", v.Number, err)
	}
	data.discards = findDiscards(data, v.Options.DiscardZeroesIfAligned)
	if v.MetaDisk.Internal {
		return &backing{data, data}, nil
	}
	meta, err := openStore(v.MetaDisk.Device, share(v.MetaDisk))
	if err != nil {
		data.close()
		return nil, fmt.Errorf("meta-disk of volume %d: %w", v.Number, err)
	}
	return &backing{data, meta}, nil
}

func (b *backing) close() {
	if b.meta != b.data {
		b.meta.close()
	}
	b.data.close()
}

// kind is the layout of the metadata of v.
func kind(v *config.Volume) (metadata.Kind, int) {
	switch {
	case v.MetaDisk.Internal:
		return metadata.Internal, 0
	case v.MetaDisk.Index >= 0:
		return metadata.ExternalIndexed, v.MetaDisk.Index
	}
	return metadata.ExternalFlexible, 0
}

// A part is the part of a file that is taken exclusively, in bytes; size 0 is the whole file.
type part struct{ off, size int64 }

var whole = part{}

// share is what a volume takes of its metadata device: one index, or everything.
func share(m config.MetaDisk) part {
	if m.Index < 0 {
		return whole
	}
	return part{int64(m.Index) * indexedMeta, indexedMeta}
}

// store is one opened block device or regular file.
type store struct {
	path   string
	fd     int
	size   int64 // bytes, a multiple of block
	block  int   // logical block size in bytes, 512 to 4096
	device bool  // block device
	flush  bool  // has a volatile cache: what was written needs a flush to be durable
	direct bool  // bypasses the page cache

	discards discards
}

// openStore opens path for direct I/O and takes p of it. The exclusive claim of a block device
// and the lock of a file both belong to the open file: they last until
// the last I/O in flight on it has ended, even when the process has died before.
func openStore(path string, p part) (*store, error) {
	s, err := findStore(path)
	if err != nil {
		return nil, err
	}
	if err := s.open(p); err != nil {
		return nil, err
	}
	if err := s.measure(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// findStore looks what path is before it is opened: opening a pipe waits for its other end.
func findStore(path string) (*store, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s does not exist: correct the configuration, or create it (a file: truncate -s SIZE %s)", path, path)
	case err != nil:
		return nil, err
	}
	s := &store{path: path, fd: -1, device: st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0}
	if !s.device && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is %s; a block device or a regular file is needed", path, describe(st.Mode()))
	}
	return s, nil
}

func describe(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeCharDevice != 0:
		return "a character device"
	case m&os.ModeNamedPipe != 0:
		return "a named pipe"
	case m&os.ModeSocket != 0:
		return "a socket"
	}
	return "no file"
}

func (s *store) open(p part) error {
	flags := unix.O_RDWR | unix.O_CLOEXEC | unix.O_DIRECT
	if s.device {
		if err := s.claimable(flags); err != nil {
			return err
		}
		if p == whole {
			flags |= unix.O_EXCL
		}
	}
	fd, err := retryOpen(s.path, flags)
	s.direct = err == nil
	if err == unix.EINVAL && !s.device { // a file system without direct I/O
		fd, err = retryOpen(s.path, flags&^unix.O_DIRECT)
	}
	if err != nil {
		return s.openError(err)
	}
	if s.device && readOnly(fd) {
		unix.Close(fd)
		return fmt.Errorf("%s is read-only: blockdev --setrw %[1]s makes it writable, where what is below it is", s.path)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: p.off, Len: p.size}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock); err != nil {
		unix.Close(fd)
		if err == unix.EAGAIN || err == unix.EACCES {
			return &BusyError{s.path, holderOf(s.path)}
		}
		return fmt.Errorf("lock %s: %w", s.path, err)
	}
	s.fd = fd
	return nil
}

// claimable makes sure that nobody outside has claimed a block device that we are to share by index: a mount, a
// volume group, the kernel's DRBD.
func (s *store) claimable(flags int) error {
	fd, err := retryOpen(s.path, flags|unix.O_EXCL)
	if err != nil {
		return s.openError(err)
	}
	return unix.Close(fd)
}

func retryOpen(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (s *store) openError(err error) error {
	switch err {
	case unix.EBUSY:
		return &BusyError{s.path, holderOf(s.path)}
	case unix.EACCES, unix.EPERM:
		return fmt.Errorf("%s cannot be opened: %w", s.path, err)
	case unix.EROFS:
		return fmt.Errorf("%s is read-only: %w", s.path, err)
	case unix.ENXIO, unix.ENOMEDIUM, unix.ENODEV:
		return fmt.Errorf("%s has no device behind it: %w", s.path, err)
	}
	return fmt.Errorf("open %s: %w", s.path, err)
}

// measure finds size, block size and cache.
func (s *store) measure() error {
	if s.device {
		return s.measureDevice()
	}
	var st unix.Statx_t
	if err := unix.Statx(s.fd, "", unix.AT_EMPTY_PATH, unix.STATX_SIZE|unix.STATX_DIOALIGN, &st); err != nil {
		return fmt.Errorf("size of %s: %w", s.path, err)
	}
	s.block, s.flush = 512, true
	if s.direct && st.Mask&unix.STATX_DIOALIGN != 0 && st.Dio_offset_align > 512 {
		s.block = int(st.Dio_offset_align)
	}
	return s.round(int64(st.Size))
}

func (s *store) measureDevice() error {
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return fmt.Errorf("size of %s: %w", s.path, err)
	}
	size, err := ioctlSize(s.fd)
	if err != nil {
		return fmt.Errorf("size of %s: %w", s.path, err)
	}
	if s.block, err = unix.IoctlGetInt(s.fd, unix.BLKSSZGET); err != nil {
		return fmt.Errorf("block size of %s: %w", s.path, err)
	}
	s.flush = volatileCache(st.Rdev)
	return s.round(size)
}

func (s *store) round(size int64) error {
	if s.block > maxBlock {
		return fmt.Errorf("%s has logical blocks of %d bytes; at most %d are supported", s.path, s.block, maxBlock)
	}
	s.size = size / int64(s.block) * int64(s.block)
	if s.size == 0 {
		return fmt.Errorf("%s is empty", s.path)
	}
	return nil
}

func (s *store) close() { unix.Close(s.fd) }
