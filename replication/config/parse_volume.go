package config

import (
	"strconv"
	"strings"
)

// volumeField reads what follows device, disk, meta-disk or flexible-meta-disk.
func (p *parser) volumeField(v *volumeTree, key token) {
	switch key.text {
	case "device":
		p.device(v, key)
	case "disk":
		p.diskPath(v, key)
	default:
		p.metaDisk(v, key)
	}
}

// twice reports a statement that may stand once and already does, at first.
func (p *parser) twice(key token, first Position) {
	p.report.invalid(key.pos, "", "%s is given twice for this volume, first at %s", key.text, first)
}

// path reads an absolute path: the daemon's working directory is nobody's business.
func (p *parser) path(what string) (string, bool) {
	t, ok := p.name(what)
	if !ok {
		p.recover()
		return "", false
	}
	if !strings.HasPrefix(t.text, "/") || strings.IndexByte(t.text, 0) >= 0 {
		p.report.invalid(t.pos, "an absolute path is needed", "%q is not %s", t.text, what)
	}
	return t.text, true
}

func (p *parser) diskPath(v *volumeTree, key token) {
	if p.tok.is("none") {
		p.report.invalid(p.tok.pos, "give each host a disk", "a volume without a disk on one host is not served")
		p.recover()
		return
	}
	path, ok := p.path("a block device or file")
	if !ok {
		return
	}
	if v.disk != nil {
		p.twice(key, v.disk.pos)
	}
	v.disk = &pathTree{pos: key.pos, path: path}
	p.semicolon()
}

// metaDisk reads "internal", "DEV" and "DEV [N]".
func (p *parser) metaDisk(v *volumeTree, key token) {
	m := MetaDisk{Index: -1}
	if p.tok.is("internal") {
		m.Internal = true
		p.advance()
	} else {
		var ok bool
		if m.Device, ok = p.path("internal or a block device or file"); !ok {
			return
		}
		if key.is("meta-disk") && p.tok.is("[") {
			p.advance()
			if m.Index, ok = p.integer("index", 0, maxIndex); !ok {
				p.recover()
				return
			}
			if !p.tok.is("]") {
				p.expected(`"]"`, "")
				p.recover()
				return
			}
			p.advance()
		}
	}
	if v.meta != nil {
		p.twice(key, v.meta.pos)
	}
	v.meta = &metaTree{pos: key.pos, meta: m}
	p.semicolon()
}

// device reads "NAME", "minor N" and "NAME minor N".
func (p *parser) device(v *volumeTree, key token) {
	d := &deviceTree{pos: key.pos, minor: -1}
	if !p.tok.is("minor") {
		name, ok := p.name(`a device name or "minor N"`)
		if !ok {
			p.recover()
			return
		}
		d.name, d.pos = name.text, name.pos
	}
	if p.tok.is("minor") {
		p.advance()
		var ok bool
		if d.minor, ok = p.integer("minor", 0, maxMinor); !ok {
			p.recover()
			return
		}
	}
	if v.device != nil {
		p.twice(key, v.device.pos)
	}
	v.device = d
	p.nameDevice(d)
	p.semicolon()
}

// nameDevice completes a device that gave only its name or only its minor, and checks that both agree.
func (p *parser) nameDevice(d *deviceTree) {
	if d.name == "" {
		d.name = "/dev/ublkb" + strconv.Itoa(d.minor)
		return
	}
	if !strings.HasPrefix(d.name, "/") {
		d.name = "/dev/" + d.name
	}
	tail, ok := strings.CutPrefix(d.name, "/dev/drbd")
	if !ok {
		tail, ok = strings.CutPrefix(d.name, "/dev/ublkb")
	}
	if !ok || strings.Contains(tail, "/") {
		p.report.invalid(d.pos, "/dev/drbdN, /dev/ublkbN, minor N or /dev/drbd_NAME minor N", "%s: a device name begins with /dev/drbd or /dev/ublkb", d.name)
		return
	}
	number, err := strconv.Atoi(tail)
	numbered := err == nil && tail == strconv.Itoa(number)
	switch {
	case numbered && number > maxMinor:
		p.report.invalid(d.pos, "", "minor %d is out of range 0..%d", number, maxMinor)
	case numbered && d.minor >= 0 && number != d.minor:
		p.report.invalid(d.pos, "leave off the name or the number", "%s and minor %d contradict each other", d.name, d.minor)
	case numbered:
		d.minor = number
	case d.minor < 0:
		p.report.invalid(d.pos, "/dev/drbdN or /dev/drbd_NAME minor N", "%s names no minor", d.name)
	case !strings.HasPrefix(tail, "_"):
		p.report.invalid(d.pos, "mind the _: /dev/drbd_"+tail, "%s is neither a number nor a name behind /dev/drbd_ or /dev/ublkb_", d.name)
	}
}
