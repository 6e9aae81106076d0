package vm

import (
	"slices"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	got := commandLine(Config{Name: "alpha", NICs: []NIC{{Address: "10.77.0.1/24"}, {}, {Address: "10.78.0.1/24"}}, KernelArgs: []string{"loglevel=7"}}, true)
	want := "console=ttyS0 quiet mitigations=off panic=-1 rig.name=alpha maxcpus=1 tsc=reliable rig.net=eth0:10.77.0.1/24,eth2:10.78.0.1/24 loglevel=7"
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
