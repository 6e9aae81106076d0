package main

import (
	"slices"
	"testing"
)

func TestOrdersReachTheDaemon(t *testing.T) {
	b := newBench(t)
	d := &fakeControl{}
	b.listen("r0", d)
	for _, tt := range []struct{ line, order string }{
		{"attach r0", `{"verb":"attach"}`},
		{"attach r0/1", `{"verb":"attach","volume":1}`},
		{"detach r0/0 --force", `{"verb":"detach","volume":0,"force":true}`},
		{"detach --force r0/0", `{"verb":"detach","volume":0,"force":true}`},
		{"connect r0 --discard-my-data", `{"verb":"connect","discard-my-data":true}`},
		{"disconnect r0", `{"verb":"disconnect"}`},
		{"primary r0", `{"verb":"primary"}`},
		{"primary r0 --force", `{"verb":"primary","force":true}`},
		{"primary --overwrite-data-of-peer r0", `{"verb":"primary","force":true}`},
		{"secondary r0", `{"verb":"secondary"}`},
		{"invalidate r0/1", `{"verb":"invalidate","volume":1}`},
		{"invalidate-remote minor-1", `{"verb":"invalidate-remote","volume":1}`},
		{"pause-sync r0", `{"verb":"pause-sync"}`},
		{"resume-sync r0", `{"verb":"resume-sync"}`},
		{"new-current-uuid --clear-bitmap r0/0", `{"verb":"new-current-uuid","volume":0,"clear-bitmap":true}`},
	} {
		b.want(tt.line, 0, "", "")
		if got := d.orders[len(d.orders)-1]; got != tt.order {
			t.Errorf("urbd %s sent %s, want %s", tt.line, got, tt.order)
		}
	}
}

// That partitions could not be looked for does not make a Primary less of one.
func TestPrimaryLooksForPartitions(t *testing.T) {
	b := newBench(t)
	b.listen("r0", &fakeControl{status: `{"name":"r0","role":"Primary","devices":[{"volume":0,"path":"/dev/null"},{"volume":1}]}`})
	b.want("primary r0", 0, "", "partitions may be missing: read the partition table of /dev/null: inappropriate ioctl for device; try: blockdev --rereadpt /dev/null\n")
}

func TestRefusalsGetTheirCodesAndTheNextStep(t *testing.T) {
	b := newBench(t)
	d := &fakeControl{}
	b.listen("r0", d)
	for _, tt := range []struct {
		verb string
		code int
		body string
		exit int
		says string
	}{
		{"primary", 409, `{"refused":"need access to UpToDate data","code":-2}`, 17, "r0: State change failed: (-2) need access to UpToDate data; connect the node that has the data, or, when this node's data is the one to keep: urbd primary --force r0\n"},
		{"primary", 409, `{"refused":"the peer is Primary","code":-1}`, 11, "r0: State change failed: (-1) the peer is Primary; make the other node Secondary first"},
		{"secondary", 409, `{"refused":"the device is in use","code":-12}`, 11, "State change failed: (-12)"},
		{"secondary", 500, `{"error":"/dev/ublkb0 is in use by mounted on /mnt"}`, 20, "urbd: r0: /dev/ublkb0 is in use by mounted on /mnt\n"},
		{"attach", 409, `{"refused":"the disk is worth less than Outdated","code":-16}`, 5, "(-16)"},
		{"detach", 409, `{"refused":"need a usable local disk","code":-4}`, 16, "(-4)"},
		{"connect", 409, `{"refused":"something new"}`, 11, "urbd: r0: refused: something new\n"},
		{"connect", 409, `{"refused":"the connection is not StandAlone","code":125}`, 10, "urbd: r0: Failure: (125) the connection is not StandAlone; nothing to do; look at: urbd status r0\n"},
		{"connect", 409, `{"refused":"a Primary cannot discard its data","code":123}`, 10, "(123) a Primary cannot discard its data; make this node Secondary first: urbd secondary r0\n"},
		{"attach", 409, `{"refused":"a disk is attached","code":124}`, 10, "urbd detach r0\n"},
		{"detach", 409, `{"refused":"there is no disk attached","code":-11}`, 11, "(-11) there is no disk attached; nothing to do\n"},
		{"pause-sync", 409, `{"refused":"this node pauses the resync already","code":134}`, 10, "nothing to do; look at: urbd status r0\n"},
		{"resume-sync", 409, `{"refused":"this node does not pause the resync","code":135}`, 10, "nothing to do; who does"},
		{"new-current-uuid", 409, `{"refused":"the connection has to be StandAlone","code":151}`, 10, "disconnect first: urbd disconnect r0; two fresh disks"},
		{"new-current-uuid", 409, `{"refused":"the data is not just created","code":151}`, 10, "only two disks that are fresh"},
		{"new-current-uuid", 409, `{"refused":"need a connection to the peer","code":-15}`, 11, "both nodes have to be Connected, and no resync may run"},
		{"detach", 409, `{"refused":"need access to UpToDate data","code":-2}`, 17, "connect the node that has the data first: urbd connect r0\n"},
	} {
		d.reply(tt.verb, tt.code, tt.body)
		b.want(tt.verb+" r0", tt.exit, "", tt.says)
		b.want(tt.verb+" r0/0", tt.exit, "", "urbd: r0/0: ")
	}
}

