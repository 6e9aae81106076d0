package config

const (
	noFencing   = "fencing is not served yet"
	noHandlers  = "handlers are not run yet"
	noOrder     = "ordering the resync of several resources is not served yet"
	noALUpdates = "urbd always keeps the activity log: without it a crash needs a full resync"
	noBalancing = "reads are always answered by the local disk while it is UpToDate"
	noSame      = "urbd never sends write-same requests"
	noGranule   = "resync does not send discards yet"
	noBVecs     = "urbd sizes its disk requests by what the disk can take"
	noBarrier   = "urbd orders by flushes, see disk-flushes"
	noDrain     = "urbd never drains: a write waits for an earlier one of its range, and only a FLUSH orders the others"
	noControl   = "there is no controller: a resync goes at c-max-rate and yields to the application; the peer is only told"
)

var (
	ioErrors  = []string{"detach", "pass_on", "call-local-io-error"}
	fencings  = []string{"dont-care", "resource-only", "resource-and-stonith"}
	balancing = []string{"prefer-local", "prefer-remote", "round-robin", "least-pending", "when-congested-remote",
		"32K-striping", "64K-striping", "128K-striping", "256K-striping", "512K-striping", "1M-striping"}
)

// diskOptions are the rows of disk { }. Source: docs/drbd-metadata.md 9.1.
var diskOptions = []Option{
	number("size", sectors, 0, 2199023255552, 0, served, func(s *settings) any { return &s.Disk.Size }),
	number("max-bio-bvecs", count, 0, 128, 0, warn(noBVecs), func(s *settings) any { return &s.Disk.MaxBioBVecs }),
	word("on-io-error", ioErrors, refuse("only detach is served"), func(s *settings) any { return &s.Disk.OnIOError }),
	word("fencing", fencings, refuse(noFencing), func(s *settings) any { return &s.Disk.Fencing }),
	flag("disk-barrier", false, warn(noBarrier, "no"), func(s *settings) any { return &s.Disk.DiskBarrier }),
	flag("disk-flushes", true, served, func(s *settings) any { return &s.Disk.DiskFlushes }),
	flag("disk-drain", true, warn(noDrain, "yes"), func(s *settings) any { return &s.Disk.DiskDrain }),
	flag("md-flushes", true, served, func(s *settings) any { return &s.Disk.MDFlushes }),
	number("resync-rate", kbytes, 1, 4194304, 250, served, func(s *settings) any { return &s.Disk.ResyncRate }),
	text("resync-after", maxText, refuse(noOrder), func(s *settings) any { return &s.Disk.ResyncAfter }),
	clamped(number("al-extents", extents, 67, 65534, 1237, served, func(s *settings) any { return &s.Disk.ALExtents })),
	flag("al-updates", true, refuse(noALUpdates), func(s *settings) any { return &s.Disk.ALUpdates }),
	flag("discard-zeroes-if-aligned", true, served, func(s *settings) any { return &s.Disk.DiscardZeroesIfAligned }),
	flag("disable-write-same", false, warn(noSame, "no"), func(s *settings) any { return &s.Disk.DisableWriteSame }),
	number("c-plan-ahead", tenths, 0, 300, 20, warn(noControl, "0"), func(s *settings) any { return &s.Disk.CPlanAhead }),
	number("c-delay-target", tenths, 1, 100, 10, warn(noControl), func(s *settings) any { return &s.Disk.CDelayTarget }),
	number("c-fill-target", sectors, 0, 1048576, 100, served, func(s *settings) any { return &s.Disk.CFillTarget }),
	number("c-max-rate", kbytes, 250, 4194304, 102400, served, func(s *settings) any { return &s.Disk.CMaxRate }),
	number("c-min-rate", kbytes, 0, 4194304, 250, served, func(s *settings) any { return &s.Disk.CMinRate }),
	number("disk-timeout", tenths, 0, 6000, 0, served, func(s *settings) any { return &s.Disk.DiskTimeout }),
	word("read-balancing", balancing, warn(noBalancing, "prefer-local"), func(s *settings) any { return &s.Disk.ReadBalancing }),
	number("rs-discard-granularity", bytes, 0, 1048576, 0, warn(noGranule, "0"), func(s *settings) any { return &s.Disk.RSDiscardGranularity }),
	legacy("use-bmbv"),
	legacy("delay-probe-volume"),
	legacy("delay-probe-interval"),
	legacy("throttle-threshold"),
	legacy("hold-off-threshold"),
}
