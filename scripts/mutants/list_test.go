package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// No entry of the list is stale, and none is said twice.
func TestListFits(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	all, err := readList("list")
	if err != nil {
		t.Fatal(err)
	}
	tr := tree{root: root}
	for _, m := range all {
		if _, err := tr.apply(m); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(root, m.catch.pkg)); err != nil {
			t.Errorf("%s: %s: %v", m.origin, m.name, err)
		}
	}
	if len(all) < 80 {
		t.Errorf("%d mutations, there should be 80", len(all))
	}
}

func TestParseList(t *testing.T) {
	list, err := parseList("x.txt", `# comment
mutation one
why it breaks
why something
in a/b
-	if x {
-		y()
+	if false {
+		y()

-gone
test a/b TestOne/sub test

mutation two
why it breaks
in c
-x
+y
seed 7 3000
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []mutation{
		{name: "one", why: "it breaks something", origin: "x.txt:2", catch: catcher{pkg: "a/b", test: "TestOne/sub test"},
			edits: []edit{{"a/b", "\tif x {\n\t\ty()", "\tif false {\n\t\ty()"}, {"a/b", "gone", ""}}},
		{name: "two", why: "it breaks", origin: "x.txt:14", catch: catcher{pkg: simulator, seed: 7, events: 3000}, edits: []edit{{"c", "x", "y"}}},
	}
	if !slices.EqualFunc(list, want, func(a, b mutation) bool {
		return a.name == b.name && a.why == b.why && a.origin == b.origin && a.catch == b.catch && slices.Equal(a.edits, b.edits)
	}) {
		t.Errorf("%+v\nwant %+v", list, want)
	}
	if got := want[0].catch.args(); !slices.Equal(got, []string{"-test.v", "-test.run=^TestOne$/^sub test$"}) {
		t.Errorf("%q", got)
	}
}

func TestParseListRefuses(t *testing.T) {
	const head = "mutation m\nwhy w\n"
	for name, text := range map[string]string{
		"no name":        "mutation \nwhy w\nin a\n-x\ntest a T\n",
		"no why":         "mutation m\nin a\n-x\ntest a T\n",
		"no edit":        head + "test a T\n",
		"no package":     head + "-x\ntest a T\n",
		"no test":        head + "in a\n-x\n",
		"half a test":    head + "in a\n-x\ntest a\n",
		"no seed":        head + "in a\n-x\nseed 0 100\n",
		"nothing new":    head + "in a\n-x\n+x\ntest a T\n",
		"a stray line":   head + "in a\n-x\nfoo\ntest a T\n",
		"before the one": "in a\n",
	} {
		if list, err := parseList("x.txt", text); err == nil {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// A text has to be there once; the edits of one mutation follow each other.
func TestApply(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.go": "one two two", "b.go": "three", "b_test.go": "one three"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tr := tree{root: dir}
	got, err := tr.apply(mutation{edits: []edit{{".", "one", "1"}, {".", "three", "3"}, {".", "1 two", "x"}}})
	if err != nil || got[filepath.Join(dir, "a.go")] != "x two" || got[filepath.Join(dir, "b.go")] != "3" || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
	for _, old := range []string{"two", "four"} {
		if _, err := tr.apply(mutation{name: "name", edits: []edit{{".", old, "x"}}}); err == nil || !strings.Contains(err.Error(), "name is stale") {
			t.Errorf("%s: %v", old, err)
		}
	}
}

// The sample has others each day, and all of them in time.
func TestSampled(t *testing.T) {
	all := make([]mutation, 103)
	for i := range all {
		all[i].name = string(rune('A' + i))
	}
	seen := map[string]bool{}
	for day := range 11 {
		chosen := sampled(all, 10, day)
		if len(chosen) < 9 || len(chosen) > 10 {
			t.Errorf("day %d: %d", day, len(chosen))
		}
		for _, m := range chosen {
			seen[m.name] = true
		}
	}
	if len(seen) != len(all) {
		t.Errorf("%d of %d", len(seen), len(all))
	}
}
