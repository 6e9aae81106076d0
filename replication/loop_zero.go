package replication

import (
	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/ublk/uring"
)

// zeroPiece bounds one write of zeroes, for devices that cannot zero by themselves.
const zeroPiece = 1 << 20

// zeroing is a way to make a range read zeroes, the best one first.
type zeroing uint8

const (
	chunks zeroing = iota // free whole chunks of a thin volume, write zeroes to the ragged ends
	punch                 // free the space
	ranged                // keep it
	write                 // write zeroes
)

// first is the best way to zero that is not known to be impossible.
func (f *ioFile) first(unmap bool) zeroing {
	switch {
	case unmap && f.chunk > 0:
		return chunks
	case unmap && !f.noPunch:
		return punch
	case !f.noZeroes:
		return ranged
	}
	return write
}

// zero is the next operation of a DiskZero.
func (d *disks) zero(op *diskOp) uring.Op {
	at, left := op.io.Off+op.done, op.io.Len-op.done
	op.whole = left
	switch op.how {
	case punch:
		return uring.Fallocate(op.to.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, left)
	case ranged:
		return uring.Fallocate(op.to.file, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, at, left)
	case chunks:
		var free bool
		if left, free = chunked(at, left, op.to.chunk); free {
			op.whole = left
			return uring.Discard(op.to.file, at, left)
		}
	}
	op.whole = 0
	return uring.Write(op.to.file, d.zeroes[:min(left, zeroPiece)], at)
}

// chunked is how much of a range comes next: the whole chunks that it begins with, which can be freed, or what comes before
// the next chunk.
func chunked(at, left, chunk int64) (n int64, free bool) {
	if ragged := at % chunk; ragged != 0 || left < chunk {
		return min(left, chunk-ragged), false
	}
	return left - left%chunk, true
}

// instead is the way to zero after one has failed: the next best if the device can never
// do it so; and to write zeroes if it did not want to this time.
func (op *diskOp) instead(errno unix.Errno) zeroing {
	if errno != unix.EOPNOTSUPP && errno != unix.EINVAL && errno != unix.ENOSYS {
		return write
	}
	switch op.how {
	case chunks:
		op.to.chunk = 0
	case punch:
		op.to.noPunch = true
	default:
		op.to.noZeroes = true
	}
	return op.to.first(op.io.Unmap)
}
