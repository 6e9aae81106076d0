package statemachine

import (
	"testing"

	"pgregory.net/rapid"
)

// restated is the comparison once more, written down from docs/drbd-metadata.md 5.5 and its
// notes instead of docs/drbd-wire.md 9.2, as one chain.
func restated(s, p UUIDs, in CompareInput) (rule, res int, self, peer UUIDs) {
	const off = 0x0001000000000000
	m := func(v uint64) uint64 { return v - v%2 }
	C, B, H0, H1 := m(s.Current), m(s.Bitmap), m(s.History[0]), m(s.History[1])
	c, b, h0, h1 := m(p.Current), m(p.Bitmap), m(p.History[0]), m(p.History[1])
	if C == 4 && c == 4 {
		return 10, 0, s, p
	}
	if (C == 4 || C == 0) && c != 4 {
		return 20, -2, s, p
	}
	if C != 4 && (c == 4 || c == 0) {
		return 30, 2, s, p
	}
	if C == c {
		switch {
		case p.Bitmap == 0 && s.Bitmap != 0:
			if B == h0 && H0 == h1 {
				return 34, 1, restatedCleared(s), p
			}
			return 36, 1, s, p
		case s.Bitmap == 0 && p.Bitmap != 0:
			if H0 == b && H1 == h0 {
				return 35, -1, s, restatedCleared(p)
			}
			return 37, -1, s, p
		}
		rule, res = restatedCrash(in)
		return rule, res, s, p
	}
	switch {
	case p.Bitmap == 0 && goneOn(s, p) && H1 == c:
		return 44, 1, UUIDs{s.Current, s.History[1], [2]uint64{s.Bitmap, s.History[0]}}, p
	case s.Bitmap == 0 && goneOn(p, s) && h1 == C:
		return 45, -1, s, UUIDs{p.Current, p.History[1], [2]uint64{p.Bitmap, p.History[0]}}
	case p.Bitmap != 0 && goneOn(s, p) && H1 == b:
		return 46, -100, s, p
	case s.Bitmap != 0 && goneOn(p, s) && h1 == B:
		return 47, -100, s, p
	case C == b:
		return 50, -1, s, p
	case C == h0 && h0+off == b:
		return 51, -1, s, restatedLost(p)
	case C == h0 || C == h1:
		return 60, -2, s, p
	case B == c:
		return 70, 1, s, p
	case H0 == c && H0+off == B:
		return 71, 1, restatedLost(s), p
	case c == H0 || c == H1:
		return 80, 2, s, p
	case B == b && B != 0:
		return 90, 100, s, p
	case H0 == h0 || H0 == h1 || H1 == h0 || H1 == h1:
		return 100, -100, s, p
	case B != 0 && b != 0 && sameOrigin(B, b):
		return 101, -100, s, p
	}
	return 100, -1000, s, p
}

func restatedCrash(in CompareInput) (rule, res int) {
	if !in.SelfCrashed && !in.PeerCrashed {
		return 40, 0
	}
	if in.SelfRole == Primary || in.PeerRole == Primary {
		switch {
		case !in.FeatureWSame:
			return 41, -(65536 + 1024 + 101)
		case in.SelfRole == in.PeerRole:
			return 41, -100
		case in.SelfRole == Primary:
			return 41, 1
		}
		return 41, -1
	}
	switch {
	case in.SelfCrashed && in.PeerCrashed && in.ResolveConflicts, !in.SelfCrashed:
		return 40, -1
	}
	return 40, 1
}

// goneOn: the bits of s count since a resync to p, and its current UUID was renewed since. docs/drbd-wire.md 9.2.
func goneOn(s, p UUIDs) bool {
	return s.Bitmap != 0 && sameFamily(s.Current, s.History[1]) && (s.Bitmap|1 == p.History[0]|1 || s.Bitmap<<16|1<<16 == s.History[1]<<16|1<<16)
}

