package engine

import (
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// A down that comes while a disconnect is under way joins it, and answers for itself: what that leave lacks, the down lacks as well, unless it is forced,
// which promises nothing and waits for nobody.
func TestDownJoinsADisconnect(t *testing.T) {
	unheard := LeaveError{Why: "the connection ended before the peer had agreed"}
	unwritten := LeaveError{Why: "the metadata of volume 0 could not be written"}
	for name, c := range map[string]struct {
		who       func(p *pair) *node
		meanwhile func(p *pair)
		then      func(p *pair) // when both are under way; nil: nothing
		force     bool
		within    time.Duration
		want      *LeaveError // of the disconnect,
		down      *LeaveError // and of the down
	}{
		"no answer":             {secondary, deaf, nil, false, unansweredLimit + time.Minute, &unheard, &unheard},
		"no answer, forced":     {secondary, deaf, nil, true, time.Second, &unheard, nil},
		"the peer's disk hangs": {secondary, func(p *pair) { p.a.hold = hangs }, nil, true, time.Second, &unheard, nil},
		"metadata fail":         {secondary, hangMeta, failHeld, false, time.Second, &unwritten, &unwritten},
		"metadata hang":         {secondary, hangMeta, nil, true, forcedPatience + time.Second, &unwritten, nil},
		"metadata are slow":     {secondary, hangMeta, func(p *pair) { p.comesBack(p.b, OK) }, false, time.Second, nil, nil},
		"Primary":               {primary, deaf, nil, false, unansweredLimit + time.Minute, nil, nil}, // nobody is Primary any more
		"Primary, forced":       {primary, deaf, nil, true, time.Second, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			n := c.who(p)
			c.meanwhile(p)
			n.e.Command(p.now, 100, Disconnect{})
			p.settle(100 * time.Millisecond)
			p.unanswered(n, 100)
			n.e.Command(p.now, 101, Down{Force: c.force})
			if c.then != nil {
				p.settle(0)
				c.then(p)
			}
			p.settle(c.within)
			for id, want := range map[uint64]*LeaveError{100: c.want, 101: c.down} {
				err, ok := n.reply[id]
				lacks, _ := err.(*LeaveError)
				if !ok || (lacks == nil) != (want == nil) || lacks == nil && err != nil && (id == 101 || n == p.b) || lacks != nil && *lacks != *want {
					t.Errorf("command %d: answered %v, %v, want %v\n%s", id, ok, err, want, p.story())
				}
			}
			if st := n.e.State(0); st.Conn != sm.StandAlone || st.Disk != sm.Diskless && st.Disk != sm.Failed {
				t.Errorf("it is not down: %v", st)
			}
		})
	}
}

// What an earlier leave lacked is no matter of a later order.
func TestDownAfterALeaveThatLacked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	deaf(p)
	p.b.e.Command(p.now, 100, Disconnect{})
	p.settle(unansweredLimit + time.Minute)
	p.leftSomehow(p.b, 100, LeaveError{Why: "the connection ended before the peer had agreed"})
	p.a.conn = "away"
	p.must(p.b, Connect{})
	p.must(p.b, Disconnect{})
	p.must(p.b, Down{})
}

func primary(p *pair) *node   { return p.a }
func secondary(p *pair) *node { return p.b }

func hangMeta(p *pair) { p.b.hold = func(io DiskIO) bool { return io.Meta } }

func failHeld(p *pair) {
	failMeta(p)
	p.comesBack(p.b, EIO)
}
