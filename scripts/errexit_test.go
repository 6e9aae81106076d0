package scripts_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"
)

// TestNegationsCount reads every shell script below scripts, also those that Go files hand to a guest: `! grep fault log` in the
// middle of one cannot fail, for `set -e` does not look at a negated command. `! grep fault log || exit 1` can, and so can the
// last command of a script, which is its exit code.
func TestNegationsCount(t *testing.T) {
	scripts := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch {
		case path == "errexit_test.go": // its examples
		case strings.HasSuffix(path, ".go"):
			for _, s := range shellTexts(t, path, text) {
				if pos, found := lostNegation(s.text); found {
					t.Errorf("%s: line %d of the script that begins here has a negation that cannot fail; write: ! COMMAND || exit 1", s.at, pos.Line())
				}
				scripts++
			}
		case bytes.HasPrefix(text, []byte("#!/bin/bash")), bytes.HasPrefix(text, []byte("#!/bin/sh")), bytes.HasPrefix(text, []byte("#!/usr/bin/env bash")):
			if pos, found := lostNegation(string(text)); found {
				t.Errorf("%s:%d: a negation that cannot fail; write: ! COMMAND || exit 1", path, pos.Line())
			}
			scripts++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if scripts < 10 {
		t.Errorf("only %d scripts with a negation were found", scripts)
	}
}

func TestLostNegation(t *testing.T) {
	for _, c := range []struct {
		script string
		lost   bool
	}{
		{"! grep x y", false},
		{"set -e\n! grep x y", false},
		{"! grep x y || exit 1; true", false},
		{"if ! grep x y; then exit 1; fi; true", false},
		{"until ! grep x y; do sleep 1; done; true", false},
		{"grep x y || ! grep y z", false},
		{"echo '! grep x y'; true", false},
		{"! grep x y; true", true},
		{"true\n! grep x y\ntrue", true},
		{"! grep 'x;y' z | cat; true", true},
		{"true && ! grep x y; true", true},
		{"for i in 1 2; do ! grep x $i; true; done", true},
		{"for i in 1 2; do ! grep x $i; done", true},
		{"(! grep x y; true)", true},
	} {
		if _, lost := lostNegation(c.script); lost != c.lost {
			t.Errorf("%q: lost %v", c.script, lost)
		}
	}
}

// lostNegation finds the first negated command whose failure nothing notices. A text that is no shell script has none.
func lostNegation(script string) (pos syntax.Pos, found bool) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil || len(file.Stmts) == 0 {
		return pos, false
	}
	heard := make(map[*syntax.Stmt]bool)
	hear := func(list []*syntax.Stmt) {
		for _, s := range list {
			heard[s] = true
		}
	}
	hear(file.Stmts[len(file.Stmts)-1:])
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Stmt:
			if n.Negated && !heard[n] && !found {
				pos, found = n.Pos(), true
			}
			if both, ok := n.Cmd.(*syntax.BinaryCmd); ok && (both.Op == syntax.AndStmt || both.Op == syntax.OrStmt) {
				heard[both.X] = heard[n] || both.Op == syntax.OrStmt
				heard[both.Y] = heard[n]
			}
		case *syntax.IfClause:
			hear(n.Cond)
		case *syntax.WhileClause:
			hear(n.Cond)
		}
		return true
	})
	return pos, found
}

// A shellText is what a Go file holds of a shell script with a negation, and where.
type shellText struct {
	at   token.Position
	text string
}

// shellTexts are the string constants of a Go file, sums as a whole, in which an exclamation mark stands like an operator.
func shellTexts(t *testing.T, path string, src []byte) (out []shellText) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, ok := constant(e)
		if ok && strings.Contains(text, "! ") {
			out = append(out, shellText{set.Position(e.Pos()), text})
		}
		return !ok
	})
	return out
}

// constant is the text of a string, or of a sum of strings, in which a word stands for what is no constant.
func constant(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		x, left := constant(e.X)
		y, right := constant(e.Y)
		if e.Op != token.ADD || !left && !right {
			return "", false
		}
		if !left {
			x = "word"
		}
		if !right {
			y = "word"
		}
		return x + y, true
	}
	return "", false
}
