package ublk

import (
	"fmt"
	"log/slog"
	"math/bits"
	"os"

	"github.com/urbd/urbd/ublk/internal/uapi"
)

// AnyID lets the driver choose the number of a device.
const AnyID = -1

// Config describes a device. Sizes are bytes; a zero is replaced by what the comment says.
type Config struct {
	ID     int // N of /dev/ublkbN, or AnyID
	Queues int // hardware queues; 1. The driver uses at most one per CPU
	Depth  int // requests in flight per queue, 1..4096; 64
	MaxIO  int // largest request, a multiple of the page, at most 32 MiB; 512 KiB

	Geometry

	Mode     Mode
	Recovery Recovery
	Spare    int    // ModeCopy: buffers per queue beyond Depth, for Request.Keep; made when they are needed
	Owner    uint64 // kept by the driver with the device; finds it again in List

	NoPartitionScan bool // do not look for a partition table, where the kernel can be told (FeatureNoPartitionScan)

	Logger *slog.Logger // nil discards
}

// Geometry is what the block layer is told about the disk.
type Geometry struct {
	Size          int64 // a multiple of LogicalBlock; 0 means that Resize comes before Start
	LogicalBlock  int   // unit of addressing, 512..page; 512
	PhysicalBlock int   // unit written without reading first; LogicalBlock
	MinIO         int   // preferred smallest request, a power of two; PhysicalBlock
	OptimalIO     int   // preferred request, a power of two; MinIO
	Boundary      int   // requests never cross a multiple of it; 0 means none

	Volatile   bool // there is a cache that needs flushing: FLUSH requests arrive
	FUA        bool // writes with FUA arrive; needs Volatile. Without it they arrive as a write and a flush
	ReadOnly   bool
	Rotational bool

	DiscardUnit    int   // granularity of discards; PhysicalBlock
	MaxDiscard     int64 // largest discard; 0 means that discards are not supported
	MaxWriteZeroes int64 // largest write-zeroes; 0 means that the block layer writes zeroes itself
}

// Limits of the driver and of the arithmetic around it.
const (
	maxIO      = uapi.MaxUserCopy
	maxPool    = 1 << 30 // bytes of one registered buffer
	maxDiscard = (1<<32 - 1) >> uapi.SectorShift << uapi.SectorShift
)

func pageSize() int { return os.Getpagesize() }

// complete replaces zeros and refuses what the driver would refuse, or would silently change.
func (c *Config) complete() error {
	def(&c.Queues, 1)
	def(&c.Depth, 64)
	def(&c.MaxIO, 512<<10)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	page := pageSize()
	switch {
	case c.ID < AnyID || c.ID > 1<<20:
		return fmt.Errorf("device number %d is out of range", c.ID)
	case c.Queues < 1 || c.Queues > uapi.MaxQueues:
		return fmt.Errorf("%d queues; 1 to %d are possible", c.Queues, uapi.MaxQueues)
	case c.Depth < 1 || c.Depth > uapi.MaxDepth:
		return fmt.Errorf("queue depth %d; 1 to %d are possible", c.Depth, uapi.MaxDepth)
	case c.MaxIO%page != 0 || c.MaxIO < page || c.MaxIO > maxIO:
		return fmt.Errorf("requests of %d bytes; multiples of %d up to %d are possible", c.MaxIO, page, maxIO)
	case c.Spare < 0 || c.Mode == ModeCopy && int64(c.Depth+c.Spare)*int64(c.MaxIO) > maxPool:
		return fmt.Errorf("%d buffers of %d bytes per queue; at most %d bytes are possible", c.Depth+c.Spare, c.MaxIO, maxPool)
	case c.Mode > ModeZeroCopy:
		return fmt.Errorf("unknown mode %v", c.Mode)
	case c.Recovery > RecoverFail:
		return fmt.Errorf("unknown recovery %v", c.Recovery)
	}
	return c.Geometry.complete(page)
}

func def(p *int, v int) {
	if *p == 0 {
		*p = v
	}
}

func power(n int) bool { return n > 0 && n&(n-1) == 0 }

