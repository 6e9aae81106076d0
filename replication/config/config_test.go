package config

import (
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestTranscripts runs testdata/*.txt. Commands:
//
//	file name=N       keep the input as file N
//	load name=N...    load files kept earlier and show the result
//	parse             load the input alone and show the result
//	dump              load the input alone and dump it
//	local host=H addr=A,B peer=P resource=R   find the sides in what was loaded last
//
// A result is every typed value that differs from its default, or the errors; warnings follow.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, file string) {
		if !strings.HasSuffix(file, ".txt") {
			return
		}
		files := make(memory)
		var last *Config
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "file":
				var name string
				d.ScanArgs(t, "name", &name)
				files[name] = d.Input
				return ""
			case "load":
				arg, _ := d.Arg("name")
				cfg, err := Load(files.source(), arg.Vals...)
				last = cfg
				return show(cfg, err)
			case "parse":
				cfg, err := Parse("f", []byte(d.Input))
				last = cfg
				return show(cfg, err)
			case "dump":
				cfg, err := Parse("f", []byte(d.Input))
				if err != nil {
					return show(cfg, err)
				}
				return dumped(t, cfg)
			case "local":
				return local(t, d, last)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// memory is files that need no disk.
type memory map[string]string

func (m memory) source() Source {
	return Source{
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := m[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
		Glob: func(pattern string) (out []string, err error) {
			for name := range m {
				ok, err := path.Match(pattern, name)
				if err != nil {
					return nil, err
				}
				if ok {
					out = append(out, name)
				}
			}
			slices.Sort(out)
			return out, nil
		},
	}
}

func dumped(t testing.TB, cfg *Config) string {
	var b strings.Builder
	if err := Dump(&b, cfg); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func local(t *testing.T, d *datadriven.TestData, cfg *Config) string {
	var host, addrs, peer, name string
	d.MaybeScanArgs(t, "host", &host)
	d.MaybeScanArgs(t, "addr", &addrs)
	d.MaybeScanArgs(t, "peer", &peer)
	d.ScanArgs(t, "resource", &name)
	var ips []netip.Addr
	for _, a := range strings.Fields(strings.ReplaceAll(addrs, "+", " ")) {
		ips = append(ips, netip.MustParseAddr(a))
	}
	mine, other, err := cfg.Resource(name).Pair(host, ips, peer)
	if err != nil {
		return err.Error()
	}
	return mine.Name() + " -> " + other.Name()
}

// show prints errors, or resources by their values that differ from the defaults; then warnings.
func show(cfg *Config, err error) string {
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fields(&b, "global ", cfg.Global, defaults().Global)
	for _, r := range cfg.Resources {
		fmt.Fprintf(&b, "resource %s at %s\n", r.Name, r.Pos)
		fields(&b, "  net ", r.Net, DefaultNet())
		fields(&b, "  options ", r.Options, defaults().Options)
		fields(&b, "  startup ", r.Startup, defaults().Startup)
		for _, h := range slices.Sorted(func(yield func(string) bool) {
			for name := range r.Handlers {
				if !yield(name) {
					return
				}
			}
		}) {
			fmt.Fprintf(&b, "  handler %s: %s\n", h, r.Handlers[h])
		}
		for _, h := range r.Hosts {
			fmt.Fprintf(&b, "  host %q floating=%v %s at %s\n", h.Names, h.Floating, h.Address, h.Pos)
			for _, v := range h.Volumes {
				fmt.Fprintf(&b, "    volume %d minor=%d device=%s disk=%s meta=%+v\n", v.Number, v.Minor, v.Device, v.Disk, v.MetaDisk)
				fields(&b, "      disk ", v.Options, DefaultDisk())
			}
		}
		if len(r.IgnoreOn) > 0 {
			fmt.Fprintf(&b, "  ignored on %q\n", r.IgnoreOn)
		}
	}
	for _, w := range cfg.Warnings {
		level := "warning"
		if w.Note {
			level = "note"
		}
		fmt.Fprintf(&b, "%s: %s\n", level, w)
	}
	return b.String()
}

// fields prints the exported fields of a struct that differ from another one's.
func fields(b *strings.Builder, prefix string, got, base any) {
	g, d := reflect.ValueOf(got), reflect.ValueOf(base)
	for i := range g.NumField() {
		f := g.Type().Field(i)
		if !f.IsExported() || reflect.DeepEqual(g.Field(i).Interface(), d.Field(i).Interface()) {
			continue
		}
		v := g.Field(i).Interface()
		if s, ok := v.(Secret); ok {
			v = string(s)
		}
		fmt.Fprintf(b, "%s%s = %v\n", prefix, f.Name, v)
	}
}
