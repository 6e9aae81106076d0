package replication

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/ublk/uring"
)

const offlineBuffer = 1 << 20 // bytes of aligned memory for one piece of I/O

// offline is the metadata of a volume that no daemon has. Its I/O waits.
type offline struct {
	*backing
	mem []byte // page aligned
}

func openOffline(v *config.Volume) (*offline, error) {
	b, err := openBacking(v)
	if err != nil {
		return nil, err
	}
	return wrap(b)
}

// openReadOnly opens without taking anything.
func openReadOnly(v *config.Volume) (*offline, error) {
	data, err := peekStore(v.Disk)
	if err != nil {
		return nil, err
	}
	b := &backing{data, data}
	if !v.MetaDisk.Internal {
		if b.meta, err = peekStore(v.MetaDisk.Device); err != nil {
			data.close()
			return nil, err
		}
	}
	return wrap(b)
}

func wrap(b *backing) (*offline, error) {
	mem, err := uring.MapMemory(offlineBuffer)
	if err != nil {
		b.close()
		return nil, err
	}
	return &offline{b, mem}, nil
}

func (o *offline) close() {
	uring.UnmapMemory(o.mem)
	o.backing.close()
}

// peekStore opens path for reading, whoever else has it.
func peekStore(path string) (*store, error) {
	s, err := findStore(path)
	if err != nil {
		return nil, err
	}
	s.fd, err = retryOpen(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_DIRECT)
	if err == unix.EINVAL {
		s.fd, err = retryOpen(path, unix.O_RDONLY|unix.O_CLOEXEC)
	}
	if err != nil {
		return nil, s.openError(err)
	}
	if err := s.measure(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// find reads the superblock at the one place where it counts.
func (o *offline) find(v *config.Volume) (at int64, sb metadata.Superblock, err error) {
	k, index := kind(v)
	if at, err = metadata.Locate(k, index, o.data.size, o.meta.size); err == nil {
		sb, err = o.superblock(at)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", o.meta.path, err)
	}
	return at, sb, err
}

// load also checks that the superblock fits the device.
func (o *offline) load(v *config.Volume) (sb metadata.Superblock, l metadata.Layout, err error) {
	if _, sb, err = o.find(v); err != nil {
		return sb, l, err
	}
	k, index := kind(v)
	if l, err = metadata.Place(k, index, o.data.size, o.meta.size, sb.Stripes); err == nil {
		err = sb.Check(l)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", o.meta.path, err)
	}
	return sb, l, err
}

func (o *offline) superblock(at int64) (metadata.Superblock, error) {
	b, err := o.read(at, metadata.BlockSize)
	if err != nil {
		return metadata.Superblock{}, err
	}
	return metadata.DecodeSuperblock(b)
}

// read gives n bytes of the metadata device in memory of its own.
func (o *offline) read(off, n int64) ([]byte, error) {
	return o.readFrom(o.meta, off, n)
}

func (o *offline) readFrom(s *store, off, n int64) ([]byte, error) {
	out := make([]byte, 0, n)
	for int64(len(out)) < n {
		piece := o.mem[:min(n-int64(len(out)), offlineBuffer)]
		if err := whole64(unix.Pread, s.fd, piece, off+int64(len(out))); err != nil {
			return nil, fmt.Errorf("read %s at %d: %w", s.path, off, err)
		}
		out = append(out, piece...)
	}
	return out, nil
}

// put carries out one write on the metadata device. Zeroes are left to the device if it can make them.
func (o *offline) put(w metadata.Write) error {
	if w.Data == nil {
		mode := uint32(unix.FALLOC_FL_PUNCH_HOLE) // a file stays sparse
		if o.meta.device {
			mode = unix.FALLOC_FL_ZERO_RANGE
		}
		if w.Len > metadata.BlockSize && unix.Fallocate(o.meta.fd, mode|unix.FALLOC_FL_KEEP_SIZE, w.Off, w.Len) == nil {
			return nil
		}
	}
	for done := int64(0); done < w.Len; {
		piece := o.mem[:min(w.Len-done, offlineBuffer)]
		if w.Data == nil {
			clear(piece)
		} else {
			copy(piece, w.Data[done:])
		}
		if err := whole64(unix.Pwrite, o.meta.fd, piece, w.Off+done); err != nil {
			return fmt.Errorf("write %s at %d: %w", o.meta.path, w.Off+done, err)
		}
		done += int64(len(piece))
	}
	return nil
}

// whole64 repeats a read or write until everything is done.
func whole64(f func(int, []byte, int64) (int, error), fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := f(fd, p, off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (o *offline) flush() error {
	if err := unix.Fsync(o.meta.fd); err != nil {
		return fmt.Errorf("flush %s: %w", o.meta.path, err)
	}
	return nil
}
