package replication

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

func peerRole(role sm.Role) sm.State {
	return sm.State{Role: sm.Secondary, Peer: role, Conn: sm.Connected, Disk: sm.UpToDate, PeerDisk: sm.UpToDate}
}

// flicker is a peer that changes its role n times within a moment.
func flicker(q *reports, now time.Time, n int) {
	for i := range n {
		from, to := peerRole(sm.Secondary), peerRole(sm.Primary)
		if i%2 == 1 {
			from, to = to, from
		}
		q.add(now, engine.StateChange{From: from, To: to, Cause: "peer's state"})
	}
}

// TestReportsAreBounded: a million changes become a few lines, and the last one says how many it stands for, from where to where.
func TestReportsAreBounded(t *testing.T) {
	const many = 1000001
	q, now := newReports(1), time.Now()
	flicker(q, now, many)
	all, again := q.take(now, false)
	if len(all) != q.burst || again == 0 {
		t.Fatalf("%d reports at once, come again after %v", len(all), again)
	}
	if all, again = q.take(now.Add(again/2), false); len(all) != 0 || again == 0 {
		t.Fatalf("%d reports, come again after %v", len(all), again)
	}
	all, again = q.take(now.Add(2*reportPause), false)
	if len(all) != 1 || again != 0 {
		t.Fatalf("%d reports, come again after %v", len(all), again)
	}
	last, ok := all[0].(engine.StateChange)
	if !ok || last.To != peerRole(sm.Primary) || !strings.HasPrefix(last.Cause, fmt.Sprint(many-q.burst, " changes")) {
		t.Errorf("the last report is %+v", all[0])
	}
}

// TestReportsOfOneself: whatever the peer does, what becomes of the own role and disk is reported as it happens, after what was left out before it.
func TestReportsOfOneself(t *testing.T) {
	q, now := newReports(1), time.Now()
	flicker(q, now, 1000)
	q.take(now, false)
	flicker(q, now, 10)
	lost := peerRole(sm.Secondary)
	lost.Disk = sm.Failed
	q.add(now, engine.StateChange{From: peerRole(sm.Secondary), To: lost, Cause: "I/O error", Level: engine.Warn})
	all, _ := q.take(now, false)
	if len(all) != 2 || all[1].(engine.StateChange).To != lost {
		t.Errorf("reported: %+v", all)
	}
}

// TestReportsOfOneselfAreBounded: a peer can change the state of the own disk, too, and for hours.
func TestReportsOfOneselfAreBounded(t *testing.T) {
	const hours = 3
	q, now, told := newReports(1), time.Now(), 0
	good, bad := peerRole(sm.Primary), peerRole(sm.Primary)
	bad.Disk = sm.Outdated
	changes := 0
	for range hours * 3600 {
		for range 20 {
			q.add(now, engine.StateChange{From: good, To: bad, Cause: "peer's state"})
			good, bad = bad, good
		}
		now = now.Add(time.Second)
		all, _ := q.take(now, false)
		for _, ev := range all {
			n := 1
			fmt.Sscanf(ev.(engine.StateChange).Cause, "%d changes", &n)
			changes += n
		}
		told += len(all)
	}
	if most := 2 * (q.burst + reportStock + q.burst + hours*60); told > most { // what was left out is told before a change that is not
		t.Errorf("%d reports in %d hours", told, hours)
	}
	if all, _ := q.take(now, true); len(all) == 1 {
		n := 0
		fmt.Sscanf(all[0].(engine.StateChange).Cause, "%d changes", &n)
		changes += n
	}
	if changes != hours*3600*20 {
		t.Errorf("%d changes are told", changes)
	}
}

// TestReportsWithoutReader: nothing grows while the log is not read, and the end says what was left out.
func TestReportsWithoutReader(t *testing.T) {
	q, now := newReports(1), time.Now()
	for i := range 100000 {
		now = now.Add(reportPause)
		flicker(q, now, 2)
		q.add(now, engine.Notice{Vol: -1, Level: engine.Error, Text: "something"})
		q.add(now, engine.ResizeDevice{Size: int64(i)})
	}
	if len(q.all) > maxReports+1 {
		t.Errorf("%d events wait", len(q.all))
	}
	all, _ := q.take(now, true)
	var told, left int
	for _, ev := range all {
		switch ev := ev.(type) {
		case engine.Notice:
			var n int
			if _, err := fmt.Sscanf(ev.Text, "%d messages", &n); err == nil {
				left += n
			} else {
				told++
			}
		case engine.ResizeDevice:
			if ev.Size != 99999 {
				t.Errorf("the device gets the size %d", ev.Size)
			}
		}
	}
	if told+left != 100000 {
		t.Errorf("%d messages were reported, and %d left out", told, left)
	}
}

// TestReportsOfErrors: an error is said at once, whatever the peer has done for how long; if it had this node change its own state, too, within a minute.
func TestReportsOfErrors(t *testing.T) {
	for _, own := range []bool{false, true} {
		q, now := newReports(1), time.Now()
		for range 30 * 60 {
			flicker(q, now, 2)
			if own {
				to := peerRole(sm.Secondary)
				to.Disk = sm.Inconsistent
				q.add(now, engine.StateChange{From: peerRole(sm.Secondary), To: to})
			}
			q.take(now, false)
			now = now.Add(time.Second)
		}
		for _, n := range []engine.Notice{{Text: "something else"}, {Level: engine.Error, Text: "no space left on device"}, {Text: "something else"}} {
			q.add(now, n)
		}
		said := false
		for end := now.Add(longPause + reportPause); !said && !now.After(end); now = now.Add(time.Second) {
			flicker(q, now, 2)
			all, _ := q.take(now, false)
			for _, ev := range all {
				n, is := ev.(engine.Notice)
				said = said || is && n.Level == engine.Error && strings.Contains(n.Text, "no space left on device")
			}
			if !own && !said {
				t.Fatalf("%v", all)
			}
		}
		if !said {
			t.Errorf("own %v: the error was never said", own)
		}
	}
}

// TestReportsOfErrorsAmongVolumes: what becomes of one volume of this node keeps no error of another one out of the log for more than a minute.
func TestReportsOfErrorsAmongVolumes(t *testing.T) {
	q, now := newReports(2), time.Now()
	spoiled := peerRole(sm.Secondary)
	spoiled.Disk = sm.Inconsistent
	said := false
	look := func() {
		all, _ := q.take(now, false)
		for _, ev := range all {
			n, is := ev.(engine.Notice)
			said = said || is && strings.Contains(n.Text, "no space left on device")
		}
	}
	second := func() {
		for range 10 {
			now = now.Add(time.Second / 10)
			q.add(now, engine.StateChange{Vol: 1, Level: engine.Warn, From: peerRole(sm.Secondary), To: spoiled})
		}
		look()
	}
	for range 30 * 60 {
		second()
	}
	q.add(now, engine.Notice{Level: engine.Error, Text: "no space left on device"})
	for range 61 {
		second()
	}
	if !said {
		t.Error("the error was not said within a minute")
	}
}
