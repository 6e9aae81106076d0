// Package records is what a test writes to a device so that it can tell later, sector by sector, what became of it.
//
// A few workers write blocks, each one at a time and in places of its own, and number their writes. Every sector says whose
// write it is:
//
//	worker 0: write 1, 2, 3, ...   blocks 0, n, 2n, ...
//	worker 1: write 1, 2, 3, ...   blocks 1, n+1, ...
//	                               |
//	sector: magic, worker, seed, number of the write, block, index in the block, checksum
//
// Which block a write goes to follows from its number, so two numbers a worker, told while it runs, say what must be on the
// device: the last write that was answered, and the last one before a FLUSH that was answered ([Progress]). A block then holds, in
// each of its sectors, the last of those writes to it, or a later one.
package records

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Sizes in bytes.
const (
	SectorSize = 512
	BlockSize  = 4096
)

const (
	magic      = 0x75726265
	headerSize = 40
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Plan says where writes go.
type Plan struct {
	Seed       uint64
	Workers    int
	Blocks     int64 // of the area; the workers share them
	Sequential bool  // one block after the other, and not at random
}

// Block is where a worker's write goes. Writes count from 1.
func (p Plan) Block(worker int, write uint64) int64 {
	own := uint64(p.Blocks) / uint64(p.Workers)
	at := write % own
	if !p.Sequential {
		at = mix(p.Seed^uint64(worker)<<56^write) % own
	}
	return int64(at)*int64(p.Workers) + int64(worker)
}

// mix is the finaliser of splitmix64: every bit of x decides on every bit of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Fill makes the block of a write.
func (p Plan) Fill(dst []byte, worker int, write uint64) {
	block := p.Block(worker, write)
	x := mix(p.Seed ^ write)
	for i := range BlockSize / SectorSize {
		s := dst[i*SectorSize : (i+1)*SectorSize]
		for off := headerSize; off < SectorSize; off += 8 {
			binary.LittleEndian.PutUint64(s[off:], x)
			x += 0x9e3779b97f4a7c15
		}
		head{magic, uint32(worker), p.Seed, write, uint64(block), uint32(i)}.put(s)
	}
}

// head is what a sector says of itself, and its checksum, little-endian.
type head struct {
	magic, worker uint32
	seed          uint64
	write, block  uint64
	index         uint32
}

func (h head) put(s []byte) {
	le := binary.LittleEndian
	le.PutUint32(s[0:], h.magic)
	le.PutUint32(s[4:], h.worker)
	le.PutUint64(s[8:], h.seed)
	le.PutUint64(s[16:], h.write)
	le.PutUint64(s[24:], h.block)
	le.PutUint32(s[32:], h.index)
	le.PutUint32(s[36:], checksum(s))
}

func checksum(s []byte) uint32 {
	sum := crc32.Update(0, castagnoli, s[:36])
	return crc32.Update(sum, castagnoli, s[headerSize:])
}

// read takes a sector apart. The write is 0 where nothing was ever written: a sector of zeroes.
func (p Plan) read(s []byte, block int64, index int) (write uint64, err error) {
	le := binary.LittleEndian
	if le.Uint32(s) == 0 && allZero(s) {
		return 0, nil
	}
	h := head{le.Uint32(s[0:]), le.Uint32(s[4:]), le.Uint64(s[8:]), le.Uint64(s[16:]), le.Uint64(s[24:]), le.Uint32(s[32:])}
	switch {
	case h.magic != magic || le.Uint32(s[36:]) != checksum(s):
		return 0, fmt.Errorf("holds no record, but % x", s[:16])
	case h.seed != p.Seed:
		return 0, fmt.Errorf("holds a record of another run, seed %d", h.seed)
	case h.block != uint64(block) || h.index != uint32(index):
		return 0, fmt.Errorf("holds what belongs to block %d, sector %d", h.block, h.index)
	case int64(h.worker) != block%int64(p.Workers) || p.Block(int(h.worker), h.write) != block:
		return 0, fmt.Errorf("holds write %d of worker %d, which does not go there", h.write, h.worker)
	}
	return h.write, nil
}

func allZero(s []byte) bool {
	for _, b := range s {
		if b != 0 {
			return false
		}
	}
	return true
}
