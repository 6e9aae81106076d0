package engine

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestTranscripts plays the stories in testdata: two engines, everything that
// happens at once, and all that is logged.
//
//	pair [protocol-a=C] [protocol-b=C]   two nodes with fresh metadata
//	a|b attach|connect|promote|force|demote|disconnect|discard|down|skip
//	a|b write off=4096 byte=7            one block, and its errno
//	cut                                  the connection fails on both sides
//	wait s=5                             time passes
//	status                               states, generations, marks; whether the disks are equal
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return
		}
		var p *pair
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "pair" {
				p = storyPair(t, d)
				return "ok\n"
			}
			return p.tells(t, d)
		})
	})
}

func storyPair(t *testing.T, d *datadriven.TestData) *pair {
	protocol := func(key string) Protocol {
		name := "C"
		d.MaybeScanArgs(t, key, &name)
		return Protocol(name[0]-'A') + 1
	}
	p := newPair(t, 1<<20, NetOptions{Protocol: protocol("protocol-a")})
	p.b.e.cfg.Net.Protocol = protocol("protocol-b")
	return p
}

// tells plays one command and returns what was logged meanwhile.
func (p *pair) tells(t *testing.T, d *datadriven.TestData) string {
	p.a.log, p.b.log = nil, nil
	var out bytes.Buffer
	switch d.Cmd {
	case "a", "b":
		n := p.a
		if d.Cmd == "b" {
			n = p.b
		}
		fmt.Fprintln(&out, p.order(t, n, d))
	case "cut":
		p.a.wire, p.b.wire = [2][]byte{}, [2][]byte{}
		for _, n := range []*node{p.a, p.b} {
			n.e.ConnDown(p.now, NetworkFailure, errors.New("cut"))
		}
		p.settle(0)
	case "wait":
		s := 0
		d.ScanArgs(t, "s", &s)
		p.settle(time.Duration(s) * time.Second)
	case "status":
		return p.status()
	default:
		t.Fatalf("no command %q", d.Cmd)
	}
	for _, n := range []*node{p.a, p.b} {
		for _, ev := range n.events {
			if line := shown(ev); line != "" {
				fmt.Fprintln(&out, n.name, line)
			}
		}
		n.events = nil
	}
	return out.String()
}

func (p *pair) order(t *testing.T, n *node, d *datadriven.TestData) string {
	size := int64(len(n.disk))
	commands := map[string]Command{
		"attach": Attach{BackingSize: size, MetaSize: size}, "connect": Connect{}, "discard": Connect{DiscardMyData: true},
		"promote": Promote{}, "force": Promote{Force: true}, "demote": Demote{}, "disconnect": Disconnect{}, "down": Down{},
		"skip": NewCurrentUUID{ClearBitmap: true},
	}
	what := d.CmdArgs[0].Key
	if what == "write" {
		off, b := 0, 0
		d.ScanArgs(t, "off", &off)
		d.ScanArgs(t, "byte", &b)
		r := &Request{Op: OpWrite, Off: int64(off), Len: 4096, Data: bytes.Repeat([]byte{byte(b)}, 4096)}
		n.e.Submit(p.now, r)
		p.settle(0)
		return fmt.Sprintf("%s done=%v errno=%d", n.name, n.done[r], r.Err)
	}
	cmd, ok := commands[what]
	if !ok {
		t.Fatalf("no command %q", what)
	}
	return fmt.Sprintf("%s %s: %v", n.name, what, p.do(n, cmd))
}

// shown is what of an event belongs into a story; generations are random only by name.
func shown(ev Event) string {
	switch ev := ev.(type) {
	case StateChange:
		return fmt.Sprintf("%s -> %s (%s)", ev.From, ev.To, ev.Cause)
	case Notice:
		return "notice: " + ev.Text
	case OpenConnection, CloseConnection, StartDevice, CloseBacking:
		return fmt.Sprintf("%T%+v", ev, ev)
	}
	return ""
}

func (p *pair) status() string {
	var out bytes.Buffer
	for _, n := range []*node{p.a, p.b} {
		v := n.e.Status().Volumes[0]
		fmt.Fprintf(&out, "%s %v, %v, %d KiB out of sync\n", n.name, v.State, v.UUIDs, v.OutOfSync>>10)
	}
	size := max(p.a.e.Status().Volumes[0].Size, p.b.e.Status().Volumes[0].Size)
	fmt.Fprintf(&out, "disks equal: %v\n", bytes.Equal(p.a.disk[:size], p.b.disk[:size]))
	return out.String()
}
