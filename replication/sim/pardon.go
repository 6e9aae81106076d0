package sim

import (
	"strings"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// A pardon is given for content that is older than what the application was told. Each has one reason, and all but the first only after the daemon
// has said to people what may be missing, or that a disk is lost. They are counted where nothing else explains what is there.
//
//	PardonPowerLoss   not flushed, and the power was lost
//	PardonFailover    protocols A and B: the former Primary has died, and the peer, promoted without it, may not have had it all
//	PardonSplit       the same, for the other side of a split brain on purpose
//	PardonDiskLost    protocols A and B: on the own disk, which was lost while the peer was out of reach, or had lost its own as well
//	PardonBothLost    protocols A and B: on the own disk, which was lost; the peer, which serves now, has lost power
//
// No pardon is the zero value, which is a fault that gives none.
const unpardoned = Fault(0)

// pardoned counts a pardon that was needed.
func (v *volume) pardoned(by Fault) {
	if by != unpardoned {
		v.s.counts[by]++
	}
}

// told is what people were told of the data of a volume by a node.
type told struct {
	lost  bool // the own disk is lost, and was not good since
	lacks bool // it was promoted, and may lack what was written on its peer; they were not in sync since
}

// tells takes note of what a node tells people.
func (n *node) tells(i int, ev engine.Event) {
	t := &n.people[i]
	switch ev := ev.(type) {
	case engine.StateChange:
		t.lost = (t.lost || ev.Level >= engine.Warn && ev.From.Disk == sm.UpToDate) && ev.To.Disk != sm.UpToDate
	case engine.Notice:
		t.lacks = t.lacks || strings.Contains(ev.Text, "what was written there last may be missing here")
		t.lost = t.lost || ev.Level == engine.Error && (strings.Contains(ev.Text, "the disk has failed") || strings.Contains(ev.Text, "the disk is given up"))
	}
}

// excuse gives a pardon for what a disk has that is taken for the truth, unless there was one before: what a power loss has taken is not
// missing for another reason.
func (v *volume) excuse(n *node, has, by Fault) {
	switch {
	case has != unpardoned:
		v.pardoned(has)
	case by == PardonFailover || by == PardonSplit:
		v.lacking(n, by)
	default:
		v.pardoned(by)
	}
}

// lacking gives a pardon for what a node lacks that was promoted without its peer, of which people have to know. It cannot tell them if it was made to
// believe that the peer's disk was bad: then nothing was answered because of that one.
func (v *volume) lacking(n *node, by Fault) {
	if !n.people[v.index].lacks && !n.fooled[v.index] {
		v.s.fail("%s: volume %d: something that was answered is missing, and nobody was told that it may be", n.name, v.number)
	}
	v.pardoned(by)
}
