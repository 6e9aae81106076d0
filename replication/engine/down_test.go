package engine

import (
	"errors"
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// The last that a down waits for is a superblock that an attach of another volume has ordered: nothing that the down
// itself began ends after it.
func TestDownAfterAttach(t *testing.T) {
	p := pairOfTwoAndOne(t)
	n, v := p.a, p.a.e.vols[1]
	p.must(n, Connect{})
	p.must(n, Attach{Vol: 0, BackingSize: 8 << 20, MetaSize: 8 << 20})
	n.hold = func(io DiskIO) bool {
		return io.Op == DiskWrite && v.attached && v.meta.durable > 0 && v.meta.durable+1 == v.meta.issued
	}
	n.e.Command(p.now, 100, Attach{Vol: 1, BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.settle(0)
	n.e.Command(p.now, 101, Down{})
	p.settle(0)
	p.want(n, "Secondary/Unknown StandAlone Inconsistent/DUnknown")
	if len(n.held) != 1 || v.effects.len() == 0 {
		t.Fatalf("%d writes are held, %d effects wait\n%s", len(n.held), v.effects.len(), p.story())
	}
	n.release()
	for p.work(n) { // and no timer that happens to look
	}
	for id := uint64(100); id <= 101; id++ {
		if err, ok := n.reply[id]; !ok || err != nil {
			t.Errorf("command %d: answered %v, %v\n%s", id, ok, err, p.story())
		}
	}
}

// What a down has ended does not begin again while it waits for the rest: it would never be over.
func TestNothingBeginsDuringDown(t *testing.T) {
	for _, tt := range []struct {
		name string
		cmd  Command
	}{
		{"attach", Attach{Vol: 0, BackingSize: 8 << 20, MetaSize: 8 << 20}},
		{"connect", Connect{}},
		{"primary", Promote{Force: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pairOfTwoAndOne(t)
			n := p.a
			for vol := range 2 {
				p.must(n, Attach{Vol: vol, BackingSize: 8 << 20, MetaSize: 8 << 20})
			}
			n.hold = func(io DiskIO) bool { return io.Vol == 1 }
			n.e.Command(p.now, 100, Down{})
			p.settle(time.Second)
			if len(n.held) == 0 || n.e.State(0).Disk != sm.Diskless {
				t.Fatalf("%d I/Os are held, volume 0 is %v", len(n.held), n.e.State(0))
			}
			if err := p.do(n, tt.cmd); !errors.Is(err, sm.InTransientState) {
				t.Errorf("answered %v", err)
			}
			n.hold = nil
			n.release()
			p.settle(time.Second)
			if err, ok := n.reply[100]; !ok || err != nil {
				t.Errorf("down: answered %v, %v\n%s", ok, err, p.story())
			}
		})
	}
}
