package lab

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/urbd/urbd/statemachine"
)

// stateLine is a change of state in a daemon's log.
var stateLine = regexp.MustCompile(`\bmsg=state .*device=(\S+) from="([^"]*)" to="([^"]*)"`)

// Histories reads a daemon's log: for each volume the connection states that it was in, in order. A daemon that was started
// again begins another history.
func Histories(log string) ([][]statemachine.Conn, error) {
	open := map[string]int{} // device -> its last history
	var all [][]statemachine.Conn
	for line := range strings.Lines(log) {
		m := stateLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		from, err := connOf(m[2])
		if err != nil {
			return nil, err
		}
		to, err := connOf(m[3])
		if err != nil {
			return nil, err
		}
		i, known := open[m[1]]
		if !known || all[i][len(all[i])-1] != from {
			i = len(all)
			open[m[1]] = i
			all = append(all, []statemachine.Conn{from})
		}
		if from != to {
			all[i] = append(all[i], to)
		}
	}
	return all, nil
}

// connOf finds the connection state in a whole state: Primary/Secondary Connected UpToDate/UpToDate.
func connOf(state string) (statemachine.Conn, error) {
	words := strings.Fields(state)
	if len(words) > 1 {
		for _, c := range statemachine.Conns() {
			if c.String() == words[1] {
				return c, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no state", state)
}
