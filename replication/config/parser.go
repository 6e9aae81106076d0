package config

import (
	"slices"
	"strings"
)

// maxList is the longest List.
const maxList = 64

// A parser reads one file. It looks one token ahead: tok is not consumed yet. After an error it goes on behind the
// statement that had it, so that one run reports what is wrong in several places.
type parser struct {
	*loader
	lex  *lexer
	tok  token
	last token // the token before tok
}

// advance consumes tok.
func (p *parser) advance() token {
	p.last = p.tok
	if p.report.full() {
		p.tok = token{pos: p.last.pos, end: p.last.end}
	} else {
		p.tok = p.lex.next()
	}
	return p.last
}

// recover skips the rest of a broken statement: up to its semicolon or through its block. It stops before a brace
// that closes the block around it.
func (p *parser) recover() {
	for depth := 0; p.tok.kind != endOfFile; p.advance() {
		switch {
		case p.tok.is("{"):
			depth++
		case p.tok.is("}") && depth == 0:
			return
		case p.tok.is("}"):
			if depth--; depth == 0 {
				p.advance()
				return
			}
		case p.tok.is(";") && depth == 0:
			p.advance()
			return
		}
	}
}

// expected reports tok as something else than what has to stand here.
func (p *parser) expected(what, hint string) {
	if p.tok.kind != badToken {
		p.report.syntax(p.tok.pos, hint, "expected %s, found %s", what, p.tok.show())
	}
}

// semicolon ends a statement. A forgotten one is reported where it belongs, and a statement on the next line is
// not lost over it.
func (p *parser) semicolon() bool {
	if p.tok.is(";") {
		p.advance()
		return true
	}
	if p.tok.kind != badToken {
		p.report.syntax(p.last.end, "", `";" is missing after %s`, p.last.show())
	}
	if p.tok.pos.Line == p.last.end.Line {
		p.recover()
	}
	return false
}

// block reads { ... } and calls each for every statement in it; each consumes at least one token.
func (p *parser) block(what string, each func()) bool {
	open := p.tok
	if !p.tok.is("{") {
		p.expected(`"{" after `+what, "")
		p.recover()
		return false
	}
	p.advance()
	for !p.tok.is("}") {
		if p.tok.kind == endOfFile {
			p.report.syntax(open.pos, "", `"{" of %s is not closed`, what)
			return false
		}
		each()
	}
	p.advance()
	return true
}

// name reads a value that may be any text. A bare keyword is not one: 8.4 wants it in quotes, and nearly always
// a semicolon or a brace was forgotten.
func (p *parser) name(what string) (token, bool) {
	if p.tok.kind == bareWord && keywords[p.tok.text] {
		p.expected(what, `a keyword used as a name is written in double quotes`)
		return p.tok, false
	}
	if !p.tok.isText() || p.tok.text == "" {
		p.expected(what, "")
		return p.tok, false
	}
	return p.advance(), true
}

// unknown reports a statement that does not exist here and skips it.
func (p *parser) unknown(where, hint string, known []string) {
	if p.tok.kind == bareWord {
		if hint == "" && len(known) <= 16 {
			hint = "known here: " + strings.Join(known, ", ")
		}
		hint = hintFor(p.tok.text, known, hint)
		p.report.syntax(p.tok.pos, hint, "%s has no %s", where, p.tok.show())
	} else {
		p.expected("a statement of "+where, "")
	}
	if p.tok.kind != punctuation || p.tok.is(":") {
		p.advance()
	}
	p.recover()
}

var topStatements = []string{"common", "global", "include", "resource", "skip"}

// file reads the statements of the top level.
func (p *parser) file() {
	for p.advance(); p.tok.kind != endOfFile; {
		switch key := p.tok; {
		case key.is("global"):
			p.global()
		case key.is("common"):
			p.common()
		case key.is("resource"):
			p.resource()
		case key.is("skip"):
			p.skip()
		case key.is("include"):
			p.include()
		case key.is("}"):
			p.advance()
			p.report.syntax(key.pos, "", `"}" closes nothing`)
		default:
			p.unknown("the file", elsewhereHint("", key.text), topStatements)
		}
	}
}