func TestAVolumeStandsForItsResourceWhenItIsTheOnlyOne(t *testing.T) {
	b := newBench(t)
	const reason = "primary is for the whole resource, and that has the volumes [0 1]: name the resource only"
	r0, r1 := &fakeControl{}, &fakeControl{status: `{"name":"r1","pid":71}`}
	r0.reply("primary", 400, `{"error":"`+reason+`"}`)
	b.listen("r0", r0)
	b.listen("r1", r1)
	b.want("primary r0/0", 1, "", "urbd: r0/0: "+reason+"\n")
	b.want("secondary r1/0", 0, "", "")
	b.want("connect minor-2", 0, "", "")
	if want := []string{`{"verb":"secondary","volume":0}`, `{"verb":"connect","volume":0}`}; !slices.Equal(r1.orders, want) {
		t.Errorf("r1 got %v, want %v", r1.orders, want)
	}
	b.want("up r1/0", 10, "", "r1 is up already")
	b.want("adjust r0/0", 1, "", "adjust is for a whole resource, and r0 has the volumes 0, 1: urbd adjust r0\n")
	b.want("dump r1/0", 0, "resource r1 {", "")
	b.want("dump minor-1", 0, "resource r0 {", "")
	b.want("dump elsewhere/0", 0, "resource elsewhere {", "")
	b.want("dump r1/1", 1, "", "r1 has no volume 1; its volumes are 0\n")
}

func TestSeveralTargetsGiveTheHighestCode(t *testing.T) {
	b := newBench(t)
	r0, r1 := &fakeControl{}, &fakeControl{}
	b.listen("r0", r0)
	b.listen("r1", r1)
	r0.reply("primary", 409, `{"refused":"need access to UpToDate data","code":-2}`)
	b.want("primary all", 17, "", "r0: State change failed")
	if want := []string{`{"verb":"primary"}`}; !slices.Equal(r1.orders, want) {
		t.Errorf("r1 got %v after r0 was refused, want %v", r1.orders, want)
	}
	r0.reply("primary", 500, `{"error":"broken"}`)
	b.want("primary r0 r1", 20, "", "r0: broken")
	if len(r1.orders) != 2 {
		t.Errorf("r1 got %v after r0 has failed", r1.orders[1:])
	}
	b.want("secondary r1 r1", 0, "", "")
	if len(r1.orders) != 3 {
		t.Errorf("r1, named twice, got %v", r1.orders[2:])
	}
	r0.reply("attach", 500, `{"error":"broken"}`)
	before := len(r0.orders)
	b.want("attach r0/0 r0/1", 20, "", "urbd: r0/0: broken\nurbd: warning: not tried: r0/1\n")
	if len(r0.orders) != before+1 {
		t.Errorf("r0 got %v although a code of 20 ends the turns of its volumes", r0.orders[before:])
	}
}

func TestADaemonThatIsNotThere(t *testing.T) {
	b := newBench(t)
	b.want("primary r0", 10, "", "urbd: r0 is not up; start it with: urbd up r0\n")
	b.want("primary r9", 10, "", `there is no resource "r9" in the configuration; there is r0, r1, elsewhere`)
	b.want("primary r0/7", 1, "", "r0 has no volume 7; its volumes are 0, 1")
	b.want("primary elsewhere", 10, "", `resource elsewhere has no section for this machine: uname -n says "alpha"`)
	b.want("primary", 1, "", "primary needs a target")
	b.want("primary r0/x", 1, "", `"r0/x" is no target`)
	b.want("primary ../etc", 1, "", "is no target")
	b.want("down r0", 0, "", "")
	b.want("role r0", 10, "", "not up")
}

func TestAllIsNothing(t *testing.T) {
	b := newBench(t)
	b.want("role all --host omega", 0, "", "urbd: warning: of 3 resources in the configuration none is for this host\nurbd: warning: "+b.conf+":2:10: resource r0 has no section for this machine")
	b.write("")
	b.want("up all", 0, "", "urbd: warning: of 0 resources in the configuration none is for this host\n")
}

func TestOrdersWorkWithABrokenConfiguration(t *testing.T) {
	b := newBench(t)
	d := &fakeControl{}
	b.listen("r0", d)
	b.write("resource r0 { on }")
	b.want("secondary r0", 0, "", "")
	b.want("secondary all", 2, "", "urbd.conf:1:18:")
}

func TestEveryOrderHasADeadline(t *testing.T) {
	b := newBench(t)
	b.want("primary r0 --timeout 0", 1, "", "primary cannot wait for ever")
	b.want("primary r0 --timeout soon", 1, "", `"soon" is no time`)
	b.listen("r1", &fakeControl{hold: true})
	b.want("wait-connect r1 --timeout 50ms", 5, "", "the time is up")
	b.want("wait-connect r1 --wfc-timeout 50ms", 5, "", "the time is up")
}
