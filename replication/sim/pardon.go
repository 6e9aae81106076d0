package sim

import (
	"strings"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// A pardon is given for content that is older than what the application was told. Each has one reason, and the last three only after the daemon
// has said to people that a disk is lost, or out of reach. They are counted where nothing else explains what is there.
//
//	PardonPowerLoss   not flushed, and the power was lost
//	PardonFailover    protocols A and B: the former Primary has died, and the peer may not have had it all
//	PardonHalfway     the same, and a promotion was carried out and not answered
//	PardonSplit       the same, for the other side of a split brain on purpose
//	PardonDiskLost    protocols A and B: on the own disk, which was lost while the peer was out of reach
//	PardonBothLost    protocols A and B: on the own disk, which was lost; the peer, which serves now, has lost power
//	PardonNoDisk      protocols A and B: the only good disk was the peer's, which is out of reach
//
// No pardon is the zero value, which is a fault that gives none.
const unpardoned = Fault(0)

// pardoned counts a pardon that was needed.
func (v *volume) pardoned(by Fault) {
	if by != unpardoned {
		v.s.counts[by]++
	}
}

// told is what people were told of the disks of a volume by a node, since they were good last.
type told struct {
	lost bool // the own one is lost
	away bool // the peer's is lost, or out of reach
}

// tells takes note of what a node tells people.
func (n *node) tells(i int, ev engine.Event) {
	t := &n.people[i]
	switch ev := ev.(type) {
	case engine.StateChange:
		t.lost = (t.lost || ev.Level >= engine.Warn && ev.From.Disk == sm.UpToDate) && ev.To.Disk != sm.UpToDate
		t.away = (t.away || ev.Level >= engine.Warn && ev.From.PeerDisk == sm.UpToDate) && ev.To.PeerDisk != sm.UpToDate
	case engine.Notice:
		t.lost = t.lost || ev.Level == engine.Error && (strings.Contains(ev.Text, "the disk has failed") || strings.Contains(ev.Text, "the disk is given up"))
	}
}