// lost counts the errors over which statements were lost. A wrong value of an option is not one of them.
func (p *parser) lost() int { return len(p.report.errs) - p.values }

// skip ignores a block, whatever is in it: its text need not even be made of tokens.
func (p *parser) skip() {
	p.advance()
	if p.tok.kind == bareWord && !keywords[p.tok.text] || p.tok.kind == quotedString {
		p.advance()
	}
	open := p.tok
	if !open.is("{") {
		p.expected(`"{" after skip`, `skip { ... } or skip NAME { ... }`)
		p.recover()
		return
	}
	p.lex.report = new(report)
	for depth := 1; depth > 0 && p.tok.kind != endOfFile; {
		switch p.advance(); {
		case p.tok.is("{"):
			depth++
		case p.tok.is("}"):
			depth--
		}
	}
	p.lex.report = p.report
	if p.tok.kind == endOfFile {
		p.report.syntax(open.pos, "", `"{" of skip is not closed`)
	}
	p.advance()
}

func (p *parser) global() {
	key := p.advance()
	if p.tree.global != nil {
		p.report.invalid(key.pos, "", "global stands twice, first at %s", p.tree.global.pos)
	}
	b := &optionBlock{pos: key.pos, settings: p.options(GlobalSection)}
	if p.tree.global == nil {
		p.tree.global = b
	}
}

// options reads the { } of a section of options.
func (p *parser) options(section Section) []setting {
	var out []setting
	p.block(string(section), func() {
		if s, ok := p.option(section); ok {
			out = p.replace(out, s)
		}
	})
	return out
}

// option reads one line of a section.
func (p *parser) option(section Section) (setting, bool) {
	key := p.tok
	opt, negated := lookup(section, key.text)
	if key.kind != bareWord || opt == nil {
		p.unknown(string(section)+" { }", elsewhereHint(section, key.text), optionNames(section))
		return setting{}, false
	}
	p.advance()
	s := setting{opt: opt, pos: key.pos, at: p.tok.pos}
	args, ok := p.arguments(opt, key.text)
	if !ok {
		p.recover()
		return s, false
	}
	if len(args) == 0 {
		s.at = key.pos
	}
	if negated && len(args) > 0 {
		p.report.syntax(s.at, `write "`+opt.Name+` no;"`, "%s takes no value", key.text)
		p.recover()
		return s, false
	}
	p.semicolon()
	before := len(p.report.errs)
	s.value, ok = opt.read(args, s.at, p.report)
	p.values += len(p.report.errs) - before
	if file := s.pos.File; opt == byName[NetSection]["shared-secret"] && s.value.text != "" && !slices.Contains(p.secret, file) {
		p.secret = append(p.secret, file)
	}
	if negated {
		s.value.n = 0
	}
	s.wrong = !ok
	return s, true
}

// arguments reads as many values as the option takes.
func (p *parser) arguments(opt *Option, name string) (args []token, ok bool) {
	switch opt.Kind {
	case Flag, Legacy:
		if p.tok.isText() {
			args = append(args, p.advance())
		}
		return args, true
	case Text:
		if p.tok.kind == quotedString { // the empty string is a value here
			return append(args, p.advance()), true
		}
	case Word:
		if slices.Contains(opt.Words, p.tok.text) { // usage-count has keywords for values
			return append(args, p.advance()), true
		}
	}
	a, ok := p.name("a value for " + name)
	args = append(args, a)
	for ok && opt.Kind == List && !p.tok.is(";") {
		if len(args) == maxList {
			p.report.syntax(p.tok.pos, "", "%s has more than %d names", name, maxList)
			return args, false
		}
		a, ok = p.name("a name or \";\"")
		args = append(args, a)
	}
	return args, ok
}

// keywords are the words that 8.4 recognises everywhere.
var keywords = func() map[string]bool {
	out := map[string]bool{"yes": true, "no": true, "protocol": true, "minor": true, "internal": true}
	for _, words := range [][]string{topStatements, resourceStatements, hostStatements, volumeStatements} {
		for _, w := range words {
			out[w] = true
		}
	}
	for _, o := range table {
		out[o.Name] = true
	}
	return out
}()
