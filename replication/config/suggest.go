package config

import (
	"maps"
	"slices"
	"strings"
)

// hintFor is what to say about a word that is not among candidates: the one that was probably meant, or
// otherwise.
func hintFor(word string, candidates []string, otherwise string) string {
	best, bestDistance := "", len(word)/3+1
	for _, c := range candidates {
		if d := distance(word, c); d < bestDistance || d == bestDistance && best == "" && d <= 2 && len(word) > 3 {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return otherwise
	}
	return `did you mean "` + best + `"?`
}

// elsewhereHint explains a word that is known, but not as an option of this section ("" for no section).
func elsewhereHint(section Section, name string) string {
	if version := newer[name]; version != "" {
		return "an option of DRBD " + version + "; urbd is an 8.4 node: remove the line"
	}
	if name == "discard-my-data" || name == "tentative" {
		return "not an option of the file: say --" + name + " to urbd connect"
	}
	for _, o := range table {
		if o.Name == name && o.Section != section && (o.Kind != Legacy || section != syncerSection) {
			return "it belongs in " + string(o.Section) + " { }"
		}
	}
	if o := syncerNames[name]; o != nil {
		return "write " + o.Name + " in " + string(o.Section) + " { }"
	}
	return ""
}

// optionNames are the words that may start a line in a section, in a stable order.
func optionNames(section Section) []string {
	if section == syncerSection {
		return slices.Sorted(maps.Keys(syncerNames))
	}
	return slices.Sorted(maps.Keys(byName[section]))
}

// distance is the number of letters inserted, deleted, changed or swapped with a neighbour between two words.
func distance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// newer names the first version that knows an option or a statement which 8.4 does not ("9" where only the
// generation is certain).
// Source: docs/drbd-cli.md 2.3.
var newer = map[string]string{
	"quorum": "9.0", "on-no-quorum": "9.0", "quorum-minimum-redundancy": "9.0", "auto-promote": "9.0",
	"auto-promote-timeout": "9.0", "peer-ack-window": "9.0", "peer-ack-delay": "9.0", "twopc-timeout": "9.0",
	"twopc-retry-timeout": "9.0", "max-io-depth": "9.0", "transport": "9.0", "bitmap": "9.0",
	"node-id": "9.0", "connection": "9.0", "connection-mesh": "9.0", "path": "9.0", "host": "9.0", "hosts": "9.0",
	"on-suspended-primary-outdated": "9", "allow-remote-read": "9", "load-balance-paths": "9",
	"drbd8-api-compatibility": "9", "resync-without-replication": "9", "peer-tiebreaker": "9",
	"block-size": "9", "max-bio-size": "9", "discard-granularity": "9", "tls": "9", "tls-keyring": "9",
	"tls-privkey": "9", "tls-certificate": "9", "rdma-ctrl-rcvbuf-size": "9.0", "rdma-ctrl-sndbuf-size": "9.0",
	"quorum-lost": "9.0", "disconnected": "9.0",
}
