package config

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
)

// everything uses every kind of value and every form of host, volume and metadata that is served.
const everything = `
global { usage-count no; minor-count 5; cmd-timeout-short 7; udev-always-use-vnr; }
common { net { timeout 42; verify-alg crc32c; } disk { size 10G; c-fill-target 3; } handlers { split-brain "echo \"a\\b\" | mail"; } }
resource "r0" {
  protocol A;
  net { sndbuf-size 512k; cram-hmac-alg sha1; shared-secret "a \"b\" \\"; no-tcp-cork; use-rle no; }
  options { cpu-mask ff; }
  startup { wfc-timeout 30; become-primary-on "disk" beta; }
  ignore-on gamma;
  volume 0 { device /dev/drbd_data minor 5; disk /dev/sdb; meta-disk "/dev/disk/by-path/pci-0:1"[3]; disk { al-extents 6007; } }
  on alpha "net" { address ipv6 [2001:db8::1]:7789; volume 7 { device minor 7; disk "/srv/a file"; meta-disk /dev/sdd; disk { md-flushes no; } } }
  floating ipv6 [2001:db8::2]:7789 { volume 7 { device /dev/ublkb9; disk /dev/sdc; meta-disk internal; } }
}
resource r1 { device drbd1; disk /dev/sde; flexible-meta-disk /dev/sdf; on alpha { address 192.0.2.1:1; } on beta { address ipv4 192.0.2.2:65535; } }
`

// TestDumpReads: a dump is a configuration that means the same and dumps the same.
func TestDumpReads(t *testing.T) {
	example, err := os.ReadFile("testdata/r0.res")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{everything, string(example), "", "resource r { }"} {
		cfg, err := Parse("f", []byte(text))
		if err != nil {
			if text == "resource r { }" {
				continue
			}
			t.Fatal(err)
		}
		again, err := Parse("f", []byte(dumped(t, cfg)))
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, dumped(t, cfg))
		}
		if a, b := stripped(cfg), stripped(again); !reflect.DeepEqual(a, b) {
			t.Errorf("read again:\n%s\nwas\n%s", show(b, nil), show(a, nil))
		}
		if a, b := uncommented(dumped(t, cfg)), uncommented(dumped(t, again)); a != b {
			t.Errorf("dumped again:\n%s\nwas\n%s", b, a)
		}
	}
}

// stripped is a configuration without its positions and warnings.
func stripped(cfg *Config) *Config {
	c := *cfg
	c.Warnings, c.Resources = nil, nil
	for _, r := range cfg.Resources {
		r := *r
		r.Pos = Position{}
		hosts := r.Hosts
		r.Hosts = nil
		for _, h := range hosts {
			h.Pos = Position{}
			volumes := h.Volumes
			h.Volumes = nil
			for _, v := range volumes {
				v.Pos = Position{}
				h.Volumes = append(h.Volumes, v)
			}
			r.Hosts = append(r.Hosts, h)
		}
		c.Resources = append(c.Resources, &r)
	}
	return &c
}

// uncommented is a dump without its comments, which name positions.
func uncommented(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

type brokenPipe struct{}

var errPipe = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errPipe }

func TestDumpReportsTheWriter(t *testing.T) {
	cfg, err := Parse("f", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	if err := Dump(brokenPipe{}, cfg); !errors.Is(err, errPipe) {
		t.Errorf("the error is %v", err)
	}
}
