// Package volatile is a disk with a cache that forgets: what was written and
// not flushed is lost, kept or torn when the power is cut, as with a real disk.
// It lies in a file and is served over the NBD protocol on a Unix socket, so a
// virtual machine can use it.
//
//	write --> cache (512-byte sectors) --flush, FUA, cache full--> file
//	read  <-- cache, then file
//	cut:      each sector of the cache goes to the file or is forgotten
//
// Trimmed and zeroed ranges go to the file at once, which a disk may do at any time.
// The host's own memory is not part of the game: what the file has, stays.
package volatile

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// SectorSize is the unit in which a cut loses data, in bytes.
const SectorSize = 512

// cacheLimit is how many sectors the cache holds before it is written back: 32 MiB.
const cacheLimit = 32 << 20 / SectorSize

// A Disk is one disk. Its methods may be called from any goroutine. Offsets and
// lengths are in bytes and multiples of SectorSize.
type Disk struct {
	mu    sync.Mutex
	file  *os.File
	size  int64
	cache map[int64]*[SectorSize]byte // by sector number
	rand  *rand.Rand
}

// Open opens the file as a disk. The seed decides what cuts lose.
func Open(path string, seed uint64) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size()%SectorSize != 0 {
		f.Close()
		return nil, fmt.Errorf("%s: not a regular file of whole sectors", path)
	}
	return &Disk{file: f, size: info.Size(), cache: map[int64]*[SectorSize]byte{}, rand: rand.New(rand.NewPCG(seed, 0))}, nil
}

// Size is in bytes.
func (d *Disk) Size() int64 { return d.size }

// check panics: the server has checked what came from outside.
func (d *Disk) check(off, n int64) {
	if off < 0 || n < 0 || off > d.size-n || off%SectorSize != 0 || n%SectorSize != 0 {
		panic(fmt.Sprintf("volatile: range %d+%d on a disk of %d", off, n, d.size))
	}
}

// Read fills p with what was last written, flushed or not.
func (d *Disk) Read(p []byte, off int64) error {
	d.check(off, int64(len(p)))
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.file.ReadAt(p, off); err != nil {
		return err
	}
	for done := 0; len(d.cache) > 0 && done < len(p); done += SectorSize {
		if s := d.cache[(off+int64(done))/SectorSize]; s != nil {
			copy(p[done:], s[:])
		}
	}
	return nil
}

// Write puts p into the cache.
func (d *Disk) Write(p []byte, off int64) error {
	d.check(off, int64(len(p)))
	d.mu.Lock()
	defer d.mu.Unlock()
	for done := 0; done < len(p); done += SectorSize {
		s := new([SectorSize]byte)
		copy(s[:], p[done:])
		d.cache[(off+int64(done))/SectorSize] = s
	}
	if len(d.cache) > cacheLimit {
		return d.writeBack()
	}
	return nil
}

// WriteFUA writes p past the cache.
func (d *Disk) WriteFUA(p []byte, off int64) error {
	d.check(off, int64(len(p)))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(off, int64(len(p)))
	_, err := d.file.WriteAt(p, off)
	return err
}

// Zero makes a range read as zeroes, without using space for it.
func (d *Disk) Zero(off, n int64) error {
	d.check(off, n)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(off, n)
	if n == 0 {
		return nil
	}
	return unix.Fallocate(int(d.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// Flush makes everything written so far survive a cut.
func (d *Disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writeBack()
}

// Cut is the loss of power. Of the sectors in the cache, all, half, a tenth or
// none are lost. It returns how many were lost and how many happened to survive.
func (d *Disk) Cut() (lost, kept int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	odds := []float64{1, 0.5, 0.1, 0}[d.rand.IntN(4)]
	for sector := range d.cache {
		if d.rand.Float64() < odds {
			delete(d.cache, sector)
			lost++
		}
	}
	kept = len(d.cache)
	return lost, kept, d.writeBack()
}

// Close flushes and closes the file.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.writeBack()
	if cerr := d.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// writeBack empties the cache into the file. d.mu is held.
func (d *Disk) writeBack() error {
	for sector, data := range d.cache {
		if _, err := d.file.WriteAt(data[:], sector*SectorSize); err != nil {
			return err
		}
		delete(d.cache, sector)
	}
	return nil
}

// forget drops a range from the cache. d.mu is held.
func (d *Disk) forget(off, n int64) {
	first, end := off/SectorSize, (off+n)/SectorSize
	if end-first < int64(len(d.cache)) {
		for s := first; s < end; s++ {
			delete(d.cache, s)
		}
		return
	}
	for s := range d.cache {
		if s >= first && s < end {
			delete(d.cache, s)
		}
	}
}
