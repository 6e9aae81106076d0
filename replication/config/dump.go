package config

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Dump prints a configuration in the form of drbdadm dump: what every resource ends up with, inheritance applied.
// Parsing the output gives the same resources again. It shows the shared secret. The error is the writer's.
func Dump(w io.Writer, cfg *Config) error {
	d := &dumper{w: bufio.NewWriter(w)}
	if cfg.Global.given != 0 {
		d.options("", GlobalSection, cfg.Global.given, &settings{Global: cfg.Global})
		d.line("", "")
	}
	for i, r := range cfg.Resources {
		if i > 0 {
			d.line("", "")
		}
		d.resource(r)
	}
	return d.w.Flush()
}

// A dumper indents; errors of the writer stick in it.
type dumper struct{ w *bufio.Writer }

const step = "    "

func (d *dumper) line(indent, format string, args ...any) {
	if format != "" {
		fmt.Fprintf(d.w, indent+format, args...)
	}
	d.w.WriteByte('\n')
}

func (d *dumper) resource(r *Resource) {
	d.line("", "# resource %s, defined at %s", r.Name, strings.ReplaceAll(r.Pos.String(), "\n", "?"))
	d.line("", "resource %s {", quote(r.Name))
	shared, same := sharedDisk(r)
	for i := range r.Hosts {
		d.host(&r.Hosts[i], !same)
	}
	for _, h := range r.IgnoreOn {
		d.line(step, "ignore-on %s;", quote(h))
	}
	s := &settings{Net: r.Net, Disk: shared.Options, Options: r.Options, Startup: r.Startup}
	d.options(step, OptionsSection, r.given[OptionsSection], s)
	d.options(step, NetSection, r.given[NetSection], s)
	if same {
		d.options(step, DiskSection, shared.given, s)
	}
	d.options(step, StartupSection, r.given[StartupSection], s)
	if len(r.Handlers) > 0 {
		d.line(step, "handlers {")
		for _, name := range slices.Sorted(maps.Keys(r.Handlers)) {
			d.line(step+step, "%-16s %s;", name, alwaysQuote(r.Handlers[name]))
		}
		d.line(step, "}")
	}
	d.line("", "}")
}

// sharedDisk reports whether one disk section speaks for all volumes on all hosts, and gives a volume that has it.
func sharedDisk(r *Resource) (Volume, bool) {
	var first *Volume
	for i := range r.Hosts {
		for j := range r.Hosts[i].Volumes {
			v := &r.Hosts[i].Volumes[j]
			if first == nil {
				first = v
			}
			if v.Options != first.Options || v.given != first.given {
				return Volume{}, false
			}
		}
	}
	if first == nil {
		return Volume{}, false
	}
	return *first, true
}

func (d *dumper) host(h *Host, disks bool) {
	address := showAddress(h.Address)
	if h.Floating {
		d.line(step, "floating %s {", address)
	} else {
		names := make([]string, len(h.Names))
		for i, n := range h.Names {
			names[i] = quote(n)
		}
		d.line(step, "on %s {", strings.Join(names, " "))
	}
	for _, v := range h.Volumes {
		d.volume(step+step, v, disks)
	}
	if !h.Floating {
		d.line(step+step, "%-16s %s;", "address", address)
	}
	d.line(step, "}")
}

func (d *dumper) volume(indent string, v Volume, disks bool) {
	d.line(indent, "volume %d {", v.Number)
	inner := indent + step
	d.line(inner, "%-16s %s minor %d;", "device", quote(v.Device), v.Minor)
	d.line(inner, "%-16s %s;", "disk", quote(v.Disk))
	switch m := v.MetaDisk; {
	case m.Internal:
		d.line(inner, "%-16s internal;", "meta-disk")
	case m.Index < 0:
		d.line(inner, "%-16s %s;", "meta-disk", quote(m.Device))
	default:
		d.line(inner, "%-16s %s [%d];", "meta-disk", quote(m.Device), m.Index)
	}
	if disks {
		d.options(inner, DiskSection, v.given, &settings{Disk: v.Options})
	}
	d.line(indent, "}")
}

// options prints a section, or nothing if nobody wrote any of it.
func (d *dumper) options(indent string, section Section, g given, s *settings) {
	if g == 0 {
		return
	}
	d.line(indent, "%s {", section)
	for _, o := range table {
		if o.Section == section && g.has(o) {
			d.option(indent+step, o, o.get(s))
		}
	}
	d.line(indent, "}")
}

// option prints one line. In global and startup drbdadm takes a flag without a value only.
func (d *dumper) option(indent string, o *Option, v value) {
	if o.Kind == Flag && v.n != 0 && (o.Section == GlobalSection || o.Section == StartupSection) {
		d.line(indent, "%s;", o.Name)
	} else {
		d.line(indent, "%-16s %s;", o.Name, o.show(v))
	}
}

// show is a value as the file spells it.
func (o *Option) show(v value) string {
	switch o.Kind {
	case Number:
		return formatNumber(o.Unit, v.n)
	case Text:
		return alwaysQuote(v.text)
	case List:
		names := make([]string, len(v.names))
		for i, n := range v.names {
			names[i] = quote(n)
		}
		return strings.Join(names, " ")
	default:
		return o.plain(v)
	}
}

func showAddress(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "ipv4 " + a.String()
	}
	return "ipv6 " + a.String()
}

// quote puts a name in quotes if it would not be read as one word.
func quote(s string) string {
	bare := s != "" && len(s) <= maxWord && !keywords[s]
	for i := 0; i < len(s); i++ {
		bare = bare && wordByte(s[i])
	}
	if bare {
		return s
	}
	return alwaysQuote(s)
}

// alwaysQuote is the string whose reading is s.
func alwaysQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
