package vm

import (
	"slices"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	got := commandLine(Config{Name: "alpha", NICs: []NIC{{Address: "10.77.0.1/24"}, {}, {Address: "10.78.0.1/24"}}, KernelArgs: []string{"loglevel=7"}}, true, 2600000)
	want := "console=ttyS0 quiet mitigations=off panic=-1 rig.name=alpha maxcpus=1 tsc=reliable no_timer_check cryptomgr.notests init_on_alloc=0 tsc_early_khz=2600000 rig.net=eth0:10.77.0.1/24,eth2:10.78.0.1/24 loglevel=7"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPathsWithCommasStayPaths(t *testing.T) {
	args := Disk{Path: "/a,readonly=on", Cache: Direct}.args(1, "")
	if !slices.Contains(args, "if=none,id=disk1,format=raw,discard=unmap,cache=none,file=/a,,readonly=on") {
		t.Errorf("%q", args)
	}
	if args := (NIC{Wire: "/w,x", Listen: true}).args(0); !strings.Contains(args[1], "addr.path=/w,,x,server=on") {
		t.Errorf("%q", args)
	}
}

func TestProcessorFlags(t *testing.T) {
	for text, want := range map[string]bool{
		"processor\t: 0\nflags\t\t: fpu vmx sse\n": true, "flags\t\t: fpu svm\n": true,
		"flags\t\t: fpu hypervisor\nvmx flags\t: vnmi\n": false, "": false,
	} {
		if hasVirtualisation(text) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
}

func TestTimeStampCounter(t *testing.T) {
	for text, want := range map[string]int{
		"flags\t\t: fpu tsc tsc_known_freq sse\ncpu MHz\t\t: 2600.125\n": 2600125,
		"flags\t\t: fpu tsc constant_tsc sse\ncpu MHz\t\t: 800.000\n":    0, // what it runs at now
		"flags\t\t: fpu tsc_known_freq\n":                                0,
		"":                                                               0,
	} {
		if got := parseTSC(text); got != want {
			t.Errorf("%q: %d kHz, want %d", text, got, want)
		}
	}
}

func TestParseKernel(t *testing.T) {
	for _, k := range Kernels {
		if got, err := ParseKernel(string(k)); got != k || err != nil {
			t.Errorf("%s: %s, %v", k, got, err)
		}
	}
	if _, err := ParseKernel("5.10"); err == nil {
		t.Error("5.10 was accepted")
	}
}
