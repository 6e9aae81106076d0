package replication

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// What the engine reports goes into the log, and most of it can be caused by the peer. Beyond a rate
// the changes of a volume become one, from the first state to the last, that says how many it stands for; what is
// said beside them is counted. What becomes of this node's own role and disk is always reported as it happens.
const (
	reportBurst = 100         // reports at once, and for each volume as many as a handshake takes:
	volumeBurst = 20          //
	reportPause = time.Second // between two reports for long
	maxReports  = 500         // that wait for a supervisor whose log is slow; beyond, nothing is exempt
)

// reports carries events from the loop, which must not wait, to the supervisor.
type reports struct {
	some chan struct{} // has an element when there is something to take

	mu     sync.Mutex
	all    []engine.Event  // at most maxReports, and one order of each kind and volume
	untold map[int]*untold // by volume, -1: the resource
	burst  int
	tokens float64
	at     time.Time // up to which tokens are counted
}

// untold is what was left out about a volume since the last report about it.
type untold struct {
	change  engine.StateChange // from the first state to the last one
	changes int
	notices int
	level   engine.Level // the highest
}

func newReports(volumes int) *reports {
	n := reportBurst + volumes*volumeBurst
	return &reports{some: make(chan struct{}, 1), untold: map[int]*untold{}, burst: n, tokens: float64(n)}
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
	switch ev := ev.(type) {
	case engine.StateChange:
		own := ev.From.Role != ev.To.Role || ev.From.Disk != ev.To.Disk
		if u := q.untold[ev.Vol]; !q.pays(now, 1) && !own || len(q.all) >= maxReports {
			q.leaveOut(ev.Vol, ev.Level).fold(ev)
		} else {
			if u != nil {
				q.tell(ev.Vol, u)
			}
			q.all = append(q.all, ev)
		}
	case engine.Notice:
		if !q.pays(now, 1) || len(q.all) >= maxReports {
			q.leaveOut(ev.Vol, ev.Level).notices++
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

// replace puts an order in the place of an older one of its kind.
func (q *reports) replace(ev engine.Event, same func(old engine.Event) bool) {
	if i := slices.IndexFunc(q.all, same); i >= 0 {
		q.all[i] = ev
		return
	}
	q.all = append(q.all, ev)
}

// pays takes n tokens, if they are there.
func (q *reports) pays(now time.Time, n float64) bool {
	if !q.at.IsZero() {
		q.tokens = min(q.tokens+now.Sub(q.at).Seconds()/reportPause.Seconds(), float64(q.burst))
	}
	q.at = now
	if q.tokens < n {
		return false
	}
	q.tokens -= n
	return true
}

func (q *reports) leaveOut(vol int, l engine.Level) *untold {
	u := q.untold[vol]
	if u == nil {
		u = &untold{}
		q.untold[vol] = u
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

// tell reports what was left out about a volume.
func (q *reports) tell(vol int, u *untold) {
	delete(q.untold, vol)
	if u.changes > 0 {
		u.change.Level = u.level
		u.change.Cause = fmt.Sprintf("%d changes that came too fast to be reported one by one, the first: %s", u.changes, u.change.Cause)
		q.all = append(q.all, u.change)
	}
	if u.notices > 0 {
		q.all = append(q.all, engine.Notice{Vol: vol, Level: u.level, Text: fmt.Sprintf("%d messages that came too fast were left out", u.notices)})
	}
}

// take gives everything that is to be done or reported, and when to come again for what was left out, 0: there is
// nothing. Finally, all of it is reported.
func (q *reports) take(now time.Time, finally bool) (all []engine.Event, again time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for vol, u := range q.untold {
		if finally || q.pays(now, 1) {
			q.tell(vol, u)
		}
	}
	if len(q.untold) > 0 {
		again = reportPause
	}
	all, q.all = q.all, nil
	return all, again
}
