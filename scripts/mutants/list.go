package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A mutation is one deliberate breakage of the code, and what has to notice it.
type mutation struct {
	name   string
	why    string // what the broken code does
	edits  []edit
	catch  catcher
	origin string // file:line of the list
}

// An edit replaces a text that stands exactly once in the code of one package.
type edit struct{ dir, old, new string }

// A catcher is a test of a package, or a seed of the simulator.
type catcher struct {
	pkg    string // directory
	test   string // name, with /subtest if it is one
	seed   uint64
	events int
}

const simulator = "replication/sim"

func (c catcher) String() string {
	if c.seed != 0 {
		return fmt.Sprintf("seed %d of %d events", c.seed, c.events)
	}
	return c.test + " of " + c.pkg
}

// readList reads every file of a directory, in the order of their names.
func readList(dir string) ([]mutation, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []mutation
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		list, err := parseList(filepath.Base(file), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	seen := map[string]string{}
	for _, m := range all {
		if at, twice := seen[m.name]; twice {
			return nil, fmt.Errorf("%s: %s is in the list already, at %s", m.origin, m.name, at)
		}
		seen[m.name] = m.origin
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there are no mutations in %s", dir)
	}
	return all, nil
}

// parseList reads one file of the list: see list/README for its form.
func parseList(file, text string) (list []mutation, err error) {
	dir, afterNew := "", true // the edit that the lines belong to is complete: a "-" begins another
	for i, line := range strings.Split(text, "\n") {
		origin := fmt.Sprintf("%s:%d", file, i+1)
		bad := func(what string) ([]mutation, error) { return nil, fmt.Errorf("%s: %s: %q", origin, what, line) }
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || line[0] == '#':
			afterNew = true
			continue
		case word == "mutation":
			list = append(list, mutation{name: rest, origin: origin})
			dir, afterNew = "", true
			continue
		case len(list) == 0:
			return bad("before the first mutation")
		}
		m := &list[len(list)-1]
		switch {
		case word == "why":
			m.why = strings.TrimSpace(m.why + " " + rest)
		case word == "in":
			dir, afterNew = rest, true
		case line[0] == '-' && dir == "":
			return bad("no package before the text")
		case line[0] == '-' && afterNew:
			m.edits = append(m.edits, edit{dir: dir, old: line[1:]})
			afterNew = false
		case line[0] == '-':
			e := &m.edits[len(m.edits)-1]
			e.old += "\n" + line[1:]
		case line[0] == '+' && len(m.edits) > 0:
			e := &m.edits[len(m.edits)-1]
			if afterNew {
				e.new += "\n"
			}
			e.new += line[1:]
			afterNew = true
		case word == "test":
			pkg, test, ok := strings.Cut(rest, " ")
			if !ok {
				return bad("test PACKAGE NAME")
			}
			m.catch = catcher{pkg: pkg, test: test}
		case word == "seed":
			seed, events, _ := strings.Cut(rest, " ")
			s, err1 := strconv.ParseUint(seed, 10, 64)
			n, err2 := strconv.Atoi(events)
			if err1 != nil || err2 != nil || s == 0 {
				return bad("seed NUMBER EVENTS")
			}
			m.catch = catcher{pkg: simulator, seed: s, events: n}
		default:
			return bad("not a line of a mutation")
		}
	}
	for _, m := range list {
		if err := m.whole(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", m.origin, m.name, err)
		}
	}
	return list, nil
}

// whole checks that nothing of a mutation is missing.
func (m *mutation) whole() error {
	switch {
	case m.name == "" || strings.ContainsAny(m.name, " \t/"):
		return errors.New("a mutation has a name of one word")
	case m.why == "":
		return errors.New("it does not say why")
	case len(m.edits) == 0:
		return errors.New("it changes nothing")
	case m.catch.pkg == "":
		return errors.New("it names no test and no seed")
	}
	for _, e := range m.edits {
		if e.old == e.new || strings.TrimSpace(e.old) == "" {
			return fmt.Errorf("the text %q becomes %q", e.old, e.new)
		}
	}
	return nil
}

// A tree is the code that mutations are applied to.
type tree struct {
	root string
	code map[string][]source // of a directory
}

type source struct{ path, text string }

// files are the Go files of a package without its tests.
func (t *tree) files(dir string) ([]source, error) {
	if got, ok := t.code[dir]; ok {
		return got, nil
	}
	names, err := filepath.Glob(filepath.Join(t.root, dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []source
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, source{name, string(text)})
	}
	if t.code == nil {
		t.code = map[string][]source{}
	}
	t.code[dir] = all
	return all, nil
}

// apply gives the files that a mutation changes, as they are then. A text that is not there, or more than once, is an
// error: the entry is stale.
func (t *tree) apply(m mutation) (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		files, err := t.files(e.dir)
		if err != nil {
			return nil, err
		}
		found, in := 0, source{}
		for _, f := range files {
			if text, ok := changed[f.path]; ok {
				f.text = text
			}
			if n := strings.Count(f.text, e.old); n > 0 {
				found, in = found+n, f
			}
		}
		if found != 1 {
			return nil, fmt.Errorf("%s: the entry %s is stale: this text stands %d times in %s instead of once; give it the text of today\n%s",
				m.origin, m.name, found, e.dir, e.old)
		}
		changed[in.path] = strings.Replace(in.text, e.old, e.new, 1)
	}
	return changed, nil
}
