package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// resolve turns the tree into a Config: inheritance, defaults, and what urbd serves. It reports and goes on, so the
// result is complete only if nothing was reported.
func resolve(t *tree, r *report) *Config {
	s := defaults()
	var written given
	if t.global != nil {
		written = s.apply(winners(t.global.settings), r)
	}
	cfg := &Config{Global: s.Global}
	cfg.Global.given = written
	common := t.common
	if common == nil {
		common = newResourceTree(Position{}, "")
	}
	checks := newClaims(r)
	for _, tree := range t.resources {
		if tree.broken || common.broken {
			continue
		}
		res := resolveResource(tree, common, r)
		cfg.Resources = append(cfg.Resources, res)
		checks.resource(res)
		if r.full() {
			break
		}
	}
	return cfg
}

// winners are the settings that hold: an option is taken from the first layer that has it
// (docs/drbd-metadata.md 9.2, Inheritance). A layer has each option once.
func winners(layers ...[]setting) []setting {
	var out []setting
	taken := make(map[*Option]bool)
	for _, layer := range layers {
		for _, s := range layer {
			if !taken[s.opt] {
				taken[s.opt] = true
				out = append(out, s)
			}
		}
	}
	return out
}

// apply stores settings in their fields and says of each what urbd does with it.
func (s *settings) apply(won []setting, r *report) (g given) {
	for _, w := range won {
		if w.wrong {
			continue
		}
		w.judge(r)
		if w.opt.Kind != Legacy {
			w.opt.put(s, w.value)
			g |= 1 << w.opt.bit
		}
	}
	return g
}

// judge warns about or refuses what urbd does not serve, by name.
func (s setting) judge(r *report) {
	o, serves := s.opt, s.opt.Status.Serves
	if o.Status.Verdict == Refused && serves == nil {
		serves = []string{o.plain(o.initial())}
	}
	if slices.Contains(serves, o.plain(s.value)) {
		return
	}
	switch o.Status.Verdict {
	case Noted, Warned:
		r.warn(Warning{Position: s.pos, Note: o.Status.Verdict == Noted, Msg: o.Name + ": " + o.Status.Reason})
	case Refused:
		hint := "remove the line"
		if serves[0] != "" {
			hint += " or write: " + o.Name + " " + serves[0] + ";"
		}
		r.invalid(s.at, hint, "%s %s is refused: %s", o.Name, o.plain(s.value), o.Status.Reason)
	}
}

func resolveResource(t, common *resourceTree, r *report) *Resource {
	res := &Resource{Name: t.name, Pos: t.pos, IgnoreOn: t.ignoreOn, Handlers: make(map[string]string), given: make(map[Section]given)}
	s := defaults()
	var won []setting
	for _, section := range []Section{NetSection, OptionsSection, StartupSection} {
		w := winners(t.settings[section], common.settings[section])
		res.given[section] = s.apply(w, r)
		won = append(won, w...)
	}
	res.Net, res.Options, res.Startup = s.Net, s.Options, s.Startup
	for _, h := range winners(t.settings[HandlersSection], common.settings[HandlersSection]) {
		if h.wrong {
			continue
		}
		h.judge(r)
		res.Handlers[h.opt.Name] = h.value.text
	}
	for _, h := range t.hosts {
		host := Host{Names: h.names, Floating: h.floating, Pos: h.pos, Address: resolveAddress(t, h, r)}
		if mixed(t, h, r) {
			return res
		}
		var disks []setting
		host.Volumes, disks = resolveVolumes(t, common, h, r)
		won = append(won, disks...)
		res.Hosts = append(res.Hosts, host)
	}
	checkResource(res, won, r)
	return res
}