func sameFamily(a, b uint64) bool { return a>>32 != 0 && a>>32 == b>>32 }

func restatedLost(u UUIDs) UUIDs {
	h1 := u.History[1]
	if sameFamily(u.Current, h1) {
		h1 = 0
	}
	return UUIDs{u.Current, u.History[0], [2]uint64{h1, h1}}
}

func restatedCleared(u UUIDs) UUIDs {
	h := [2]uint64{u.Bitmap, u.History[0]}
	if sameFamily(u.Current, h[1]) {
		h[1] = 0
	}
	return UUIDs{u.Current, 0, h}
}

func anyCompareInput(t *rapid.T) CompareInput {
	role := rapid.SampledFrom([]Role{Primary, Secondary})
	return CompareInput{
		SelfCrashed: rapid.Bool().Draw(t, "self crashed"), PeerCrashed: rapid.Bool().Draw(t, "peer crashed"),
		SelfRole: role.Draw(t, "role"), PeerRole: role.Draw(t, "peer role"),
		ResolveConflicts: rapid.Bool().Draw(t, "RC"), FeatureWSame: rapid.Bool().Draw(t, "WSAME"),
	}
}

func (in CompareInput) mirrored() CompareInput {
	return CompareInput{in.PeerCrashed, in.SelfCrashed, in.PeerRole, in.SelfRole, !in.ResolveConflicts, in.FeatureWSame}
}

// TestCompareRestated compares everything that can be made of few identifiers: the special ones,
// one with both role bits, its successor as a sync UUID, another. The other inputs take turns.
func TestCompareRestated(t *testing.T) {
	few := []uint64{0, JustCreated, 0x7_00000100, 0x7_00000101, 0x7_00000100 + newBitmapOffset, 0x7_00000200}
	var inputs []CompareInput
	for bits := range 64 {
		is := func(n int) bool { return bits>>n&1 == 1 }
		inputs = append(inputs, CompareInput{is(0), is(1), []Role{Primary, Secondary}[bits>>2&1], []Role{Primary, Secondary}[bits>>3&1], is(4), is(5)})
	}
	var slots [8]int
	met := map[int]bool{}
	for n := 0; ; n++ {
		s := UUIDs{few[slots[0]], few[slots[1]], [2]uint64{few[slots[2]], few[slots[3]]}}
		p := UUIDs{few[slots[4]], few[slots[5]], [2]uint64{few[slots[6]], few[slots[7]]}}
		in := inputs[n%61] // has no factor in common with the number of identifiers
		got := Compare(s, p, in)
		rule, res, self, peer := restated(s, p, in)
		if want := (Comparison{rule, res, self, peer}); got != want {
			t.Fatalf("Compare(%v, %v, %+v) = %+v, want %+v", s, p, in, got, want)
		}
		met[rule] = true
		i := 0
		for ; i < len(slots) && slots[i] == len(few)-1; i++ {
			slots[i] = 0
		}
		if i == len(slots) {
			break
		}
		slots[i]++
	}
	for _, row := range compareRules {
		if !met[row.rule] {
			t.Errorf("rule %d was not met", row.rule)
		}
	}
}

