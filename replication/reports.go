package replication

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// What the engine reports goes into the log, and all of it can be caused by the peer. Beyond a rate
// the changes of a volume become one, from the first state to the last, that says how many it stands for; what is
// said beside them is counted, and the gravest of it is said. What becomes of this node's own role and disk, and every error, has a rate of its own, so that
// nothing else is in its way.
const (
	reportBurst = 100         // reports at once, and for each volume as many as a handshake takes:
	volumeBurst = 20          //
	reportPause = time.Second // between two reports after those
	reportStock = 800         // reports beyond the burst that come with that pause,
	longPause   = time.Minute // and that between two after those, for good
	maxReports  = 500         // that wait for a supervisor whose log is slow
)

// reports carries events from the loop, which must not wait, to the supervisor.
type reports struct {
	some chan struct{} // has an element when there is something to take

	mu     sync.Mutex
	all    []engine.Event  // at most maxReports, and one order of each kind and volume
	untold map[int]*untold // by volume, -1: the resource
	burst  int
	own    budget // of changes of the own role and disk, and of errors
	others budget
	at     time.Time // up to which both are filled
}

// A budget is a rate: tokens for a burst, and a stock for what comes after it for long.
type budget struct{ tokens, stock bucket }

// A bucket is filled by one in each pause.
type bucket struct {
	has, most float64
	pause     time.Duration
}

func newBudget(burst int) budget {
	stock := float64(burst + reportStock)
	return budget{bucket{float64(burst), float64(burst), reportPause}, bucket{stock, stock, longPause}}
}

func (b *bucket) fill(d time.Duration) { b.has = min(b.has+d.Seconds()/b.pause.Seconds(), b.most) }

// pays takes a token, if there is one.
func (b *budget) pays() bool {
	if b.tokens.has < 1 || b.stock.has < 1 {
		return false
	}
	b.tokens.has--
	b.stock.has--
	return true
}

// untold is what was left out about a volume since the last report about it.
type untold struct {
	from    *budget            // that pays for the report
	change  engine.StateChange // from the first state to the last one
	changes int
	notices int
	gravest engine.Notice // of these the last one of the highest level
	level   engine.Level  // the highest
}

func newReports(volumes int) *reports {
	n := reportBurst + volumes*volumeBurst
	return &reports{some: make(chan struct{}, 1), untold: map[int]*untold{}, burst: n, own: newBudget(n), others: newBudget(n)}
}

// put takes an event. It does not wait.
func (q *reports) put(ev engine.Event) {
	q.mu.Lock()
	q.add(time.Now(), ev)
	q.mu.Unlock()
	select {
	case q.some <- struct{}{}:
	default:
	}
}

func (q *reports) add(now time.Time, ev engine.Event) {
	q.fill(now)
	switch ev := ev.(type) {
	case engine.StateChange:
		from := q.payer(ev.From.Role != ev.To.Role || ev.From.Disk != ev.To.Disk)
		if u := q.untold[ev.Vol]; len(q.all) >= maxReports || q.owes(from, ev.Vol) || !from.pays() {
			q.leaveOut(ev.Vol, ev.Level, from).fold(ev)
		} else {
			if u != nil {
				q.tell(ev.Vol, u)
			}
			q.all = append(q.all, ev)
		}
	case engine.Notice:
		by := q.payer(ev.Level >= engine.Error)
		if len(q.all) >= maxReports || q.owes(by, ev.Vol) || !by.pays() {
			q.leaveOut(ev.Vol, ev.Level, by).count(ev)
		} else {
			q.all = append(q.all, ev)
		}
	case engine.ResizeDevice:
		q.replace(ev, func(old engine.Event) bool { o, ok := old.(engine.ResizeDevice); return ok && o.Vol == ev.Vol })
	case engine.RememberBlockSize:
		q.replace(ev, func(old engine.Event) bool { o, ok := old.(engine.RememberBlockSize); return ok && o.Vol == ev.Vol })
	}
	// StartDevice: the promotion that caused it starts all devices itself.
}

func (q *reports) payer(own bool) *budget {
	if own {
		return &q.own
	}
	return &q.others
}

// owes reports whether another volume waits for what a budget has next: one of which there is always news would take all of it.
func (q *reports) owes(from *budget, vol int) bool {
	for other, u := range q.untold {
		if other != vol && u.from == from {
			return true
		}
	}
	return false
}

// replace puts an order in the place of an older one of its kind.
func (q *reports) replace(ev engine.Event, same func(old engine.Event) bool) {
	if i := slices.IndexFunc(q.all, same); i >= 0 {
		q.all[i] = ev
		return
	}
	q.all = append(q.all, ev)
}

// fill brings the budgets up to date.
func (q *reports) fill(now time.Time) {
	if d := now.Sub(q.at); !q.at.IsZero() && d > 0 {
		for _, b := range []*bucket{&q.own.tokens, &q.own.stock, &q.others.tokens, &q.others.stock} {
			b.fill(d)
		}
	}
	q.at = now
}

func (q *reports) leaveOut(vol int, l engine.Level, from *budget) *untold {
	u := q.untold[vol]
	if u == nil {
		u = &untold{from: from}
		q.untold[vol] = u
	}
	if from == &q.own {
		u.from = from
	}
	u.level = max(u.level, l)
	return u
}

func (u *untold) fold(ev engine.StateChange) {
	if u.changes == 0 {
		u.change = ev
	}
	u.change.To = ev.To
	u.changes++
}

func (u *untold) count(n engine.Notice) {
	if u.notices++; u.notices == 1 || n.Level >= u.gravest.Level {
		u.gravest = n
	}
}

// tell reports what was left out about a volume.
func (q *reports) tell(vol int, u *untold) {
	delete(q.untold, vol)
	if u.changes > 0 {
		u.change.Level = u.level
		u.change.Cause = fmt.Sprintf("%d changes that came too fast to be reported one by one, the first: %s", u.changes, u.change.Cause)
		q.all = append(q.all, u.change)
	}
	if n := u.gravest; u.notices > 0 {
		if u.notices > 1 {
			n.Text = fmt.Sprintf("%d messages that came too fast were left out, the gravest of them: %s", u.notices, n.Text)
		}
		q.all = append(q.all, n)
	}
}

// take gives everything that is to be done or reported, and when to come again for what was left out, 0: there is
// nothing. Finally, all of it is reported.
func (q *reports) take(now time.Time, finally bool) (all []engine.Event, again time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill(now)
	gravestFirst := func(a, b int) int { return cmp.Compare(q.untold[b].level, q.untold[a].level) }
	for _, vol := range slices.SortedFunc(maps.Keys(q.untold), gravestFirst) {
		if u := q.untold[vol]; finally || u.from.pays() {
			q.tell(vol, u)
		}
	}
	if len(q.untold) > 0 {
		again = reportPause
	}
	all, q.all = q.all, nil
	return all, again
}