// resolveAddress is the zero AddrPort if it had to report something.
func resolveAddress(t *resourceTree, h *hostTree, r *report) netip.AddrPort {
	a := h.address
	if a == nil {
		r.invalid(h.pos, "add: address A.B.C.D:PORT;", "the host section has no address")
		return netip.AddrPort{}
	}
	ip, err := netip.ParseAddr(a.text)
	switch {
	case err != nil || ip.Is4() != (a.family == "ipv4"):
		hint := "write the address, not the name, of the host: names are not looked up"
		switch {
		case err == nil:
			hint = "write: address ipv6 [" + a.text + "]:PORT;"
		case a.family == "ipv4" && strings.Trim(a.text, "0123456789.") == "":
			hint = "it is four numbers from 0 to 255"
		}
		r.invalid(a.pos, hint, "%q is not an %s address", a.text, a.family)
	case ip.Is4In6():
		r.invalid(a.pos, "write the IPv4 address", "%s is an IPv4 address in disguise", ip)
	case ip.IsUnspecified() || ip.IsMulticast() || ip == broadcast:
		r.invalid(a.pos, "give the address of one interface", "%s is not the address of a host", ip)
	case linkLocal(ip) && !interfaceName(ip.Zone()):
		r.invalid(a.pos, "add the name that the interface has on this host: address ipv6 ["+ip.WithZone("").String()+"%eth0]:PORT;",
			"%s is a link-local address, which says nothing without an interface", ip.WithZone(""))
	case ip.Zone() != "" && !linkLocal(ip):
		r.invalid(a.pos, "write: address ipv6 ["+ip.WithZone("").String()+"]:PORT;", "%s is not a link-local address: it takes no interface", ip.WithZone(""))
	default:
		return netip.AddrPortFrom(ip, uint16(a.port))
	}
	return netip.AddrPort{}
}

// broadcast is everybody on a link.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// linkLocal reports whether an address is one of those that every link has its own of.
func linkLocal(ip netip.Addr) bool { return ip.Is6() && ip.IsLinkLocalUnicast() }

// interfaceName reports whether a zone can be the name of an interface: at most 15 bytes, and not the number of one, which
// another boot may give to another.
func interfaceName(zone string) bool {
	if len(zone) == 0 || len(zone) > 15 || strings.Trim(zone, "0123456789") == "" {
		return false
	}
	return strings.IndexFunc(zone, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`/%[]{};"`, c) }) < 0
}

// mixed reports a resource that names volumes where its host does not, or the other way round.
func mixed(t *resourceTree, h *hostTree, r *report) bool {
	if len(h.volumes.list) == 0 || len(t.volumes.list) == 0 || (h.volumes.implicit == nil) == (t.volumes.implicit == nil) {
		return false
	}
	r.invalid(h.volumes.list[0].pos, "use volume N { } in both places", "the resource and the host section differ: one names volumes, the other does not")
	return true
}

// resolveVolumes merges the volumes of a host with those of its resource. The second result is the disk options
// that hold in any of them.
func resolveVolumes(t, common *resourceTree, h *hostTree, r *report) (out []Volume, won []setting) {
	outer := [][]setting{t.settings[DiskSection], common.settings[DiskSection]}
	for _, hv := range h.volumes.list {
		v, w := resolveVolume(hv, t.volumes.find(hv.number), outer, h, r)
		out, won = append(out, v), append(won, w...)
	}
	for _, rv := range t.volumes.list {
		if h.volumes.find(rv.number) == nil {
			v, w := resolveVolume(&volumeTree{pos: rv.pos, number: rv.number}, rv, outer, h, r)
			out, won = append(out, v), append(won, w...)
		}
	}
	slices.SortFunc(out, func(a, b Volume) int { return cmp.Compare(a.Number, b.Number) })
	return out, won
}

// resolveVolume takes each statement from the host's volume, else from the resource's. Options of the resource's
// volume have the lowest priority (docs/drbd-metadata.md 9.2, TRAP 17).
func resolveVolume(hv, rv *volumeTree, outer [][]setting, h *hostTree, r *report) (Volume, []setting) {
	if rv == nil {
		rv = &volumeTree{}
	}
	s := defaults()
	won := winners(hv.settings, outer[0], outer[1], rv.settings)
	v := Volume{Number: hv.number, Pos: hv.pos, given: s.apply(won, r), Options: s.Disk}
	var missing []string
	if d := cmp.Or(hv.device, rv.device); d != nil {
		v.Device, v.Minor = d.name, d.minor
	} else {
		missing = append(missing, "device")
	}
	if d := cmp.Or(hv.disk, rv.disk); d != nil {
		v.Disk = d.path
	} else {
		missing = append(missing, "disk")
	}
	if m := cmp.Or(hv.meta, rv.meta); m != nil {
		v.MetaDisk = m.meta
	} else {
		missing = append(missing, "meta-disk")
	}
	if missing != nil {
		add := map[string]string{"device": "device minor N;", "disk": "disk /dev/NAME;", "meta-disk": "meta-disk internal;"}
		hint := "add:"
		for _, m := range missing {
			hint += " " + add[m]
		}
		r.invalid(hv.pos, hint, "volume %d has no %s on %s", hv.number, strings.Join(missing, ", no "), h.label())
	}
	return v, won
}

// label names a host section in a message.
func (h *hostTree) label() string {
	if len(h.names) > 0 {
		return h.names[0]
	}
	return h.address.text
}
