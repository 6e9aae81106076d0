package vm

import (
	"fmt"
	"slices"
	"strings"
)

// A source is one entry of the machine's package sources, as fields in the
// order of their stanza. One-line entries ("deb [opts] URI SUITE COMPONENTS")
// are turned into the same form.
type source struct {
	fields []field
}

type field struct{ name, value string }

func (s source) get(name string) string {
	for _, f := range s.fields {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// archive reports whether the entry is a Debian archive's main component for one
// of the suites.
func (s source) archive(suites []string) bool {
	if !slices.Contains(strings.Fields(s.get("Types")), "deb") ||
		!slices.Contains(strings.Fields(s.get("Components")), "main") ||
		strings.EqualFold(s.get("Enabled"), "no") {
		return false
	}
	for _, suite := range strings.Fields(s.get("Suites")) {
		if slices.Contains(suites, suite) {
			return true
		}
	}
	return false
}

// withSuites writes the entry as a deb822 stanza for other suites of the same
// archive: where packages come from stays what the machine's owner chose.
func (s source) withSuites(suites ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Types: deb\nSuites: %s\nComponents: main\n", strings.Join(suites, " "))
	for _, f := range s.fields {
		switch strings.ToLower(f.name) {
		case "types", "suites", "components", "enabled":
		default:
			fmt.Fprintf(&b, "%s: %s\n", f.name, f.value)
		}
	}
	return b.String()
}

// parseDeb822 reads a .sources file. Continuation lines (an inline key) stay
// part of their value.
func parseDeb822(text string) []source {
	var out []source
	var cur source
	end := func() {
		if len(cur.fields) > 0 {
			out = append(out, cur)
		}
		cur = source{}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			end()
		case line[0] == ' ' || line[0] == '\t':
			if n := len(cur.fields); n > 0 {
				cur.fields[n-1].value += "\n" + line
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if ok {
				cur.fields = append(cur.fields, field{strings.TrimSpace(name), strings.TrimSpace(value)})
			}
		}
	}
	end()
	return out
}

// parseOneLine reads a sources.list file.
func parseOneLine(text string) []source {
	var out []source
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		typ, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		src := source{fields: []field{{"Types", typ}}}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			opts, after, ok := strings.Cut(rest[1:], "]")
			if !ok {
				continue
			}
			for _, opt := range strings.Fields(opts) {
				if key, value, ok := strings.Cut(opt, "="); ok {
					src.fields = append(src.fields, field{optionField(key), strings.ReplaceAll(value, ",", " ")})
				}
			}
			rest = after
		}
		words := strings.Fields(rest)
		if len(words) < 3 {
			continue
		}
		src.fields = append(src.fields, field{"URIs", words[0]}, field{"Suites", words[1]},
			field{"Components", strings.Join(words[2:], " ")})
		out = append(out, src)
	}
	return out
}

// optionField is the deb822 name of a one-line option (sources.list(5)).
func optionField(key string) string {
	switch key {
	case "arch":
		return "Architectures"
	case "lang":
		return "Languages"
	case "target":
		return "Targets"
	}
	words := strings.Split(key, "-")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "-")
}
