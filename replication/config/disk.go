package config

import "time"

// OnIOError says what a failing backing disk leads to.
type OnIOError string

// Fencing is the policy about a peer that went away.
type Fencing string

// ReadBalancing chooses the side that answers reads.
type ReadBalancing string

// OnNoData says what I/O without any UpToDate disk in reach gets.
type OnNoData string

// The values that urbd serves; the others are rows of the option table.
const (
	Detach          OnIOError     = "detach"
	FencingDontCare Fencing       = "dont-care"
	PreferLocal     ReadBalancing = "prefer-local"
	OnNoDataIOError OnNoData      = "io-error"
)

// Disk is the section disk { } of a volume. Two Disks are equal (==) if they mean the same.
// The zero value is not usable; see DefaultDisk. Source: docs/drbd-metadata.md 9.1.
type Disk struct {
	Size        int64 // bytes, 0..1 PiB: use only that much; 0 = all
	MaxBioBVecs int   // 0..128
	OnIOError   OnIOError
	Fencing     Fencing

	DiskBarrier bool
	DiskFlushes bool
	DiskDrain   bool
	MDFlushes   bool // flush after metadata writes

	ResyncRate   int64         // bytes per second, 1 KiB..4 GiB; the fixed rate if CPlanAhead is 0
	ResyncAfter  string        // RES or RES/VOL that resyncs first, "" = none
	CPlanAhead   time.Duration // 0..30 s; 0 = no controller
	CDelayTarget time.Duration // 0.1..10 s
	CFillTarget  int64         // bytes, 0..512 MiB, in flight; 0 = steer by CDelayTarget
	CMaxRate     int64         // bytes per second, 250 KiB..4 GiB
	CMinRate     int64         // bytes per second, 0..4 GiB; 0 = no throttling for the application

	ALExtents int // 67..65534 hot extents of 4 MiB
	ALUpdates bool

	DiscardZeroesIfAligned bool
	DisableWriteSame       bool
	DiskTimeout            time.Duration // 0..600 s; 0 = off
	ReadBalancing          ReadBalancing
	RSDiscardGranularity   int64 // bytes, 0..1 MiB; 0 = off
}

// DefaultDisk is the disk section of a volume that says nothing about it.
func DefaultDisk() Disk { return defaults().Disk }
