package config

import "slices"

// Ranges of identifiers. Source: docs/drbd-metadata.md 9.1; the numbers of hosts and volumes are ours.
const (
	maxVolume = 65534
	maxMinor  = 1048575
	maxPort   = 65535
	maxIndex  = 1 << 20 // slots of 128 MiB
	maxHosts  = 8
	maxNames  = 8   // of one host
	maxCount  = 256 // volumes of one level
)

var (
	families         = []string{"ipv4", "ipv6", "ssocks", "sdp", "sci"}
	hostStatements   = []string{"address", "device", "disk", "flexible-meta-disk", "meta-disk", "volume"}
	volumeStatements = []string{"device", "disk", "flexible-meta-disk", "meta-disk"}
)

// on reads "on HOST [HOST...] { }".
func (p *parser) on(r *resourceTree) {
	key := p.advance()
	h := &hostTree{pos: key.pos}
	for !p.tok.is("{") || len(h.names) == 0 {
		host, ok := p.name("a host name")
		if !ok {
			p.recover()
			return
		}
		h.names = append(h.names, host.text)
	}
	if len(h.names) > maxNames {
		p.report.invalid(key.pos, "", "more than %d names for one host", maxNames)
		h.names = h.names[:maxNames]
	}
	p.block("on "+h.names[0], func() { p.hostStatement(h) })
	p.addHost(r, h)
}

// floating reads "floating ADDRESS { }" and "floating ADDRESS;".
func (p *parser) floating(r *resourceTree) {
	key := p.advance()
	h := &hostTree{pos: key.pos, floating: true}
	if h.address = p.addressValue(); h.address == nil {
		p.recover()
		return
	}
	if p.tok.is(";") {
		p.advance()
	} else {
		p.block("floating", func() { p.hostStatement(h) })
	}
	p.addHost(r, h)
}

func (p *parser) addHost(r *resourceTree, h *hostTree) {
	if len(r.hosts) == maxHosts {
		p.report.invalid(h.pos, "", "more than %d host sections in resource %s", maxHosts, r.name)
		return
	}
	r.hosts = append(r.hosts, h)
}

func (p *parser) hostStatement(h *hostTree) {
	switch key := p.tok; {
	case p.volumeStatement(&h.volumes):
	case key.is("disk"):
		p.advance()
		if p.tok.is("{") {
			p.report.invalid(key.pos, "put it into volume N { } of this host, or into the resource", "disk { } cannot stand directly in a host section")
			p.recover()
		} else if v := p.implicit(&h.volumes, key); v != nil {
			p.diskPath(v, key)
		}
	case key.is("address"):
		p.advance()
		if h.address != nil {
			p.report.invalid(key.pos, "", "the address is given twice, first at %s", h.address.pos)
		}
		a := p.addressValue()
		if a == nil {
			p.recover()
			return
		}
		h.address = a
		p.semicolon()
	case key.is("options"):
		p.report.invalid(key.pos, "move it into the resource", "options { } of a single host are not served yet")
		p.advance()
		p.recover()
	default:
		p.statementUnknown("a host section", hostStatements)
	}
}

// addressValue reads "[FAMILY] ADDR:PORT" up to the semicolon or brace.
func (p *parser) addressValue() *addressTree {
	a := &addressTree{pos: p.tok.pos, family: "ipv4"}
	if slices.Contains(families, p.tok.text) {
		a.family = p.advance().text
	}
	switch {
	case a.family != "ipv4" && a.family != "ipv6":
		p.report.invalid(a.pos, "ipv4 and ipv6 are", "address family %s is not served", a.family)
		return nil
	case p.tok.kind == bracketed && a.family == "ipv4":
		p.report.syntax(p.tok.pos, "write: address ipv6 ["+p.tok.text+"]:PORT;", "an IPv6 address needs the word ipv6 before it")
		return nil
	case a.family == "ipv6" && p.tok.kind != bracketed:
		p.expected("an IPv6 address in brackets", "ipv6 [ADDR]:PORT")
		return nil
	case p.tok.kind != bracketed && !p.tok.isText():
		p.expected("an address", "A.B.C.D:PORT or ipv6 [ADDR]:PORT")
		return nil
	}
	a.pos, a.text = p.tok.pos, p.advance().text
	if !p.tok.is(":") {
		hint := "the port is required: " + a.text + ":7789"
		if p.last.kind == quotedString {
			hint = "an address is written without quotes"
		}
		p.report.syntax(p.last.end, hint, `":PORT" is missing after the address`)
		return nil
	}
	p.advance()
	var ok bool
	a.port, ok = p.integer("port", 1, maxPort)
	if !ok {
		return nil
	}
	return a
}

// volumeStatement reads what may stand in a host and in a resource alike: "volume N { }" and the statements of the
// implicit volume 0 except disk. False if tok is something else.
func (p *parser) volumeStatement(set *volumeSet) bool {
	switch key := p.tok; {
	case key.is("volume"):
		p.volume(set)
	case key.kind == bareWord && key.text != "disk" && slices.Contains(volumeStatements, key.text):
		p.advance()
		if v := p.implicit(set, key); v != nil {
			p.volumeField(v, key)
		}
	default:
		return false
	}
	return true
}

// implicit is the volume 0 that is meant where no volume is named. Nil, the statement skipped, if the level has
// explicit volumes.
func (p *parser) implicit(set *volumeSet, key token) *volumeTree {
	if set.implicit != nil {
		return set.implicit
	}
	if len(set.list) > 0 {
		p.report.invalid(key.pos, "move it into volume 0 { }", "%s outside of a volume, beside volume %d { }", key.text, set.list[0].number)
		p.recover()
		return nil
	}
	set.implicit = &volumeTree{pos: key.pos}
	set.list = append(set.list, set.implicit)
	return set.implicit
}

func (p *parser) volume(set *volumeSet) {
	key := p.advance()
	number, ok := p.integer("volume", 0, maxVolume)
	if !ok {
		p.recover()
		return
	}
	v := &volumeTree{pos: key.pos, number: number}
	p.block("volume", func() { p.volumeBlockStatement(v) })
	switch first := set.find(number); {
	case set.implicit != nil:
		p.report.invalid(key.pos, "put everything into volume N { }", "volume %d { } beside %s outside of a volume", number, "device, disk or meta-disk")
	case first != nil:
		p.report.invalid(key.pos, "", "volume %d stands twice, first at %s", number, first.pos)
	case len(set.list) == maxCount:
		p.report.invalid(key.pos, "", "more than %d volumes", maxCount)
	default:
		set.list = append(set.list, v)
	}
}

func (p *parser) volumeBlockStatement(v *volumeTree) {
	key := p.tok
	if key.kind != bareWord || !slices.Contains(volumeStatements, key.text) {
		p.statementUnknown("volume { }", volumeStatements)
		return
	}
	p.advance()
	if !key.is("disk") || !p.tok.is("{") {
		p.volumeField(v, key)
		return
	}
	if v.diskBlock != nil {
		p.report.invalid(key.pos, "", "disk { } stands twice, first at %s", *v.diskBlock)
	}
	v.diskBlock = &key.pos
	v.settings = append(v.settings, p.options(DiskSection)...)
}
