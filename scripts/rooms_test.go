// Package scripts_test holds rules about the whole source tree that no compiler knows.
package scripts_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/urbd/urbd"

// A room is one package, or with its subdirectories a tree of them.
type room struct {
	dir     string
	imports []string // the packages of urbd that its code may import
	pure    bool     // no I/O, goroutine, channel, lock, clock, logger or randomness
}

var (
	pureRooms = []string{"statemachine", "bitmap", "replication/wire", "replication/metadata", "replication/config", "replication/engine"}
	shell     = append([]string{"replication", "ublk/uring"}, pureRooms...)
)

// rooms is the import table. ARCHITECTURE.md says what each room is; a new package gets a row here first. Tests
// may import what they like.
var rooms = []room{
	{dir: "statemachine", pure: true},
	{dir: "bitmap", pure: true},
	{dir: "replication/wire", pure: true},
	{dir: "replication/metadata", imports: []string{"bitmap"}, pure: true},
	{dir: "replication/config", pure: true},
	{dir: "replication/engine", imports: pureRooms, pure: true},
	{dir: "replication", imports: append([]string{"ublk/uring"}, pureRooms...)},
	{dir: "replication/engine/enginetest", imports: []string{"replication/wire", "statemachine"}},
	{dir: "replication/wire/wiretest", imports: []string{"replication/wire"}},
	{dir: "replication/disktest", imports: shell},
	{dir: "replication/sim", imports: append([]string{"replication/disktest"}, shell...)},
	{dir: "ublk/internal/uapi"},
	{dir: "ublk/uring", imports: []string{"ublk/internal/uapi"}},
	{dir: "ublk", imports: []string{"ublk/uring", "ublk/internal/uapi"}},
	{dir: "ublk/ublktest", imports: []string{"ublk", "ublk/uring"}},
	{dir: "cmd/urbd", imports: append([]string{"ublk"}, shell...)},
	{dir: "scripts/...", imports: []string{"scripts/...", "replication/metadata", "statemachine"}},
}

// pureImports are the packages of Go that a pure room may import: they compute. Of sync only what computes a value
// once is allowed, of time only what has no clock, of fmt only what has no terminal.
var pureImports = []string{"bufio", "bytes", "cmp", "container/heap", "container/list", "crypto/hmac", "crypto/md5",
	"crypto/sha1", "crypto/sha256", "crypto/sha3", "crypto/sha512", "encoding/binary", "encoding/hex", "errors", "fmt", "hash",
	"hash/crc32", "io", "io/fs", "iter", "maps", "math", "math/bits", "net/netip", "path", "reflect", "slices", "sort",
	"strconv", "strings", "sync", "time", "unicode", "unicode/utf8", "unsafe"}

// impure are the parts of allowed packages that are not pure.
var impure = map[string]func(name string) bool{
	"time": func(name string) bool {
		return slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "LoadLocation", "Local"}, name)
	},
	"fmt": func(name string) bool {
		return strings.HasPrefix(name, "Print") || slices.Contains([]string{"Scan", "Scanf", "Scanln"}, name)
	},
	"sync": func(name string) bool {
		return !strings.HasPrefix(name, "OnceValue")
	},
}

// TestRooms walks the module and reports every file that breaks the table.
func TestRooms(t *testing.T) {
	root := ".."
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	visited := make(map[string]bool)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		visited[filepath.ToSlash(filepath.Dir(rel))] = true
		for _, problem := range inspect(filepath.ToSlash(rel), text) {
			t.Error(problem)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms[:5] {
		if !visited[r.dir] {
			t.Errorf("no code was found in %s: is the walk wrong?", r.dir)
		}
	}
}

// inspect is what is wrong with one file; name is its path in the module.
func inspect(name string, text []byte) (problems []string) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	say := func(at token.Pos, format string, args ...any) {
		problems = append(problems, fset.Position(at).String()+": "+fmt.Sprintf(format, args...))
	}
	r := roomOf(path.Dir(name))
	if r == nil {
		say(f.Package, "package %s is not in the import table of scripts/rooms_test.go", path.Dir(name))
		return problems
	}
	local := make(map[string]string) // name in this file to import path, for the packages with impure parts
	for _, spec := range f.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
			if !r.may(inside) {
				say(spec.Pos(), "%s may not import %s", r.dir, inside)
			}
			continue
		}
		if !r.pure {
			continue
		}
		if !slices.Contains(pureImports, imported) {
			say(spec.Pos(), "%s is pure and may not import %s", r.dir, imported)
		}
		as := path.Base(imported)
		if spec.Name != nil {
			as = spec.Name.Name
		}
		if impure[imported] != nil && as == "." {
			say(spec.Pos(), "%s is pure: import %s by its name", r.dir, imported)
		}
		local[as] = imported
	}
	if r.pure {
		inspectPure(f, r.dir, local, say)
	}
	return problems
}

