package statemachine

import "slices"

// Cluster is a set of connection states that the overview draws as one.
type Cluster struct {
	Name    string
	Members []Conn
	merged  bool   // edges of every member are drawn as one edge of the cluster
	any     string // what the cluster is called as the end of such an edge
}

// Clusters are those of the overview.
var Clusters = []Cluster{
	{Name: "try to connect, handshake", Members: []Conn{WFConnection, WFReportParams}},
	{Name: "bitmap exchange, new application WRITE requests blocked while the bitmap is exchanged",
		Members: []Conn{WFBitMapT, WFSyncUUID, WFBitMapS}},
	{Name: "resynchronisation (any process; concurrent application requests allowed)",
		Members: []Conn{PausedSyncT, SyncTarget, PausedSyncS, SyncSource}, merged: true, any: "resynchronisation"},
	{Name: "communication loss", Members: lost, merged: true, any: "communication trouble"},
}

// Loose are the states that the overview draws without their edges.
var Loose = []Conn{TearDown, StartingSyncS, StartingSyncT}

// OverviewEdge is one edge of the overview: between states, or clusters of them.
type OverviewEdge struct{ From, To, Label string }

// hidden is the state that the overview leaves out and draws edges through.
const hidden = Disconnecting

// Overview is the projection of the table to the edges that are drawn, in the
// order of the table: edges of all the members of a cluster become one, and edges into
// Disconnecting go on to where it leads.
func Overview() []OverviewEdge {
	var all []OverviewEdge
	for _, r := range table {
		if r.drawn == wholeOnly || slices.Contains(r.from, hidden) {
			continue
		}
		label := r.label
		if r.drawn == drawnBare {
			label = ""
		}
		to := r.to
		if slices.Contains(to, hidden) {
			to = leadsTo(hidden)
		}
		for _, from := range ends(r.from) {
			for _, to := range ends(to) {
				all = append(all, OverviewEdge{from, to, label})
			}
		}
	}
	return all
}

// leadsTo lists where the table goes from c.
func leadsTo(c Conn) []Conn {
	var to []Conn
	for _, t := range Transitions() {
		if t.From == c {
			to = append(to, t.To)
		}
	}
	return to
}

// ends names the states as the overview does: one name for the members of a merged
// cluster, with the side if all are of one side.
func ends(states []Conn) []string {
	var names []string
	for _, c := range states {
		i := slices.IndexFunc(Clusters, func(k Cluster) bool { return k.merged && slices.Contains(k.Members, c) })
		if i < 0 {
			names = append(names, c.String())
			continue
		}
		if name := Clusters[i].end(states); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// end names the cluster as the end of an edge that touches states.
func (k Cluster) end(states []Conn) string {
	isOther := func(f func(Conn) bool) bool {
		return slices.ContainsFunc(states, func(c Conn) bool { return slices.Contains(k.Members, c) && !f(c) })
	}
	switch {
	case !isOther(Conn.Source):
		return k.any + ", S side"
	case !isOther(Conn.Target):
		return k.any + ", T side"
	case slices.ContainsFunc(k.Members, Conn.Source):
		return k.any + " (any)"
	}
	return k.any
}
