package statemachine

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// past is a history of two nodes with what is on their disks: the writes that each has. A comparison may have data overwritten only
// where the other node has all of it, and may call data parted only where each has something of its own.
type past struct {
	history
	data    [2]map[int]bool
	copying [2]bool // the disk was left in the middle of a resync
	writes  int
	breaks  int // resyncs in a row that broke off
}

func (h *past) write(n int) {
	h.writes++
	h.data[n][h.writes] = true
}

// lacks reports whether a disk lacks something that the other has.
func (h *past) lacks(n int) bool {
	for w := range h.data[1-n] {
		if !h.data[n][w] {
			return true
		}
	}
	return false
}

// alone promotes a node that does not see the other, has its application write, and demotes it.
func (h *past) alone(t *rapid.T) {
	n := rapid.IntRange(0, 1).Draw(t, "alone")
	if h.copying[n] || h.node[n].Current == JustCreated {
		return
	}
	if h.node[n].Bitmap == 0 {
		h.node[n] = h.node[n].NewCurrent(h.random(), true)
	} else {
		h.node[n] = h.node[n].Renew(h.random(), true)
	}
	h.write(n)
}

func (h *past) meet(t *rapid.T) {
	none := CompareInput{SelfRole: Secondary, PeerRole: Secondary, FeatureWSame: true}
	c := Compare(h.node[0], h.node[1], none)
	parted := h.lacks(0) && h.lacks(1)
	switch r := c.Result; {
	case h.copying[0] || h.copying[1]:
	case r == 0 && (h.lacks(0) || h.lacks(1)):
		t.Fatalf("%v\n%v\nrule %d finds nothing to do for %v and %v", h.node[0], h.node[1], c.Rule, h.data[0], h.data[1])
	case (r == 1 || r == 2) && h.lacks(0), (r == -1 || r == -2) && h.lacks(1):
		t.Fatalf("%v\n%v\nrule %d, result %d, overwrites: %v and %v", h.node[0], h.node[1], c.Rule, r, h.data[0], h.data[1])
	case (r >= 100 || r <= -100) && !parted && h.breaks <= 2: // more, at their edges, and the history is too short
		t.Fatalf("%v\n%v\nrule %d, result %d, about nothing: %v and %v", h.node[0], h.node[1], c.Rule, r, h.data[0], h.data[1])
	}
	second := Compare(h.node[1], h.node[0], none)
	for n, mine := range []Comparison{c, second} {
		// A node may have corrected its set by the time that the other one hears of it.
		kept := Handshake(HandshakeInput{Self: h.node[n], Peer: PeerUUIDs{UUIDs: h.node[1-n]}, FeatureWSame: true}).Self
		if late := Compare(h.node[1-n], kept, none); late.Result != -mine.Result && mine.Result >= -2 && mine.Result <= 2 {
			t.Fatalf("%v\n%v\nrule %d, result %d, but rule %d, result %d for the corrected set %v", h.node[n], h.node[1-n], mine.Rule, mine.Result, late.Rule, late.Result, kept)
		}
	}
	h.node[0], h.node[1] = c.Self, second.Self
	source := 0
	switch r := c.Result; {
	case r == 0:
		return
	case r < 0 && r >= -2:
		source = 1
	case r >= 100 || r <= -100:
		if r == resultUnrelated || h.copying[0] || h.copying[1] || rapid.IntRange(0, 3).Draw(t, "heal") > 0 {
			return
		}
		source = rapid.IntRange(0, 1).Draw(t, "who stays")
	}
	if h.copying[source] {
		return
	}
	h.resync(t, source)
}

// resync goes from one node to the other until it breaks off. A Primary at the source writes on then.
func (h *past) resync(t *rapid.T, source int) {
	primary, target := rapid.Bool().Draw(t, "the source is Primary"), 1-source
	announced := h.node[source]
	same := (announced.Current^h.node[target].Current)&^RoleBit == 0
	var sync uint64
	h.node[source], sync = h.node[source].StartSource()
	breaks := func(active bool) {
		if !primary {
			return
		}
		if active {
			h.node[source] = h.node[source].Renew(h.random(), true)
		}
		h.write(source)
	}
	h.breaks++
	upTo := rapid.IntRange(0, 4).Draw(t, "up to")
	if upTo == 0 { // P_SYNC_UUID is lost
		breaks(same)
		return
	}
	h.node[target] = h.node[target].StartTarget(sync, false)
	h.copying[target] = true
	if upTo == 1 {
		breaks(true)
		return
	}
	h.node[target] = h.node[target].FinishTarget(announced, false)
	h.copying[target], h.data[target] = false, maps.Clone(h.data[source])
	if upTo == 2 { // the source misses the end
		breaks(true)
		return
	}
	h.node[source], h.breaks = h.node[source].FinishSource(), 0
}

// TestNothingIsOverwritten: whatever happened to two nodes, no comparison has data overwritten that the other lacks.
func TestNothingIsOverwritten(t *testing.T) {
	met := map[int]int{}
	for range 100 { // times as many as the flag says
		rapid.Check(t, func(t *rapid.T) { somePast(t, met) })
	}
	for _, rule := range []int{34, 35, 36, 37, 44, 45, 46, 47, 50, 51, 70, 71, 90, 100} {
		if met[rule] == 0 {
			t.Errorf("no past led to rule %d: %v", rule, met)
		}
	}
}

func somePast(t *rapid.T, met map[int]int) {
	h := &past{data: [2]map[int]bool{{}, {}}}
	h.node = [2]UUIDs{{Current: JustCreated}, {Current: JustCreated}}
	h.node[0] = h.node[0].NewCurrent(h.random(), true)
	h.write(0)
	for range rapid.IntRange(0, 40).Draw(t, "length of the past") {
		if rapid.Bool().Draw(t, "meet") {
			met[Compare(h.node[0], h.node[1], CompareInput{FeatureWSame: true, SelfRole: Secondary, PeerRole: Secondary}).Rule]++
			h.meet(t)
		} else {
			h.alone(t)
		}
	}
}
