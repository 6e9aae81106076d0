package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// statusLine is a status of r0 with one volume.
func statusLine(conn, repl, disk, peerDisk string, more string) string {
	return fmt.Sprintf(`{"name":"r0","role":"Primary","devices":[{"volume":0,"disk-state":%q,"size":1024}],`+
		`"connections":[{"name":"beta","connection-state":%q,"peer-role":"Secondary","peer_devices":[`+
		`{"volume":0,"replication-state":%q,"peer-disk-state":%q%s}]}]}`, disk, conn, repl, peerDisk, more)
}

func details(percentLeft int) string {
	return fmt.Sprintf(`,"out-of-sync":%d,"rs-total":20480,"db0/dt0 [MiB/s]":2.5,"estimated-seconds-to-finish":65`, 10240*percentLeft/100)
}

func TestWaitConnect(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events []string
		code   int
		says   string
	}{
		{"comes", []string{statusLine("Connecting", "Off", "UpToDate", "DUnknown", ""), statusLine("Connected", "SyncSource", "UpToDate", "Inconsistent", "")}, 0, ""},
		{"nobody looks", []string{statusLine("StandAlone", "Off", "UpToDate", "DUnknown", "")}, 11, "urbd: r0: it is StandAlone, nobody looks for the peer; start that with: urbd connect r0\n"},
		{"daemon ends", []string{statusLine("Connecting", "Off", "UpToDate", "DUnknown", "")}, 10, "r0 is not up"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.listen("r0", &fakeControl{events: tt.events})
			b.want("wait-connect r0", tt.code, "", tt.says)
		})
	}
}

// TestWaitConnectGoesByTheConfiguration that the daemon runs with, unless the command line says something else.
func TestWaitConnectGoesByTheConfiguration(t *testing.T) {
	b := newBench(t)
	b.listen("r0", &fakeControl{hold: true, status: `{"name":"r0","wait-seconds":1}`, events: []string{statusLine("Connecting", "Off", "UpToDate", "DUnknown", "")}})
	b.want("wait-connect r0", 5, "", "the time is up: the state is Primary Connecting Off")
	b.listen("r1", &fakeControl{hold: true, status: `{"name":"r1","wait-seconds":1}`})
	b.want("wait-connect r1", 5, "", "the time is up: the daemon has not answered; for more: urbd status r1")
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if got := b.urbdContext(ctx, "wait-connect r0 --wfc-timeout 0"); ctx.Err() == nil {
		t.Errorf("it has not waited for ever: %+v", got)
	}
}

func TestWaitSync(t *testing.T) {
	sync := func(left int) string {
		return statusLine("Connected", "SyncSource", "UpToDate", "Inconsistent", details(left))
	}
	done := statusLine("Connected", "Established", "UpToDate", "UpToDate", "")
	for _, tt := range []struct {
		name   string
		events []string
		code   int
		says   string
	}{
		{"nothing to do", []string{done}, 0, ""},
		{"runs", []string{sync(100), sync(95), sync(50), sync(49), done}, 0,
			"r0: SyncSource 0% 2.5 MiB/s, 0:01:05 left\nr0: SyncSource 50% 2.5 MiB/s, 0:01:05 left\nr0: in sync\n"},
		{"has ended", []string{statusLine("Connected", "Established", "UpToDate", "UpToDate", details(0))}, 0, ""},
		{"is cut and goes on", []string{sync(60), statusLine("Connecting", "Off", "UpToDate", "DUnknown", ""), sync(10), done}, 0,
			"r0: SyncSource 40% 2.5 MiB/s, 0:01:05 left\nr0: SyncSource 90% 2.5 MiB/s, 0:01:05 left\nr0: in sync\n"},
		{"never starts", []string{statusLine("Connected", "Established", "Inconsistent", "Inconsistent", "")}, 5, "choose the source with: urbd primary --force r0"},
		{"split brain", []string{sync(60), statusLine("StandAlone", "Off", "UpToDate", "DUnknown", "")}, 11, "it is StandAlone"},
		{"outdated", []string{statusLine("Connected", "Established", "Outdated", "UpToDate", "")}, 5, "volume 0 is Outdated/UpToDate and no resync runs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.listen("r0", &fakeControl{events: tt.events})
			b.want("wait-sync r0", tt.code, "", tt.says)
		})
	}
}

func TestTheMeterDrawsABarOnATerminal(t *testing.T) {
	var out strings.Builder
	m := newMeter(&out, "r0", true)
	for _, left := range []int64{1000, 400, 0} {
		m.show(resync{state: "SyncTarget", total: 1000, left: left, rate: 3 << 20, eta: 61e9})
	}
	m.end(true)
	for _, part := range []string{"r0 SyncTarget 3.0 MiB/s, 0:01:01 left", "  0% [", " 60% [", "r0 in sync 100% ["} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the bar has no %q:\n%q", part, out.String())
		}
	}
}
