package engine

import "strconv"

// Errno is a Linux error number, 0 for success.
type Errno int32

const (
	OK      Errno = 0
	EIO     Errno = 5
	EAGAIN  Errno = 11 // of a Request: it is no answer; to be submitted again, with other memory where this one is Held
	ENODEV  Errno = 19
	EINVAL  Errno = 22
	ENOSPC  Errno = 28
	EROFS   Errno = 30
	ENODATA Errno = 61 // of a read of data: the disk ends before that, and was longer
	ENOTSUP Errno = 95
)

var errnoWords = map[Errno]string{
	OK: "success", 1: "operation not permitted", EIO: "I/O error", EAGAIN: "try again", ENODEV: "no such device", EINVAL: "invalid argument", ENOSPC: "no space left on device",
	EROFS: "read-only file system", ENOTSUP: "operation not supported", ENODATA: "no data available", 84: "invalid block", 110: "timed out",
	121: "remote I/O error", 125: "cancelled",
}

// String says it in words, as the C library does.
func (e Errno) String() string {
	if s, ok := errnoWords[e]; ok {
		return s
	}
	return "errno " + strconv.Itoa(int(e))
}
