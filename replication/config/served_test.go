package config

import (
	"go/ast"
	goparser "go/parser"
	gotoken "go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestServedOptionsAreRead: an option that is said to be served has a reader outside of this package. What nobody reads
// has no effect, and has to be refused or warned about.
func TestServedOptionsAreRead(t *testing.T) {
	read := selectors(t, "..", "../../cmd/urbd")
	var s settings
	for _, o := range Options("") {
		if o.Status.Verdict != Served {
			continue
		}
		if name := fieldName(&s, o.field(&s)); !read[name] {
			t.Errorf("%s is served, but nobody reads %s", o.Name, name)
		}
	}
}

// fieldName is the name of the field of s that p points to.
func fieldName(s *settings, p any) string {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		for j := range v.Field(i).NumField() {
			if f := v.Field(i).Type().Field(j); f.IsExported() && v.Field(i).Field(j).Addr().Interface() == p {
				return f.Name
			}
		}
	}
	return ""
}

// selectors are the names x in v.x of the Go files below dirs that are neither tests nor this package's.
func selectors(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	out := make(map[string]bool)
	visit := func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "config":
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := goparser.ParseFile(gotoken.NewFileSet(), name, nil, goparser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				out[s.Sel.Name] = true
			}
			return true
		})
		return nil
	}
	for _, dir := range dirs {
		if err := filepath.WalkDir(dir, visit); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
