package sim

import (
	"fmt"
	"strings"
)

// Fault is something that a run has to have happened in it, somewhere in the
// seeds: a kind that never fires is a hole in the simulation.
type Fault int

// The kinds.
const (
	PowerLoss Fault = iota
	DaemonCrash
	BothPowerLoss
	CachedDataLost  // a power loss met finished writes that were not durable
	FlightTorn      // a power loss met writes in flight
	FlightOutlived  // an I/O ended after its daemon
	Cut             // connection lost at once
	BytesLost       // with bytes on their way
	Stall           // link carries nothing for a while
	OneWay          // nothing gets to one of the nodes for a while
	LateNotice      // the nodes noticed a cut at different times
	PingTimeout     // a dead peer was found out by a ping
	DiskErrorRead   //
	DiskErrorWrite  //
	DiskErrorFlush  //
	MetaError       //
	RingDamaged     // an activity log was damaged while no daemon had it
	RingDistrusted  // and every block was marked because of that
	RingUnreadable  // or it could not be read, and the disk was refused
	BothDisksFailed // at once or one after the other
	DiskReplaced    // by a new one
	BlocksRefused   // a disk whose blocks are too large for the data
	BlocksDiffer    // a resync between disks with different blocks
	SizeConfigured  // a device smaller than its disks was promoted
	SizeShrunk      // both came with a smaller one than their data had
	SizeChanged     // a daemon came with another size in its configuration
	Ambiguous       // the run ended because no node could say which data is newer
	SplitUnheard    // or because a disk came back below a Primary, whose peer had gone on unheard
	SplitByLie      // or because nodes that were lied to about a change of state, or about a disk or its data, have parted
	PardonPowerLoss // these: see pardon.go
	PardonFailover
	PardonSplit
	PardonDiskLost
	PardonBothLost
	Storm           // several troubles at once
	Rescued         // a disk with data was taken for good, after a lie had left no good one
	DiskHung        // a disk did not answer for a while
	DiskAbandoned   // what was in flight there was given up
	ReadMoved       // of that, a read that went to the peer with other memory
	Promoted        //
	Demoted         //
	Refused         // a command was refused
	Forbidden       // one that has to be
	LeftOutdated    // a node left in order, and the disk that a Primary writes without says that it is old
	FailedOver      // promotion without the former Primary
	Disconnected    //
	Reconnected     //
	Detached        //
	Attached        // again
	Invalidated     //
	InvalidatedPeer //
	Paused          //
	Restarted       // down and up in order
	SplitBrain      //
	PartedAtEnd     // in the moment when the source of a resync has missed its end
	SplitBrainEnded // by discard-my-data
	ResyncDone      //
	FullResync      //
	ResyncCut       // a resync ended by losing the connection
	LogTurnover     // the activity log evicted extents
	LogReplayed     // a crashed Primary's extents were marked
	ReadRemote      // a read that the peer served
	ReadChecked     //
	FlushAnswered   //
	FUAAnswered     //
	ZeroAnswered    //
	RequestLost     // in flight in a crash
	UsersOutlived   // a daemon died under users of its device
	UsersServed     // and the next one gave them back their data
	UsersRefused    // or errors
	Reissued        // a request that two daemons were given
	RequestFailed   // EIO, for want of data
	ReceivedInPlace // PayloadSpace
	ReceiveStalled  // no buffer for a block
	EndedIdentical  // disks equal at the end
	ProcessStalled  // a daemon got no processor for a while
	ClocksApart     // a connection between clocks that do not go alike
	OptionsApart    // a connection between nodes that are configured differently
	HalfOpen        // a connection ended for one side only
	HeldOn          // a node looked for its peer, which held an earlier connection
	SlowResyncCut   // a resync with a low c-max-rate lost the connection
	SlowResyncError // or had a disk error
	PingDeaf        // a partition in one direction was found out by a ping
	PacketBroken    // a header that is none came
	PacketTwice     // a packet came twice
	PacketReplayed  // an older one came again
	PacketCutShort  // a stream ended within one
	PacketForeign   // one came that nobody has sent
	PacketMutated   // one came with another body
	LieFound        // of these, one that has to be found out was
	LieNotFound     // one with which the connection went on
	HeardOneWay     // and let through what came the other way
	faults
)

var faultNames = [faults]string{
	"power loss", "daemon crash", "power loss of both", "cached data lost", "flight torn", "flight outlived its daemon",
	"cut", "bytes lost", "stall", "one-way partition", "late notice", "ping timeout", "read error", "write error", "flush error", "metadata error",
	"activity log damaged", "activity log distrusted", "activity log unreadable", "both disks failed", "disk replaced", "larger blocks refused",
	"resync between block sizes", "size configured", "size shrunk", "size changed", "ended ambiguous", "ended unheard", "ended by a lie",
	"pardoned: power loss", "pardoned: failover", "pardoned: split brain", "pardoned: disk lost", "pardoned: both lost",
	"storm", "disk rescued", "disk hung", "disk abandoned", "read moved",
	"promoted", "demoted", "refused", "forbidden and refused", "left as Outdated", "failed over", "disconnected", "reconnected", "detached", "attached again",
	"invalidated", "invalidated the peer", "paused", "restarted", "split brain", "parted at the end of a resync", "split brain ended", "resync done",
	"full resync", "resync cut", "log turnover", "log replayed", "read remotely", "sectors read and checked", "flush answered",
	"FUA answered", "zeroes answered", "request lost", "users outlived their daemon", "users served again", "users refused", "request issued again", "request failed", "received in place", "receive stalled", "ended identical",
	"daemon stalled", "clocks apart", "options apart", "half open", "old connection held on", "slow resync cut", "disk error in a slow resync", "partition found by a ping", "packet broken", "packet twice", "packet replayed", "packet cut short", "packet forged", "packet mutated", "lie found out", "lie not found out", "heard the other way",
}

func (f Fault) String() string { return faultNames[f] }

// Counts is how often each kind happened.
type Counts [faults]int

// Add adds what another run counted.
func (c *Counts) Add(o Counts) {
	for i := range c {
		c[i] += o[i]
	}
}

// String is a table, one kind to a line.
func (c *Counts) String() string {
	var b strings.Builder
	for i, n := range c {
		fmt.Fprintf(&b, "%28s %9d\n", Fault(i), n)
	}
	return b.String()
}
