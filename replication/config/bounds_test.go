package config

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestBounded: a large file of anything ends, reports a bounded list and takes memory in proportion to its size.
func TestBounded(t *testing.T) {
	const size = 1 << 18
	for _, c := range []struct{ head, again string }{
		{"", "{"}, {"", "}"}, {"", ";"}, {"", "["}, {"", "[:: "}, {"", `"`}, {"", "#"}, {"", "x"}, {"", "x "}, {"", "\xff"}, {"", "a;"},
		{"skip {", "{ ' "},
		{"", "include x;"},
		{"", "global { }"},
		{"common { net {", "use-rle;"},
		{"common { net {", "hold-off-threshold 3;"},
		{"resource r {", "protocol C;"},
		{"resource r {", "volume 1 { }"},
		{"resource r {", "on a { }"},
		{"resource r {", "on a { address 192.0.2.1:1; "},
		{"resource r {", "ignore-on a;"},
		{"resource r { on ", "a "},
		{"resource r { startup { become-primary-on ", "a "},
		{"", "resource r { } "},
		{`resource r { net { shared-secret "`, `\\`},
	} {
		text := []byte(c.head + strings.Repeat(c.again, size/len(c.again)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cfg, err := Parse("f", text)
		runtime.ReadMemStats(&after)
		var all Errors
		if errors.As(err, &all) && len(all) > maxErrors {
			t.Errorf("%s %s...: %d errors", c.head, c.again, len(all))
		}
		if cfg != nil && len(cfg.Warnings) > maxWarnings+1 {
			t.Errorf("%s %s...: %d warnings", c.head, c.again, len(cfg.Warnings))
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 64*size {
			t.Errorf("%s %s...: %d bytes allocated for %d", c.head, c.again, got, size)
		}
	}
}

// TestTooMuch: what is larger than a configuration can be is refused with a place.
func TestTooMuch(t *testing.T) {
	files := memory{"big": strings.Repeat("#", MaxTotal+1)}
	var many strings.Builder
	for i := range maxFiles {
		name := "f" + strconv.Itoa(i)
		files[name] = "# empty"
		many.WriteString("include " + name + ";\n")
	}
	files["many"] = many.String() + "include last;"
	files["last"] = ""
	for _, c := range []struct{ name, want string }{
		{"big", "big: the configuration is larger than 4194304 bytes"},
		{"many", "many:1024:9: more than 1024 files"},
	} {
		_, err := Load(files.source(), c.name)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %.200v", c.name, err)
		}
	}
	var hosts, volumes strings.Builder
	for i := range maxHosts + 1 {
		hosts.WriteString("on h" + strconv.Itoa(i) + " { address 192.0.2.1:1; }\n")
	}
	for i := range maxCount + 1 {
		volumes.WriteString("volume " + strconv.Itoa(i) + " { }\n")
	}
	for _, c := range []struct{ text, want string }{{hosts.String(), "more than 8 host sections"}, {volumes.String(), "more than 256 volumes"}} {
		if _, err := Parse("f", []byte("resource r { "+c.text+" }")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}
