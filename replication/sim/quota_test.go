package sim

import "fmt"

// quota is how often each kind has to happen in 300 seeds of 3000 events, whichever they are: about a third of what it is on average, less
// for what comes in bursts. A kind that is not here has to happen once.
var quota = map[Fault]int{
	BothPowerLoss: 20, CachedDataLost: 40, LateNotice: 35, PingTimeout: 40, Cut: 60, BytesLost: 80,
	DiskErrorRead: 3, DiskErrorWrite: 30, DiskErrorFlush: 8, MetaError: 50,
	RingDamaged: 50, RingDistrusted: 10, RingUnreadable: 25, BothDisksFailed: 12, DiskReplaced: 15, BlocksRefused: 1, BlocksDiffer: 40,
	SizeConfigured: 80, SizeChanged: 100, SizeShrunk: 10,
	DiskHung: 15, DiskAbandoned: 4, ReadMoved: 1,
	Promoted: 300, Demoted: 70, LeftOutdated: 4, FailedOver: 40, Disconnected: 130, Detached: 70, Attached: 100,
	Invalidated: 2, InvalidatedPeer: 2, Paused: 250, Restarted: 70, SplitBrain: 4, SplitBrainEnded: 1,
	ResyncDone: 400, FullResync: 35, ResyncCut: 100, LogTurnover: 1500, LogReplayed: 160, ReadRemote: 50,
	RequestLost: 60, UsersOutlived: 60, UsersServed: 40, UsersRefused: 7, Reissued: 50,
	HalfOpen: 50, HeldOn: 130, SlowResyncCut: 60, SlowResyncError: 4, PingDeaf: 12,
	Ambiguous: 0, SplitByLie: 0, SplitUnheard: 0, PardonPowerLoss: 0, PardonFailover: 0, PardonDiskLost: 0, PardonBothLost: 0, PardonSplit: 0, PartedAtEnd: 4, ReceiveStalled: 1,
}

// ordinary is the number of events that the quota is for.
const ordinary = 300 * 3000

// short lists the kinds that happened less often than they have to in a number of events. Less than half of the ordinary number says nothing.
func short(c *Counts, events int) (short []string) {
	if 2*events < ordinary {
		return nil
	}
	for i, n := range c {
		least, listed := quota[Fault(i)]
		if !listed {
			least = 1
		}
		if events < ordinary {
			least = least * events / ordinary
		}
		if n < least {
			short = append(short, fmt.Sprintf("%v: %d of %d", Fault(i), n, least))
		}
	}
	return short
}
