package engine

import (
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// A Primary whose own disk is not good works on the Secondary's: neither leaves in order, and by force the last good disk stays good, on the
// disk itself as well.
func TestLastGoodDiskOfAPrimaryThatLacksIt(t *testing.T) {
	lacks := map[string]func(p *pair){
		"detached": func(p *pair) { p.must(p.a, Detach{}) },
		"being resynced": func(p *pair) {
			p.must(p.a, PauseSync{On: true})
			p.must(p.a, Invalidate{})
		},
		"failed": func(p *pair) {
			p.a.fail = failsReads
			p.read(p.a, 0)
			p.a.fail = nil
		},
		"being attached": func(p *pair) {
			p.must(p.a, Detach{})
			p.a.hold = func(io DiskIO) bool { return io.Meta }
			p.a.e.Command(p.now, 90, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		},
	}
	for name, lose := range lacks {
		for _, who := range []func(p *pair) *node{primary, secondary} {
			for _, cmd := range []Command{Disconnect{}, Down{}} {
				p := newPair(t, 8<<20, NetOptions{})
				p.inSync()
				lose(p)
				p.settle(time.Second)
				n := who(p)
				if _, down := cmd.(Down); down && n == p.a {
					continue // nobody is Primary any more then
				}
				if err := p.do(n, cmd); err == nil {
					t.Errorf("%s: %T of %s is granted\n%s", name, cmd, n.name, p.story())
				}
				if st := p.b.e.State(0); st.Disk != sm.UpToDate || p.outdatedOnDisk(p.b) {
					t.Errorf("%s: %T of %s: the last good disk is %v\n%s", name, cmd, n.name, st.Disk, p.story())
				}
				p.must(n, Disconnect{Force: true})
				p.settle(time.Second)
				if st := p.b.e.State(0); st.Disk != sm.UpToDate || p.outdatedOnDisk(p.b) {
					t.Errorf("%s: forced by %s: the last good disk is %v\n%s", name, n.name, st.Disk, p.story())
				}
			}
		}
	}
}

// An order at a node whose disk never answers is answered in its time, or can be taken back, or goes on and says for what it waits; whoever writes there gets an
// answer when the disk is given up.
func TestOrdersAtAHungDisk(t *testing.T) {
	const patience = forcedPatience + time.Second
	for name, c := range map[string]struct {
		cmd    Command
		beside bool // the peer, it is answered; otherwise it waits for the disk
		alone  bool // the same
	}{
		"detach":             {Detach{}, false, true},     // refused: there is no other disk
		"disconnect":         {Disconnect{}, false, true}, // there is no peer to ask
		"down":               {Down{}, false, false},
		"secondary":          {Demote{}, false, false},
		"invalidate-remote":  {InvalidateRemote{}, false, false},
		"detach --force":     {Detach{Force: true}, true, true},
		"disconnect --force": {Disconnect{Force: true}, true, true},
		"down --force":       {Down{Force: true}, true, true},
	} {
		for _, alone := range []bool{false, true} {
			want := c.beside && !alone || c.alone && alone
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			if _, remote := c.cmd.(InvalidateRemote); alone && remote {
				continue
			}
			if alone {
				p.must(p.b, Down{})
				p.settle(time.Second)
			}
			p.a.hold = hangs
			w := p.give(p.a, &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: filled(1, 4096)})
			p.settle(2 * time.Second)
			p.a.e.Command(p.now, 100, c.cmd)
			p.settle(patience)
			_, answered := p.a.reply[100]
			if answered != want {
				t.Errorf("%s, alone %v: answered %v, %v\n%s", name, alone, answered, p.a.reply[100], p.story())
			}
			if want {
				if _, left := c.cmd.(Disconnect); c.beside && !left && !p.a.done[w] {
					t.Errorf("%s, alone %v: the write is not answered\n%s", name, alone, p.story())
				}
				continue
			}
			if end, why := p.a.e.Withdraw(p.now, 100); end != Answered && why == "" {
				t.Errorf("%s, alone %v: %v, and not said for what it waits", name, alone, end)
			}
			p.comesBack(p.a, OK)
			p.settle(20 * time.Second)
			if p.ends(p.a, w, OK); len(p.a.e.cmds) != 0 {
				t.Errorf("%s, alone %v: an order is left\n%s", name, alone, p.story())
			}
		}
	}
}
