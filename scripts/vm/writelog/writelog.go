// Package writelog reads what the device mapper's target log-writes has noted of a disk: every write in the order in which it was
// completed, with the FLUSHes between them and the marks that a test has set. From it come the states in which a power cut could
// have left the disk.
//
//	log:    superblock | entry, data | entry, data | mark | ...       a sector each, and the data
//	replay: durable  = everything before the last FLUSH, and what was written with FUA
//	        volatile = what was written since; a cut loses any part of it
//
// Source: the kernel's Documentation/admin-guide/device-mapper/log-writes.rst.
package writelog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	magic   = 0x6a736677736872
	version = 1
)

// Flags of an entry.
const (
	Flush    = 1 << iota // what was completed before it is durable
	FUA                  // it is durable itself
	Discard              // reads zeroes afterwards
	Mark                 // set by hand: Name
	Metadata             // of a file system
)

// An Entry is something that happened to the disk.
type Entry struct {
	Off, Len int64 // bytes; both 0 of a FLUSH or a mark
	Flags    uint64
	Name     string // of a mark
	data     int64  // where it is in the log, bytes
}

// Is reports whether the entry has a flag.
func (e Entry) Is(flag uint64) bool { return e.Flags&flag != 0 }

// A Log is one that was read.
type Log struct {
	Entries []Entry
	from    io.ReaderAt
}

// maxEntry bounds one write, in bytes: more is a log that was not understood.
const maxEntry = 64 << 20

// Read reads a log. It ends where the last superblock says, or where its disk does.
func Read(from io.ReaderAt) (*Log, error) {
	head := make([]byte, 512)
	if _, err := from.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint64(head) != magic || le.Uint64(head[8:]) != version {
		return nil, errors.New("log: this is not a log of log-writes")
	}
	count, sector := le.Uint64(head[16:]), int64(le.Uint32(head[24:]))
	if sector < 512 || sector > 4096 {
		return nil, fmt.Errorf("log: sectors of %d bytes", sector)
	}
	l := &Log{from: from}
	at := sector
	for i := range count {
		e, next, err := readEntry(from, at, sector)
		if err != nil {
			return nil, fmt.Errorf("log: entry %d of %d: %w", i, count, err)
		}
		l.Entries = append(l.Entries, e)
		at = next
	}
	return l, nil
}

// readEntry reads one at an offset and returns where the next one is.
func readEntry(from io.ReaderAt, at, sector int64) (Entry, int64, error) {
	b := make([]byte, sector)
	if _, err := from.ReadAt(b, at); err != nil {
		return Entry{}, 0, err
	}
	le := binary.LittleEndian
	start, sectors, flags, length := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	e := Entry{Off: int64(start) * sector, Len: int64(sectors) * sector, Flags: flags, data: at + sector}
	next := at + sector
	switch {
	case e.Is(Mark):
		name := b[32:]
		if length > uint64(len(name)) {
			return Entry{}, 0, fmt.Errorf("a mark of %d bytes", length)
		}
		e.Name = string(bytes.TrimRight(name[:length], "\x00"))
	case start > 1<<50 || sectors > 1<<40 || !e.Is(Discard) && e.Len > maxEntry:
		return Entry{}, 0, fmt.Errorf("%d sectors at %d", sectors, start)
	case !e.Is(Discard):
		next += e.Len
	}
	return e, next, nil
}

// Apply does to a disk what the entry did.
func (l *Log) Apply(disk []byte, e Entry) error {
	if e.Off < 0 || e.Len < 0 || e.Off > int64(len(disk))-e.Len {
		return fmt.Errorf("log: %d bytes at %d of a disk of %d", e.Len, e.Off, len(disk))
	}
	if e.Is(Discard) {
		clear(disk[e.Off : e.Off+e.Len])
		return nil
	}
	if e.Len == 0 {
		return nil
	}
	_, err := l.from.ReadAt(disk[e.Off:e.Off+e.Len], e.data)
	return err
}