// inspectPure looks for what no import gives away.
func inspectPure(f *ast.File, dir string, local map[string]string, say func(token.Pos, string, ...any)) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n.Pos(), "%s is pure: no go statement", dir)
		case *ast.ChanType:
			say(n.Pos(), "%s is pure: no channel", dir)
		case *ast.SelectStmt:
			say(n.Pos(), "%s is pure: no select", dir)
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			if bad := impure[local[x.Name]]; bad != nil && bad(n.Sel.Name) {
				say(n.Pos(), "%s is pure: no %s.%s", dir, local[x.Name], n.Sel.Name)
			}
		}
		return true
	})
}

// roomOf finds the row of a directory, nil if there is none.
func roomOf(dir string) *room {
	for i := range rooms {
		if matches(rooms[i].dir, dir) {
			return &rooms[i]
		}
	}
	return nil
}

func (r *room) may(dir string) bool {
	return slices.ContainsFunc(r.imports, func(allowed string) bool { return matches(allowed, dir) })
}

func matches(pattern, dir string) bool {
	tree, whole := strings.CutSuffix(pattern, "/...")
	return dir == tree || whole && strings.HasPrefix(dir, tree+"/")
}

// TestInspectCanFail shows inspect one breach of each rule, and code that breaks none.
func TestInspectCanFail(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"bitmap/a.go", `import "github.com/urbd/urbd/statemachine"`, "bitmap may not import statemachine"},
		{"replication/config/a.go", `import "github.com/urbd/urbd/bitmap"`, "may not import bitmap"},
		{"replication/metadata/a.go", `import "github.com/urbd/urbd/replication/wire"`, "may not import replication/wire"},
		{"replication/a.go", `import "github.com/urbd/urbd/ublk"`, "replication may not import ublk"},
		{"replication/a.go", `import "github.com/urbd/urbd/replication/sim"`, "may not import replication/sim"},
		{"ublk/a.go", `import "github.com/urbd/urbd/replication"`, "ublk may not import replication"},
		{"ublk/uring/a.go", `import u "github.com/urbd/urbd/ublk"`, "ublk/uring may not import ublk"},
		{"cmd/urbd/a.go", `import "github.com/urbd/urbd/replication/disktest"`, "may not import replication/disktest"},
		{"util/a.go", ``, "package util is not in the import table"},
		{"statemachine/a.go", `import "os"`, "may not import os"},
		{"statemachine/a.go", `import "net"`, "may not import net"},
		{"statemachine/a.go", `import "log/slog"`, "may not import log/slog"},
		{"statemachine/a.go", `import _ "math/rand/v2"`, "may not import math/rand/v2"},
		{"statemachine/a.go", `import "golang.org/x/sys/unix"`, "may not import golang.org/x/sys/unix"},
		{"statemachine/a.go", `import "sync"; var mu sync.Mutex`, "no sync.Mutex"},
		{"bitmap/a.go", `import "time"; var t = time.Now()`, "no time.Now"},
		{"bitmap/a.go", `import clock "time"; func f() { clock.Sleep(1) }`, "no time.Sleep"},
		{"bitmap/a.go", `import . "time"; var t = Now()`, "import time by its name"},
		{"bitmap/a.go", `import "fmt"; func f() { fmt.Println() }`, "no fmt.Println"},
		{"replication/wire/a.go", `func f() { go f() }`, "no go statement"},
		{"replication/engine/a.go", `type t struct{ c <-chan int }`, "no channel"},
		{"replication/engine/a.go", `func f() { select {} }`, "no select"},
		{"bitmap/a.go", `func {`, "expected"},

		{"statemachine/a.go", `import ("time"; "sync"; "fmt"); var d time.Duration; var x = sync.OnceValue(func() string { return fmt.Sprint(d) })`, ""},
		{"replication/engine/a.go", `import ("github.com/urbd/urbd/bitmap"; "github.com/urbd/urbd/statemachine")`, ""},
		{"replication/a.go", `import ("os"; "github.com/urbd/urbd/ublk/uring"); func f() { go f() }`, ""},
		{"scripts/vm/agent/a.go", `import "github.com/urbd/urbd/scripts/vm"`, ""},
		{"cmd/urbd/a.go", `import ("github.com/urbd/urbd/ublk"; "github.com/urbd/urbd/replication")`, ""},
	} {
		got := strings.Join(inspect(c.name, []byte("package p; "+c.text)), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s with %s: %q, want %q", c.name, c.text, got, c.want)
		}
	}
}
