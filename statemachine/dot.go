package statemachine

import (
	"bufio"
	"fmt"
	"io"
	"slices"
)

// WriteDot writes the connection states as a Graphviz graph: all of them and
// every edge of the table, or the overview. The error is that of w.
func WriteDot(w io.Writer, overview bool) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "digraph connection {")
	fmt.Fprintln(b, "\tcompound=true; node [shape=box, style=rounded];")
	for i, k := range Clusters {
		fmt.Fprintf(b, "\tsubgraph cluster_%d {\n\t\tlabel=%q; style=dashed;\n", i, k.Name)
		for _, c := range k.Members {
			fmt.Fprintf(b, "\t\t%s;\n", c)
		}
		fmt.Fprintln(b, "\t}")
	}
	if overview {
		dotOverview(b)
	} else {
		for _, t := range Transitions() {
			fmt.Fprintf(b, "\t%s -> %s [label=%q];\n", t.From, t.To, t.Label)
		}
	}
	fmt.Fprintln(b, "}")
	return b.Flush()
}

// dotOverview writes the edges of the overview; an edge of a cluster starts or ends at its border.
func dotOverview(b io.Writer) {
	for _, c := range Loose {
		fmt.Fprintf(b, "\t%s;\n", c)
	}
	for _, e := range Overview() {
		from, tail := anchor(e.From, "ltail")
		to, head := anchor(e.To, "lhead")
		fmt.Fprintf(b, "\t%s -> %s [label=%q%s%s];\n", from, to, e.Label, tail, head)
	}
}

// anchor is the node that stands for the end of an edge, and the attribute that cuts
// the edge at the border of the cluster, if the end is one.
func anchor(end, attribute string) (node, attr string) {
	for i, k := range Clusters {
		if !k.merged {
			continue
		}
		sides := []struct {
			name    string
			members []Conn
		}{
			{k.end(k.Members), k.Members},
			{k.any + ", S side", []Conn{SyncSource}},
			{k.any + ", T side", []Conn{SyncTarget}},
		}
		j := slices.IndexFunc(sides, func(s struct {
			name    string
			members []Conn
		}) bool {
			return s.name == end
		})
		if j >= 0 {
			return sides[j].members[0].String(), fmt.Sprintf(", %s=cluster_%d", attribute, i)
		}
	}
	return end, ""
}
