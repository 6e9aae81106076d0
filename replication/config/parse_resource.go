package config

import (
	"slices"
	"strconv"
	"strings"
)

var resourceStatements = []string{"device", "disk", "floating", "flexible-meta-disk", "handlers", "ignore-on",
	"meta-disk", "net", "on", "options", "protocol", "startup", "syncer", "volume"}

// refusedStatements are words of the grammar that urbd does not serve; newer ones are in the table of suggest.go.
var refusedStatements = map[string]string{
	"stacked-on-top-of":      "stacked resources are not served",
	"proxy":                  "the external proxy is not served",
	"alternate-link-address": "only one address per host is served",
	"_this_host":             "this is the output of drbdsetup show, not a configuration",
	"_remote_host":           "this is the output of drbdsetup show, not a configuration",
}

func newResourceTree(pos Position, name string) *resourceTree {
	return &resourceTree{pos: pos, name: name, blocks: make(map[Section]Position), settings: make(map[Section][]setting)}
}

func (p *parser) common() {
	key := p.advance()
	r, before := newResourceTree(key.pos, ""), p.lost()
	p.block("common", func() {
		if !p.sectionOf(r) {
			p.statementUnknown("common { }", []string{"disk", "handlers", "net", "options", "protocol", "startup", "syncer"})
		}
	})
	r.broken = p.lost() > before
	if p.tree.common != nil {
		p.report.invalid(key.pos, "", "common stands twice, first at %s", p.tree.common.pos)
		return
	}
	p.tree.common = r
}

func (p *parser) resource() {
	before := p.lost()
	p.advance()
	name, ok := p.name("the name of a resource")
	if !ok {
		p.recover()
		return
	}
	r := newResourceTree(name.pos, name.text)
	p.checkName(name)
	p.block("resource "+name.text, func() { p.resourceStatement(r) })
	r.broken = p.lost() > before
	if first := p.names[name.text]; first != nil {
		p.report.invalid(name.pos, "", "resource %s stands twice, first at %s", name.text, first.pos)
		return
	}
	p.names[name.text] = r
	p.tree.resources = append(p.tree.resources, r)
}

// checkName keeps names usable as file names and as targets of the verbs.
func (p *parser) checkName(name token) {
	strange := strings.ContainsFunc(name.text, func(c rune) bool { return c >= 0x80 || !wordByte(byte(c)) || c == '/' })
	switch {
	case strange || len(name.text) > maxWord || strings.HasPrefix(name.text, ".") || strings.HasPrefix(name.text, "-"):
		p.report.invalid(name.pos, "letters, digits and . _ -, not beginning with . or -", "%q cannot be the name of a resource", name.text)
	case name.text == "all":
		p.report.invalid(name.pos, "", `"all" cannot be the name of a resource: the verbs take it for every resource`)
	}
}

func (p *parser) resourceStatement(r *resourceTree) {
	switch key := p.tok; {
	case p.sectionOf(r) || p.volumeStatement(&r.volumes):
	case key.is("on"):
		p.on(r)
	case key.is("floating"):
		p.floating(r)
	case key.is("ignore-on"):
		p.advance()
		host, ok := p.name("a host name")
		if !ok {
			p.recover()
			return
		}
		r.ignoreOn = append(r.ignoreOn, host.text)
		p.report.warn(Warning{Position: key.pos, Msg: "ignore-on is deprecated: give the resource no section for that host"})
		p.semicolon()
	default:
		p.statementUnknown("resource { }", resourceStatements)
	}
}

// statementUnknown reports a statement that is refused by name or unknown.
func (p *parser) statementUnknown(where string, known []string) {
	if reason := refusedStatements[p.tok.text]; reason != "" && p.tok.kind == bareWord {
		p.report.invalid(p.tok.pos, reason, "%s is refused", p.tok.text)
		p.advance()
		p.recover()
		return
	}
	p.unknown(where, elsewhereHint("", p.tok.text), known)
}

// sectionOf reads a section of options of a resource, or the old "protocol". False if tok is something else.
func (p *parser) sectionOf(r *resourceTree) bool {
	if p.tok.kind != bareWord {
		return false
	}
	switch section := Section(p.tok.text); section {
	case "protocol":
		if s, ok := p.option(NetSection); ok {
			r.settings[NetSection] = p.replace(r.settings[NetSection], s)
		}
	case DiskSection:
		return p.diskSection(r)
	case NetSection, OptionsSection, StartupSection, HandlersSection, syncerSection:
		p.section(r, section, p.advance())
	default:
		return false
	}
	return true
}

// section reads the { } behind its keyword. Old sections spread their options over the others.
func (p *parser) section(r *resourceTree, section Section, key token) {
	if first, twice := r.blocks[section]; twice {
		p.report.invalid(key.pos, "", "%s { } stands twice, first at %s", section, first)
	} else {
		r.blocks[section] = key.pos
	}
	for _, s := range p.options(section) {
		r.settings[s.opt.Section] = p.replace(r.settings[s.opt.Section], s)
	}
}

// replace adds a setting to a list; it takes the place of an earlier one of the same option, which 8.4 keeps as well, and
// applies the last one last.
func (p *parser) replace(list []setting, s setting) []setting {
	i := slices.IndexFunc(list, func(o setting) bool { return o.opt == s.opt })
	if i < 0 {
		return append(list, s)
	}
	list[i] = s
	p.report.warn(Warning{Position: s.pos, Msg: s.opt.Name + " is given twice, the last one wins"})
	return list
}

// diskSection tells "disk { }" from "disk DEVICE;", which it reads as well.
func (p *parser) diskSection(r *resourceTree) bool {
	key := p.advance()
	if p.tok.is("{") {
		p.section(r, DiskSection, key)
		return true
	}
	if r.name == "" {
		p.expected(`"{" after disk`, "common { } has options only")
		p.recover()
		return true
	}
	if v := p.implicit(&r.volumes, key); v != nil {
		p.diskPath(v, key)
	}
	return true
}

// integer reads a plain number within limits.
func (p *parser) integer(what string, min, max int) (int, bool) {
	n, err := strconv.Atoi(p.tok.text)
	if p.tok.kind != bareWord || err != nil && strings.Trim(p.tok.text, "0123456789") != "" {
		p.expected("a number for "+what, "")
		return 0, false
	}
	if err != nil || n < min || n > max {
		p.report.invalid(p.tok.pos, "", "%s %s is out of range %d..%d", what, p.tok.text, min, max)
		return 0, false
	}
	p.advance()
	return n, true
}
