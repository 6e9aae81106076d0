package statemachine

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// ownersOverview reads the list that the overview has to be, the one table of its page: from, to and
// label, with remarks in parentheses behind the label.
func ownersOverview(t *testing.T) []OverviewEdge {
	t.Helper()
	text, err := os.ReadFile("../docs/connection-states.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n| from | to | label |\n|---|---|---|\n")
	table, _, ok := strings.Cut(table, "\n\n")
	if !ok {
		t.Fatal("docs/connection-states.md has no table of from, to and label")
	}
	var edges []OverviewEdge
	for line := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(line, "|")
		label := strings.TrimSpace(cells[3])
		if i := strings.Index(label, " ("); i >= 0 && strings.Contains(label[i:], "Disconnecting") {
			label = label[:i]
		}
		edges = append(edges, OverviewEdge{strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), label})
	}
	return edges
}

func TestOverviewIsTheOwners(t *testing.T) {
	want, got := ownersOverview(t), Overview()
	for _, e := range want {
		if !slices.Contains(got, e) {
			t.Errorf("missing: %+v", e)
		}
	}
	for i, e := range got {
		if !slices.Contains(want, e) {
			t.Errorf("not in the owner's list: %+v", e)
		}
		if slices.Contains(got[:i], e) {
			t.Errorf("twice: %+v", e)
		}
	}
}

// TestWalked leads a volume through the overview.
func TestWalked(t *testing.T) {
	walks := map[string][]Conn{
		"a life": {StandAlone, Unconnected, WFConnection, WFReportParams, WFBitMapT, WFSyncUUID, SyncTarget, PausedSyncT, SyncTarget, Connected,
			NetworkFailure, Unconnected, WFConnection, WFReportParams, Connected, Disconnecting, StandAlone},
		"a source": {StandAlone, Unconnected, WFConnection, WFReportParams, WFBitMapS, SyncSource, Timeout, Unconnected, Disconnecting, StandAlone},
		"no peer":  {WFConnection, WFReportParams, BrokenPipe, Unconnected, WFConnection, WFReportParams, Disconnecting, StandAlone},
		"paused":   {WFBitMapS, PausedSyncS, Connected, BrokenPipe},
	}
	seen := map[OverviewEdge]bool{}
	for name, walk := range walks {
		for _, e := range Walked(walk) {
			if !slices.Contains(Overview(), e) {
				t.Errorf("%s: %+v is no edge of the overview", name, e)
			}
			seen[e] = true
		}
	}
	for _, e := range Overview() {
		if !seen[e] {
			t.Errorf("not recognised: %+v", e)
		}
	}
	for _, walk := range [][]Conn{nil, {Connected}, {WFConnection, Disconnecting, StandAlone}, {SyncTarget, PausedSyncT}, {Connected, Disconnecting, StandAlone},
		{Unconnected, Disconnecting}} {
		if got := Walked(walk); len(got) > 0 {
			t.Errorf("%v walks %+v, which are not in the overview", walk, got)
		}
	}
}

// TestOverviewClusters holds who is drawn inside what.
func TestOverviewClusters(t *testing.T) {
	where := map[Conn]int{}
	for _, k := range Clusters {
		for _, c := range k.Members {
			where[c]++
		}
	}
	for _, c := range Conns() {
		drawnAlone := c == StandAlone || c == Unconnected || c == Connected || slices.Contains(Loose, c)
		if where[c] > 1 || where[c] == 1 && drawnAlone {
			t.Errorf("%v is drawn more than once", c)
		}
	}
	for _, c := range []Conn{Disconnecting, ProtocolError, VerifyS, VerifyT, Ahead, Behind} {
		if where[c] != 0 {
			t.Errorf("%v is in the overview", c)
		}
	}
}

// TestDot looks for every edge in the pictures, and for nothing that Graphviz would
// take for something else.
func TestDot(t *testing.T) {
	var whole, overview strings.Builder
	if err := WriteDot(&whole, false); err != nil {
		t.Fatal(err)
	}
	if err := WriteDot(&overview, true); err != nil {
		t.Fatal(err)
	}
	for _, tr := range Transitions() {
		if edge := "\t" + tr.From.String() + " -> " + tr.To.String() + " ["; strings.Count(whole.String(), edge) != 1 {
			t.Errorf("%q is there %d times", edge, strings.Count(whole.String(), edge))
		}
	}
	if got, want := strings.Count(overview.String(), "->"), len(Overview()); got != want {
		t.Errorf("%d edges in the overview's picture, want %d", got, want)
	}
	for _, edge := range []string{
		`WFBitMapS -> SyncSource [label="", lhead=cluster_2];`,
		`PausedSyncT -> Connected [label="resync done", ltail=cluster_2];`,
		`PausedSyncT -> Timeout [label="", ltail=cluster_2, lhead=cluster_3];`,
		`Timeout -> Unconnected [label="receiver is stopped", ltail=cluster_3];`,
	} {
		if !strings.Contains(overview.String(), edge) {
			t.Errorf("the overview's picture lacks %s", edge)
		}
	}
	for _, text := range []string{whole.String(), overview.String()} {
		if strings.Count(text, "{") != strings.Count(text, "}") || !strings.HasPrefix(text, "digraph ") {
			t.Errorf("not a graph:\n%s", text)
		}
	}
}