func (g *Geometry) complete(page int) error {
	def(&g.LogicalBlock, 512)
	def(&g.PhysicalBlock, g.LogicalBlock)
	def(&g.MinIO, g.PhysicalBlock)
	def(&g.OptimalIO, g.MinIO) // the driver has no word for none
	def(&g.DiscardUnit, g.PhysicalBlock)
	block := int64(g.LogicalBlock)
	switch {
	case !power(g.LogicalBlock) || g.LogicalBlock < 512 || g.LogicalBlock > page:
		return fmt.Errorf("logical block of %d bytes; powers of two from 512 to %d are possible", g.LogicalBlock, page)
	case !power(g.PhysicalBlock) || g.PhysicalBlock < g.LogicalBlock || g.PhysicalBlock > 1<<28:
		return fmt.Errorf("physical block of %d bytes is no power of two at or above the logical block", g.PhysicalBlock)
	case !power(g.MinIO) || g.MinIO < g.LogicalBlock || !power(g.OptimalIO):
		return fmt.Errorf("preferred sizes %d and %d are no powers of two", g.MinIO, g.OptimalIO)
	case g.Size < 0 || g.Size%block != 0:
		return fmt.Errorf("size %d is no multiple of the logical block of %d bytes", g.Size, block)
	case g.Boundary < 0 || g.Boundary%page != 0:
		return fmt.Errorf("boundary %d is no multiple of %d", g.Boundary, page)
	case g.FUA && !g.Volatile:
		return fmt.Errorf("FUA without a volatile cache: the kernel would ignore it")
	case g.DiscardUnit < g.LogicalBlock || int64(g.DiscardUnit)%block != 0:
		return fmt.Errorf("discard unit of %d bytes is no multiple of the logical block", g.DiscardUnit)
	case g.MaxDiscard < 0 || g.MaxDiscard > 0 && g.MaxDiscard < int64(g.DiscardUnit) || g.MaxWriteZeroes < 0:
		return fmt.Errorf("largest discard of %d and write-zeroes of %d bytes are impossible", g.MaxDiscard, g.MaxWriteZeroes)
	}
	// Larger values overflow 32 bits inside kernels before 6.11.
	limit := int64(maxDiscard) / block * block
	g.MaxDiscard = min(g.MaxDiscard, limit) / block * block
	g.MaxWriteZeroes = min(g.MaxWriteZeroes, limit) / block * block
	return nil
}

func sectors(n int64) uint32 { return uint32(n >> uapi.SectorShift) }

func shift(n int) uint8 { return uint8(bits.TrailingZeros32(uint32(n))) }

// params is the driver's form of a completed configuration.
func (c *Config) params() uapi.Params {
	p := uapi.Params{Types: uapi.ParamBasic}
	p.Len = paramsLen
	p.Basic = uapi.Basic{
		LogicalShift: shift(c.LogicalBlock), PhysicalShift: shift(c.PhysicalBlock), IOMinShift: shift(c.MinIO),
		IOOptShift: shift(c.OptimalIO),
		MaxSectors: sectors(int64(c.MaxIO)), ChunkSectors: sectors(int64(c.Boundary)),
		DevSectors: uint64(c.Size) >> uapi.SectorShift,
	}
	for _, a := range []struct {
		on  bool
		bit uint32
	}{{c.ReadOnly, uapi.AttrReadOnly}, {c.Rotational, uapi.AttrRotational}, {c.Volatile, uapi.AttrVolatileCache}, {c.FUA, uapi.AttrFUA}} {
		if a.on {
			p.Basic.Attrs |= a.bit
		}
	}
	if c.MaxDiscard > 0 || c.MaxWriteZeroes > 0 {
		p.Types |= uapi.ParamDiscard
		p.Discard = uapi.Discard{
			Granularity: uint32(c.DiscardUnit), MaxSectors: sectors(c.MaxDiscard),
			MaxWriteZeroesSector: sectors(c.MaxWriteZeroes), MaxSegments: 1,
		}
	}
	return p
}

// geometryOf is the reverse of params, for a device found.
func geometryOf(p *uapi.Params) Geometry {
	b, attr := &p.Basic, func(bit uint32) bool { return p.Basic.Attrs&bit != 0 }
	g := Geometry{
		Size: int64(b.DevSectors) << uapi.SectorShift, LogicalBlock: 1 << b.LogicalShift, PhysicalBlock: 1 << b.PhysicalShift,
		MinIO: 1 << b.IOMinShift, OptimalIO: 1 << b.IOOptShift, Boundary: int(b.ChunkSectors) << uapi.SectorShift,
		Volatile: attr(uapi.AttrVolatileCache), FUA: attr(uapi.AttrFUA),
		ReadOnly: attr(uapi.AttrReadOnly), Rotational: attr(uapi.AttrRotational), DiscardUnit: 1 << b.PhysicalShift,
	}
	if p.Types&uapi.ParamDiscard != 0 {
		g.DiscardUnit = int(p.Discard.Granularity)
		g.MaxDiscard = int64(p.Discard.MaxSectors) << uapi.SectorShift
		g.MaxWriteZeroes = int64(p.Discard.MaxWriteZeroesSector) << uapi.SectorShift
	}
	return g
}