// TestCompareRules has one case of each rule, and its mirror image.
func TestCompareRules(t *testing.T) {
	const off, f = newBitmapOffset, 0x7_00000000 // of a family of renewed ones
	u := func(c, b, h0, h1 uint64) UUIDs { return UUIDs{c, b, [2]uint64{h0, h1}} }
	crash := func(self, peer bool, a, b Role, rc bool) CompareInput {
		return CompareInput{self, peer, a, b, rc, true}
	}
	none := crash(false, false, Secondary, Secondary, false)
	for _, tc := range []struct {
		name                 string
		self, peer           UUIDs
		in                   CompareInput
		rule, result         int
		mirrorRule, mirrored int
		fixSelf, fixPeer     UUIDs // zero: as it was
	}{
		{name: "both fresh", self: u(4, 0, 0, 0), peer: u(5, 0, 0, 0), in: none, rule: 10, mirrorRule: 10},
		{name: "fresh here", self: u(4, 0, 0, 0), peer: u(0x101, 4, 0, 0), in: none, rule: 20, result: -2, mirrorRule: 30, mirrored: 2},
		{name: "no generation here", self: u(0, 0, 0, 0), peer: u(0x100, 0, 0, 0), in: none, rule: 20, result: -2, mirrorRule: 30, mirrored: 2},
		{name: "source missed the end", self: u(0x100, 0x200, 0x300, 0), peer: u(0x101, 0, 0x201, 0x300), in: none,
			rule: 34, result: 1, fixSelf: u(0x100, 0, 0x200, 0x300), mirrorRule: 35, mirrored: -1},
		{name: "still counting", self: u(0x100, 0x200, 0x300, 0), peer: u(0x100, 0, 0x400, 0), in: none,
			rule: 36, result: 1, mirrorRule: 37, mirrored: -1},
		{name: "nothing happened", self: u(0x101, 0, 0x200, 0), peer: u(0x100, 0, 0x300, 0), in: none, rule: 40, mirrorRule: 40},
		{name: "both counting", self: u(0x101, 0x200, 0, 0), peer: u(0x100, 0x300, 0, 0), in: none, rule: 40, mirrorRule: 40},
		{name: "crashed here", self: u(0x100, 0, 0, 0), peer: u(0x100, 0, 0, 0), in: crash(true, false, Secondary, Secondary, false),
			rule: 40, result: 1, mirrorRule: 40, mirrored: -1},
		{name: "both crashed", self: u(0x100, 0, 0, 0), peer: u(0x100, 0, 0, 0), in: crash(true, true, Secondary, Secondary, true),
			rule: 40, result: -1, mirrorRule: 40, mirrored: 1},
		{name: "crashed there, Primary here", self: u(0x100, 0, 0, 0), peer: u(0x100, 0, 0, 0), in: crash(false, true, Primary, Secondary, false),
			rule: 41, result: 1, mirrorRule: 41, mirrored: -1},
		{name: "crashed, both Primary", self: u(0x100, 0, 0, 0), peer: u(0x100, 0, 0, 0), in: crash(true, false, Primary, Primary, false),
			rule: 41, result: -100, mirrorRule: 41, mirrored: -100},
		{name: "missed the end, and went on", self: u(f|0x300, 0x200, 0x500, f|0x101), peer: u(f|0x100, 0, 0x201, 0x500), in: none,
			rule: 44, result: 1, fixSelf: u(f|0x300, f|0x101, 0x200, 0x500), mirrorRule: 45, mirrored: -1},
		{name: "the sync UUID of good data never came, and went on", self: u(f|0x300, f|0x100+newSyncOffset, 0x500, f|0x101), peer: u(f|0x100, 0, 0x400, 0x500), in: none,
			rule: 44, result: 1, fixSelf: u(f|0x300, f|0x101, f|0x100+newSyncOffset, 0x500), mirrorRule: 45, mirrored: -1},
		{name: "missed the end, and both went on", self: u(f|0x300, 0x200, 0x500, f|0x101), peer: u(0x700, f|0x100, 0x201, 0x600), in: none,
			rule: 46, result: -100, mirrorRule: 47, mirrored: -100},
		{name: "cut in the middle, and went on", self: u(f|0x300, 0x200, 0x500, f|0x101), peer: u(0x200, 0, 0x400, 0), in: none,
			rule: 70, result: 1, mirrorRule: 50, mirrored: -1},
		{name: "an older generation, and not the sync UUID", self: u(f|0x300, 0x200, 0x500, f|0x101), peer: u(f|0x100, 0, 0x400, 0), in: none,
			rule: 80, result: 2, mirrorRule: 60, mirrored: -2},
		{name: "a generation declared, and none copied", self: u(0x300, 0x200, 0x500, 0x600), peer: u(0x700, 0, 0x200, 0x500), in: none,
			rule: 100, result: -100, mirrorRule: 100, mirrored: -100},
		{name: "peer went on", self: u(0x100, 0, 0, 0), peer: u(0x201, 0x101, 0, 0), in: none, rule: 50, result: -1, mirrorRule: 70, mirrored: 1},
		{name: "its sync UUID never came", self: u(0x100, 0, 0x300, 0), peer: u(0x200, 0x100+off, 0x100, 0x300), in: none,
			rule: 51, result: -1, fixPeer: u(0x200, 0x100, 0x300, 0x300), mirrorRule: 71, mirrored: 1},
		{name: "long behind", self: u(0x100, 0, 0, 0), peer: u(0x200, 0x300, 0x400, 0x100), in: none, rule: 60, result: -2, mirrorRule: 80, mirrored: 2},
		{name: "parted", self: u(0x100, 0x300, 0, 0), peer: u(0x200, 0x301, 0, 0), in: none, rule: 90, result: 100, mirrorRule: 90, mirrored: 100},
		{name: "parted from just created", self: u(0x100, 4, 0, 0), peer: u(0x200, 4, 0, 0), in: none, rule: 90, result: 100, mirrorRule: 90, mirrored: 100},
		{name: "parted long ago", self: u(0x100, 0x300, 0x500, 0x600), peer: u(0x200, 0x400, 0x700, 0x501), in: none,
			rule: 100, result: -100, mirrorRule: 100, mirrored: -100},
		{name: "empty histories meet", self: u(0x100, 0, 0, 0), peer: u(0x200, 0, 0, 0), in: none, rule: 100, result: -100, mirrorRule: 100, mirrored: -100},
		{name: "parted, and a sync UUID that never came has renewed the one", self: u(f|0x300, f|0x200+off, f|0x200, f|0x101), peer: u(0x700, f|0x200, 0x500, 0x600), in: none,
			rule: 101, result: -100, mirrorRule: 101, mirrored: -100},
		{name: "unrelated", self: u(0x100, 0, 0x300, 0x400), peer: u(0x200, 0, 0x500, 0x600), in: none,
			rule: 100, result: -1000, mirrorRule: 100, mirrored: -1000},
	} {
		if tc.fixSelf == (UUIDs{}) {
			tc.fixSelf = tc.self
		}
		if tc.fixPeer == (UUIDs{}) {
			tc.fixPeer = tc.peer
		}
		if got, want := Compare(tc.self, tc.peer, tc.in), (Comparison{tc.rule, tc.result, tc.fixSelf, tc.fixPeer}); got != want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, want)
		}
		got, want := Compare(tc.peer, tc.self, tc.in.mirrored()), (Comparison{tc.mirrorRule, tc.mirrored, tc.fixPeer, tc.fixSelf})
		if got != want {
			t.Errorf("%s, mirrored: %+v, want %+v", tc.name, got, want)
		}
	}
	if got := Compare(u(0x100, 0, 0, 0), u(0x100, 0, 0, 0), CompareInput{SelfCrashed: true, SelfRole: Primary}); got.Result != resultNeedsNewerPeer {
		t.Errorf("a crash, a Primary and an old peer: %+v", got)
	}
}

