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
		for _, from := range ends(r.from) {
			for _, to := range ends(r.drawnTo()) {
				all = append(all, r.edge(from, to))
			}
		}
	}
	return all
}

// Walked are the edges of the overview that a volume has gone along, in this order; history is the connection states that it
// was in, one after the other.
func Walked(history []Conn) []OverviewEdge {
	var all []OverviewEdge
	for i := 1; i < len(history); i++ {
		from, to := history[i-1], history[i]
		for _, r := range table {
			if !slices.Contains(r.from, from) || !slices.Contains(r.to, to) || r.drawnTo() == nil {
				continue
			}
			if to == hidden {
				if i+1 == len(history) {
					continue // not there yet
				}
				to = history[i+1]
			}
			// Of a whole row, since a side is named only where all of the row are of one.
			all = append(all, r.edge(nameIn(r.from, from), nameIn(r.drawnTo(), to)))
		}
	}
	return all
}

// drawnTo is where the overview's edges of a row lead; nil if it is not drawn.
func (r row) drawnTo() []Conn {
	switch {
	case r.drawn == wholeOnly || slices.Contains(r.from, hidden):
		return nil
	case slices.Contains(r.to, hidden):
		return leadsTo(hidden)
	}
	return r.to
}

func (r row) edge(from, to string) OverviewEdge {
	if r.drawn == drawnBare {
		return OverviewEdge{from, to, ""}
	}
	return OverviewEdge{from, to, r.label}
}

// nameIn is the name of c as one of states.
func nameIn(states []Conn, c Conn) string {
	if k := clusterOf(c); k != nil {
		return k.end(states)
	}
	return c.String()
}

// clusterOf is the merged cluster of a state, nil if it is drawn by itself.
func clusterOf(c Conn) *Cluster {
	for i, k := range Clusters {
		if k.merged && slices.Contains(k.Members, c) {
			return &Clusters[i]
		}
	}
	return nil
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
		if name := nameIn(states, c); !slices.Contains(names, name) {
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
