package config

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// A Source is how a configuration reaches its files. os.ReadFile and filepath.Glob fit.
type Source struct {
	ReadFile func(name string) ([]byte, error)      // need not read more than MaxTotal+1 bytes of a file
	Glob     func(pattern string) ([]string, error) // sorted; nil if nothing matches

	// Access gives the permissions and the owner of a file; with it, one that holds a secret and that others than root can read is warned
	// about. May be nil.
	Access func(name string) (mode fs.FileMode, uid uint32, err error)
}

// Bounds on what includes can pull in.
const (
	maxFiles = 1024
	MaxTotal = 4 << 20 // bytes in all files
)

// Load reads the files named and all that they include, and returns what they mean. A file is read once, however
// often it is named or included. The error is Errors, in the order of the text; a Config is returned only without.
func Load(src Source, files ...string) (*Config, error) {
	l := &loader{src: src, report: new(report), tree: new(tree), names: make(map[string]*resourceTree), seen: make(map[string]int)}
	for _, f := range files {
		l.load(Position{File: f}, path.Clean(f))
	}
	cfg := resolve(l.tree, l.report)
	l.guard()
	l.report.sort(l.seen)
	if err := l.report.err(); err != nil {
		return nil, err
	}
	cfg.Warnings = l.report.warnings
	return cfg, nil
}

// Parse is Load for one text that includes nothing; name stands in positions.
func Parse(name string, text []byte) (*Config, error) {
	only := func(file string) ([]byte, error) {
		if file != path.Clean(name) {
			return nil, fs.ErrNotExist
		}
		return text, nil
	}
	return Load(Source{ReadFile: only}, name)
}

// A loader reads files into one tree.
type loader struct {
	src    Source
	report *report
	tree   *tree
	names  map[string]*resourceTree
	seen   map[string]int // file to its turn
	secret []string       // files that hold one, in turn
	total  int            // bytes read
	values int            // errors that are about the value of an option
}

// load reads one file; from is who asks for it.
func (l *loader) load(from Position, file string) {
	if _, again := l.seen[file]; again || l.report.full() {
		return
	}
	if len(l.seen) >= maxFiles {
		l.report.invalid(from, "", "more than %d files", maxFiles)
		return
	}
	l.seen[file] = len(l.seen)
	text, err := l.src.ReadFile(file)
	if err != nil {
		l.report.unreadable(from, file, err)
		return
	}
	if l.total += len(text); l.total > MaxTotal {
		l.report.invalid(Position{File: file}, "", "the configuration is larger than %d bytes", MaxTotal)
		return
	}
	p := &parser{loader: l, lex: newLexer(file, string(text), l.report)}
	p.file()
}

// guard warns about secrets that others than root can read: its owner gives himself leave to.
func (l *loader) guard() {
	if l.src.Access == nil {
		return
	}
	for _, file := range l.secret {
		mode, uid, err := l.src.Access(file)
		if err != nil {
			continue
		}
		if mode.Perm()&0o044 != 0 {
			l.report.warn(Warning{Position: Position{File: file}, Msg: "holds a shared-secret and can be read by others than its owner: chmod 600 " + file})
		}
		if uid != 0 {
			l.report.warn(Warning{Position: Position{File: file}, Msg: fmt.Sprintf("holds a shared-secret and belongs to user %d, not to root: chown root %s", uid, file)})
		}
	}
}

// include reads `include "GLOB";`. The pattern is relative to the file it stands in. A plain name has to exist, a
// pattern may match nothing.
func (p *parser) include() {
	p.advance()
	t, ok := p.name("a file name or pattern")
	if !ok {
		p.recover()
		return
	}
	pattern := t.text
	if !path.IsAbs(pattern) {
		pattern = path.Join(path.Dir(p.lex.pos.File), pattern)
	}
	if p.semicolon(); !strings.ContainsAny(t.text, "*?[") {
		p.load(t.pos, path.Clean(pattern))
		return
	}
	if p.src.Glob == nil {
		p.report.invalid(t.pos, "", "no pattern can be followed here")
		return
	}
	matches, err := p.src.Glob(pattern)
	if err != nil {
		p.report.invalid(t.pos, "", "%s is not a pattern: %v", pattern, err)
		return
	}
	for _, m := range matches {
		p.load(t.pos, path.Clean(m))
	}
}