// history is a past of two nodes: the sets that meet in reality are made by this, not by chance.
// They part and go on alone, and they meet, and what follows from a meeting may break off anywhere.
type history struct {
	node    [2]UUIDs
	counter uint64
}

func (h *history) random() uint64 {
	h.counter += 0x10
	return h.counter<<8 | h.counter<<40 // never the successor of another by newBitmapOffset; with an upper half of its own
}

func (h *history) act(t *rapid.T) {
	a := rapid.IntRange(0, 1).Draw(t, "node")
	primary := rapid.Bool().Draw(t, "primary")
	switch rapid.SampledFrom([]string{"alone", "meet", "meet", "role"}).Draw(t, "act") {
	case "alone":
		if h.node[a].Bitmap == 0 {
			h.node[a] = h.node[a].NewCurrent(h.random(), primary)
		}
	case "role":
		h.node[a] = h.node[a].WithRole(primary)
	case "meet":
		h.meet(t, a, primary)
	}
}

// meet has the nodes compare, correct themselves, and resync; a is the one that stays if
// the administrator has to say so.
func (h *history) meet(t *rapid.T, a int, primary bool) {
	none := CompareInput{SelfRole: Secondary, PeerRole: Secondary, FeatureWSame: true}
	c := Compare(h.node[a], h.node[1-a], none)
	h.node[a] = c.Self
	h.node[1-a] = Compare(h.node[1-a], h.node[a], none).Self
	source := a
	switch {
	case c.Rule == 10:
		h.node[a] = h.node[a].NewCurrentRotated(h.random(), primary).ClearBitmap()
		h.node[1-a] = h.node[1-a].Adopt(h.node[a].Current, !primary)
		return
	case c.Result == 0:
		return
	case c.Result == -1 || c.Result == -2:
		source = 1 - a
	case c.Result != 1 && c.Result != 2 && !rapid.Bool().Draw(t, "heal"):
		return
	}
	h.resync(t, source, 1-source, primary)
}

