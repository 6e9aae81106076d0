package scripts_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsNameWhatIsThere looks up what README.md, ARCHITECTURE.md and the pages of docs name: files of Go and tests in
// backquotes, and what they link to.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages in docs, %v", len(pages), err)
	}
	files, tests := treeOf(t, "..")
	for _, page := range append(pages, "../README.md", "../ARCHITECTURE.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, gone := range lacks(string(text), filepath.Dir(page), files, tests) {
			t.Errorf("%s names %s, which is not there", page[len("../"):], gone)
		}
	}
	wrong := "`engine/nothing.go`, `TestNothing`, [x](nothing.md), and `engine.go` with [y](README.md)"
	if got := lacks(wrong, "..", files, tests); len(got) != 3 {
		t.Errorf("of three names that mean nothing these are found: %v", got)
	}
}

var (
	docFile = regexp.MustCompile("`([a-z0-9_/.-]+\\.go)`")
	docTest = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	docLink = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	goTest  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)\(`)
)

// lacks are the names in a text that are not in the tree; links begin in dir.
func lacks(text, dir string, files, tests map[string]bool) (gone []string) {
	for _, m := range docFile.FindAllStringSubmatch(text, -1) {
		if !files["/"+m[1]] && !upstream[m[1]] {
			gone = append(gone, m[1])
		}
	}
	for _, m := range docTest.FindAllStringSubmatch(text, -1) {
		if !tests[m[1]] {
			gone = append(gone, m[1])
		}
	}
	for _, m := range docLink.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(dir, m[1])); err != nil {
			gone = append(gone, m[1])
		}
	}
	return gone
}

// upstream are files of the Go runtime that docs/ublk.md cites.
var upstream = map[string]bool{"runtime/proc.go": true, "runtime/signal_unix.go": true}

// treeOf are the files of Go below root, by every end of their path, and their tests.
func treeOf(t *testing.T, root string) (files, tests map[string]bool) {
	t.Helper()
	files, tests = map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		for rest := "/" + strings.TrimPrefix(path, root+"/"); rest != ""; {
			files[rest] = true
			_, after, ok := strings.Cut(rest[1:], "/")
			if rest = "/" + after; !ok {
				rest = ""
			}
		}
		if strings.HasSuffix(path, "_test.go") {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range goTest.FindAllStringSubmatch(string(text), -1) {
				tests[m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, tests
}

// TestReadmeBesideOtherStorage holds what README has people write into the configuration of others: LVM's filter is what the machines of the lab
// have, and multipath's pattern, an extended regular expression, means urbd's devices and no others.
func TestReadmeBesideOtherStorage(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	readme, lab := read("../README.md"), read("lab/systemd_rig_test.go")
	filter := regexp.MustCompile(`(?m)^ +(devices \{ global_filter = .*\})$`).FindStringSubmatch(readme)
	if filter == nil || !strings.Contains(lab, strings.ReplaceAll(filter[1], `"`, `\"`)) {
		t.Errorf("LVM's filter %q is tried nowhere", filter)
	}
	m := regexp.MustCompile("`devnode \"([^\"]*)\"`").FindStringSubmatch(readme)
	if m == nil {
		t.Fatal("README.md has no devnode for multipath's blacklist")
	}
	pattern, err := regexp.CompilePOSIX(m[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, ours := range map[string]bool{"ublkb0": true, "ublkb12": true, "ublkb3p1": true, "ublkc0": false, "sda": false, "vdb": false, "dm-0": false, "loop0": false, "xublkb0": false} {
		if pattern.MatchString(name) != ours {
			t.Errorf("multipath's devnode %s matches %s: %v", m[1], name, !ours)
		}
	}
}
