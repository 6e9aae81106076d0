package engine

import "time"

// Config is what an Engine is made from. Random must be given; everything else
// has the option's default when zero (docs/drbd-metadata.md 9.1).
type Config struct {
	Resource string
	Volumes  []VolumeConfig
	Net      NetOptions

	// Buffers is page-aligned memory for the payloads of the peer: received
	// blocks, blocks read for it, metadata pages. At least MinBuffers bytes and
	// VolumeBuffers for each volume.
	Buffers []byte

	// Random returns 64 random bits: new generation identifiers. The
	// simulator gives a seeded source.
	Random func() uint64
}

// Least sizes of Config.Buffers in bytes: what the volumes share, and what belongs to each.
const (
	MinBuffers    = 8 << 20
	VolumeBuffers = metaMemory + largestBlock + 2*reserveSize
)

// Protocol is DRBD's replication protocol, with its wire value.
type Protocol uint8

const (
	ProtocolA Protocol = 1 // done when the peer's copy is handed to TCP
	ProtocolB Protocol = 2 // done when the peer has received it
	ProtocolC Protocol = 3 // done when the peer has written it
)

// NetOptions are the options of the connection.
type NetOptions struct {
	Protocol     Protocol
	Timeout      time.Duration // of one send, 6 s
	KOCount      int           // timeouts until the peer is given up, 7; negative: never
	PingInterval time.Duration // 10 s
	PingTimeout  time.Duration // 0.5 s
	MaxEpochSize int           // writes, 2048
	MaxBuffers   int           // pages of 4096 bytes in use for the peer, 2048
	NoRLE        bool          // send the bitmap plain
	VerifyAlg    string        // announced to the peer
}

// VolumeConfig names one volume and its disk options.
type VolumeConfig struct {
	Number int
	Disk   DiskOptions
	Meta   MetaPlacement
	Users  Users // that a daemon before this one has left behind: see Users.Adopted
}

// MetaPlacement says where the metadata of a volume is.
type MetaPlacement struct {
	External bool // on a device of its own
	Index    int  // ≥ 0: indexed; -1: flexible; only with External
}

// DiskOptions are the options of a backing store.
type DiskOptions struct {
	Size        int64         // bytes wanted, 0 = all
	ALExtents   int           // slots of the activity log, 1237
	ResyncRate  int64         // bytes per second when PlanAhead is 0; announced
	PlanAhead   time.Duration // 2 s; negative: 0, the fixed rate
	DelayTarget time.Duration // 1 s
	FillTarget  int64         // bytes in flight of a resync, 50 KiB; raised by what the link carries; negative: 0
	MaxRate     int64         // bytes per second, 100 MiB
	MinRate     int64         // bytes per second that a resync keeps while the application works, 250 KiB; negative: it does not yield
	Timeout     time.Duration // that one I/O of the disk may take until it is given up; 0: for ever
	NoFlush     bool          // disk-flushes no
	NoMetaFlush bool          // md-flushes no
}

func (o *NetOptions) defaults() {
	setDefault(&o.Protocol, ProtocolC)
	setDefault(&o.Timeout, 6*time.Second)
	setDefault(&o.KOCount, 7)
	setDefault(&o.PingInterval, 10*time.Second)
	setDefault(&o.PingTimeout, 500*time.Millisecond)
	setDefault(&o.MaxEpochSize, 2048)
	setDefault(&o.MaxBuffers, 2048)
}

func (o *DiskOptions) defaults() {
	setDefault(&o.ALExtents, 1237)
	setDefault(&o.ResyncRate, 250<<10)
	setDefault(&o.PlanAhead, 2*time.Second)
	setDefault(&o.DelayTarget, time.Second)
	setDefault(&o.FillTarget, 100*512)
	setDefault(&o.MaxRate, 100<<20)
	setDefault(&o.MinRate, 250<<10)
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Link is what is known of a connection when both its sockets are up and the
// peers have agreed on features and secrets.
type Link struct {
	ResolveConflicts bool   // this node accepted the meta connection (wire 4.5)
	Features         uint32 // agreed feature bits (wire 5)
}

// Features is what this implementation announces: TRIM, THIN_RESYNC, WSAME, WZEROES.
const Features uint32 = 0xF

// Trouble says why a connection ended (wire 15.4).
type Trouble uint8

const (
	NetworkFailure Trouble = iota // the link went away, or the meta socket failed
	BrokenPipe                    // the data socket failed or ended
	Timeout                       // a send took too long
	ProtocolError                 // the peer sent something that it must not
)