// resync goes from one node to the other until it breaks off.
func (h *history) resync(t *rapid.T, source, target int, primary bool) {
	announced := h.node[source]
	var sync uint64
	h.node[source], sync = h.node[source].StartSource()
	upTo := rapid.SampledFrom([]string{"P_SYNC_UUID is lost", "it breaks off", "the source misses the end", "the end"}).Draw(t, "up to")
	if upTo == "P_SYNC_UUID is lost" {
		return
	}
	h.node[target] = h.node[target].StartTarget(sync, primary)
	if upTo == "it breaks off" {
		return
	}
	h.node[target] = h.node[target].FinishTarget(announced, primary)
	if upTo == "the source misses the end" {
		return
	}
	h.node[source] = h.node[source].FinishSource()
	c := Compare(h.node[source], h.node[target], CompareInput{SelfRole: Primary})
	if c.Result != 0 {
		t.Fatalf("a resync came to its end, and the nodes do not agree: %v %v %+v", h.node[source], h.node[target], c)
	}
}

// TestCompareMirrors: two nodes with any past, of their own or common, come to mirrored
// results, and after a resync to none.
func TestCompareMirrors(t *testing.T) {
	results, rules := map[int]int{}, map[int]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := &history{node: [2]UUIDs{{Current: JustCreated}, {Current: JustCreated}}}
		for range rapid.IntRange(0, 40).Draw(t, "length of the past") {
			h.act(t)
			h.compare(t, results, rules)
		}
	})
	for _, r := range []int{0, 1, -1, 2, -2, 100} {
		if results[r] == 0 {
			t.Errorf("no past led to the result %d: %v", r, results)
		}
	}
	t.Logf("rules: %v", rules)
}

// compare has both look, as they are now.
func (h *history) compare(t *rapid.T, results, rules map[int]int) {
	in := anyCompareInput(t)
	mine, theirs := Compare(h.node[0], h.node[1], in), Compare(h.node[1], h.node[0], in.mirrored())
	want := -mine.Result
	if mine.Result >= 100 || mine.Result <= -100 {
		want = mine.Result // what both have to see alike
	}
	if theirs.Result != want {
		t.Fatalf("%v\n%v\none sees %+v, the other %+v", h.node[0], h.node[1], mine, theirs)
	}
	if mine.Self != theirs.Peer || mine.Peer != theirs.Self {
		t.Fatalf("corrected differently: one sees %+v, the other %+v", mine, theirs)
	}
	results[mine.Result]++
	rules[mine.Rule]++
}
