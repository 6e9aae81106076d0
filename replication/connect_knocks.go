package replication

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Bounds of what those who connect can make us remember and log.
const (
	maxKnockers  = 64               // addresses remembered
	maxKnocks    = 8                // of them in a status
	knockMemory  = 10 * time.Minute // a stranger that has been quiet for so long is not worth a line of the status
	complainLess = 1 * time.Minute  // between two log lines about the same address that say the same
	complainMore = 10 * time.Second // between two that do not
)

// A Knock is what somebody does wrong who connects and does not get in.
type Knock struct {
	From   netip.Addr
	Reason string
	Since  time.Time // of the first one, with no other reason in between
	Last   time.Time
	Count  int64 // from Since to Last
}

// knocks is who knocks: what those who connect do wrong, until the peer and this node have agreed. It is for status and
// log, and all that a stranger can change. Addresses, reasons (which are ours) and log lines are bounded. It is safe from
// any goroutine.
type knocks struct {
	log   *slog.Logger
	peer  netip.Addr
	fresh func() // there is something new to see; may be nil

	mu    sync.Mutex
	known map[netip.Addr]*knocker
}

type knocker struct {
	Knock
	saidAt time.Time // the last log line
	said   string    // what it said
}

// knock remembers a knock, and logs it unless that was done a moment ago. args are for the log only.
func (k *knocks) knock(from netip.Addr, reason string, args ...any) {
	k.note(from, reason, func(n *knocker, now time.Time) bool {
		quiet := now.Sub(n.saidAt)
		return n.saidAt.IsZero() || quiet >= complainLess || n.said != reason && quiet >= complainMore
	}, args)
}

// remember is knock without a line in the log, for what happens in ordinary life, too.
func (k *knocks) remember(from netip.Addr, reason string) {
	k.note(from, reason, func(*knocker, time.Time) bool { return false }, nil)
}

func (k *knocks) note(from netip.Addr, reason string, worthALine func(*knocker, time.Time) bool, args []any) {
	now := time.Now()
	k.mu.Lock()
	n := k.of(from, now)
	if n == nil {
		k.mu.Unlock()
		return
	}
	if n.Reason != reason {
		n.Reason, n.Since, n.Count = reason, now, 0
	}
	first := n.Count == 0
	n.Last = now
	n.Count++
	say, count := worthALine(n, now), n.Count
	if say {
		n.saidAt, n.said = now, reason
	}
	k.mu.Unlock()
	if say {
		k.log.Warn(reason, append(args, "from", from.String(), "times", count)...)
	}
	if (first || say) && k.fresh != nil {
		k.fresh()
	}
}

// of finds the entry of an address, or makes one. The peer always has room; a flood from ever new addresses has none.
func (k *knocks) of(from netip.Addr, now time.Time) *knocker {
	if n := k.known[from]; n != nil {
		return n
	}
	if from != k.peer && len(k.known) >= maxKnockers {
		for a, n := range k.known {
			if a != k.peer && now.Sub(n.Last) >= complainLess {
				delete(k.known, a)
			}
		}
		if len(k.known) >= maxKnockers {
			return nil
		}
	}
	if k.known == nil {
		k.known = make(map[netip.Addr]*knocker)
	}
	n := &knocker{Knock: Knock{From: from}}
	k.known[from] = n
	return n
}

// welcome forgets what the peer did wrong: both have agreed.
func (k *knocks) welcome() {
	k.mu.Lock()
	delete(k.known, k.peer)
	k.mu.Unlock()
}

// list is what a status shows: the peer first, then the strangers that came last.
func (k *knocks) list() []Knock {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]Knock, 0, len(k.known))
	for a, n := range k.known {
		if a == k.peer || now.Sub(n.Last) < knockMemory {
			out = append(out, n.Knock)
		}
	}
	slices.SortFunc(out, func(a, b Knock) int {
		if (a.From == k.peer) != (b.From == k.peer) {
			if a.From == k.peer {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Last.Compare(a.Last), a.From.Compare(b.From))
	})
	return out[:min(len(out), maxKnocks)]
}
