package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication"
)

func TestStatusAsksEverySocket(t *testing.T) {
	b := newBench(t)
	b.run = filepath.Join(b.run, "[a-z]*") // no pattern
	if err := os.Mkdir(b.run, 0o755); err != nil {
		t.Fatal(err)
	}
	b.want("status", 0, "", "no resource is up")
	b.want("status --watch", 10, "", "urbd: no resource is up; start one with: urbd up RES\n")
	b.listen("r0", &fakeControl{status: `{"name":"r0","role":"Primary","devices":[{"volume":0,"disk-state":"UpToDate"}]}`})
	b.listen("other", &fakeControl{status: `{"name":"other","role":"Secondary","devices":[]}`})
	if err := os.WriteFile(replication.SocketPath(b.run, "dead"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const want = "other role:Secondary\n\nr0 role:Primary\n  disk:UpToDate\n\n"
	for _, line := range []string{"status", "status all"} {
		if got := b.urbd(line); got.out != want || line == "status" && got.code != 0 {
			t.Errorf("urbd %s: %d %q %q", line, got.code, got.out, got.err)
		}
	}
	b.want("status r0 --color=always", 0, "\x1b[32mPrimary", "")
	b.want("status r0 --color=sometimes", 1, "", "write auto, always or never")
	b.want("status r1", 10, "", "r1 is not up")
	b.want("status r0/7", 1, "", "urbd: r0 is up without a volume 7\n")
	b.want("status r0/0", 0, "disk:UpToDate", "")
}

// TestStatusBesideADaemonThatHangs: it is named, and the others are shown.
func TestStatusBesideADaemonThatHangs(t *testing.T) {
	b := newBench(t)
	hangs := &fakeControl{}
	hangs.mu.Lock()
	b.listen("r0", hangs)
	t.Cleanup(hangs.mu.Unlock)
	b.listen("r1", &fakeControl{status: `{"name":"r1","role":"Secondary","devices":[]}`})
	for _, line := range []string{"status --timeout 1", "status --timeout 1 r0 r1"} {
		b.want(line, exitSystem, "r1 role:Secondary", "r0: status has not ended in time")
	}
}

// Users of a device who have outlived their daemon, and how to end it, are in the status.
func TestStatusNamesUsersThatWereLeft(t *testing.T) {
	for users, next := range map[string]string{"waiting": "urbd secondary r0", "refused": "Unmount /dev/ublkb0"} {
		b := newBench(t)
		b.listen("r0", &fakeControl{status: `{"name":"r0","role":"Secondary","devices":[{"volume":0,"disk-state":"UpToDate","path":"/dev/ublkb0","users":"` + users + `"}]}`})
		b.want("status r0", 0, "users:"+users, "")
		b.want("status r0", 0, next, "")
	}
}

func TestStatusJSON(t *testing.T) {
	b := newBench(t)
	if got := b.urbd("status --json"); got.out != "[]\n" || got.code != 0 {
		t.Errorf("nothing is up: %+v", got)
	}
	b.listen("r0", &fakeControl{status: `{"name":"r0","role":"Primary","devices":[{"volume":0,"disk-state":"UpToDate"},{"volume":1,"disk-state":"Failed"}],
		"connections":[{"name":"beta","peer_devices":[{"volume":0,"percent-in-sync":12.5},{"volume":1}]}]}`})
	got := b.urbd("status --json r0/1")
	var all []map[string]any
	if err := json.Unmarshal([]byte(got.out), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %+v", err, got)
	}
	devices := all[0]["devices"].([]any)
	peers := all[0]["connections"].([]any)[0].(map[string]any)["peer_devices"].([]any)
	if len(devices) != 1 || devices[0].(map[string]any)["disk-state"] != "Failed" || len(peers) != 1 {
		t.Errorf("status of r0/1: %s", got.out)
	}
	for _, key := range []string{"node-id", "suspended-no-data", "force-io-failures", "write-ordering"} {
		if _, ok := all[0][key]; !ok {
			t.Errorf("the key %q is missing: %s", key, got.out)
		}
	}
}

func TestStatusWatchPrintsEveryChange(t *testing.T) {
	b := newBench(t)
	b.listen("r0", &fakeControl{events: []string{
		statusLine("Connecting", "Off", "UpToDate", "DUnknown", ""),
		statusLine("Connected", "Established", "UpToDate", "UpToDate", ""),
	}})
	got := b.urbd("status --watch r0")
	if strings.Count(got.out, "r0 role:Primary") != 2 || !strings.Contains(got.out, "beta connection:Connecting") || !strings.Contains(got.out, "peer-disk:UpToDate") {
		t.Errorf("out: %s", got.out)
	}
	if got.code != 0 || got.err != "urbd: r0: is down\n" {
		t.Errorf("code %d, err: %s", got.code, got.err)
	}
	b.want("status --watch r0/7", 1, "", "r0 is up without a volume 7\n")
	b.want("wait-connect r0/7", 1, "", "r0 is up without a volume 7\n")
	b.listen("r1", &fakeControl{hold: true, events: []string{`{"name":"r1","role":"Secondary"}`}})
	b.want("status --watch r1 --timeout 100ms", 20, "r1 role:Secondary", "urbd: status has not ended in time")
}

// Two volumes of a resource are watched like two resources.
func TestStatusWatchShowsEveryVolume(t *testing.T) {
	b := newBench(t)
	b.listen("r0", &fakeControl{hold: true, events: []string{
		`{"name":"r0","role":"Primary","devices":[{"volume":0,"disk-state":"UpToDate"},{"volume":1,"disk-state":"Failed"}]}`,
	}})
	ctx, cancel := context.WithCancel(t.Context())
	out := &until{says: regexp.MustCompile(`volume:0 minor:0 disk:UpToDate\n\nr0 role:Primary.*\n  volume:1 minor:0 disk:Failed\n`), then: cancel}
	b.out = out
	if got := b.urbdContext(ctx, "status --watch --verbose --timeout 20 r0/0 r0/1"); got.code != 0 || got.err != "" {
		t.Errorf("code %d, err: %s, out:\n%s", got.code, got.err, out.String())
	}
}

// An until is a buffer that waits for a text.
type until struct {
	bytes.Buffer
	says *regexp.Regexp
	then func()
}

func (u *until) Write(b []byte) (int, error) {
	n, err := u.Buffer.Write(b)
	if u.says.Match(u.Bytes()) {
		u.then()
	}
	return n, err
}

func TestWords(t *testing.T) {
	b := newBench(t)
	b.listen("r0", &fakeControl{status: `{"name":"r0","role":"Primary","devices":[
		{"volume":0,"disk-state":"UpToDate","size":1024,"generations":["1122334455667788","0000000000000000","00000000000000AA","0000000000000000"]},{"volume":1,"disk-state":"Diskless"}],
		"connections":[{"name":"beta","connection-state":"Connected","peer-role":"Secondary","peer_devices":[
		{"volume":0,"replication-state":"SyncSource","peer-disk-state":"Inconsistent","cstate":"SyncSource"},{"volume":1,"replication-state":"Established","peer-disk-state":"UpToDate","cstate":"Connected"}]}]}`})
	b.want("role r0", 0, "Primary/Secondary\n", "")
	b.want("cstate r0", 0, "SyncSource\nConnected\n", "")
	b.want("cstate r0/1", 0, "Connected\n", "")
	b.want("dstate r0", 0, "UpToDate/Inconsistent\nDiskless/UpToDate\n", "")
	b.want("get-gi r0/0", 0, "1122334455667788:0000000000000000:00000000000000AA:0000000000000000:1:1:1:1:0:1:0\n", "")
	b.want("get-gi r0/1", 16, "", "there is no disk attached (Diskless)")
	b.want("show-gi r0/0", 0, "flags: Primary, Connected, UpToDate, peer Outdated", "")
}
