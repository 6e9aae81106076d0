package engine

import (
	"bytes"
	"errors"
	"testing"
	"time"

	sm "github.com/urbd/urbd/statemachine"
)

// kept is what the owner of a node remembers for its next daemon.
func (n *node) kept() (u Users) {
	for _, ev := range n.events {
		if w, ok := ev.(UsersWork); ok {
			u = w.Users
		}
	}
	return u
}

// newDaemonUnderUsers replaces the daemon of a node, whose device is in use, as kill -9 does.
func (p *pair) newDaemonUnderUsers(n *node) {
	p.t.Helper()
	if n.conn == "up" {
		p.hangup(n.peer)
	}
	e, err := New(Config{
		Resource: "r0", Volumes: []VolumeConfig{{Users: n.kept().Adopted()}}, Buffers: make([]byte, MinBuffers+VolumeBuffers), Random: n.e.cfg.Random,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	n.e, n.conn, n.wire, n.held = e, "", [2][]byte{}, nil
}

// back attaches and connects a new daemon.
func (p *pair) back(n *node) {
	p.t.Helper()
	p.must(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk))})
	p.must(n, Connect{})
	p.settle(3 * time.Second)
}

func (p *pair) wantUsers(n *node, want UsersState) {
	p.t.Helper()
	if got := n.e.Status().Volumes[0].Users.State; got != want || n.kept().State != want {
		p.t.Fatalf("%s: the users are %v, and %v is kept; want %v\n%s", n.name, got, n.kept().State, want, p.story())
	}
}

// Users find their data: the peer was not Primary meanwhile. They are found by the next daemon, and the one after that, until this
// node is Primary again; also when that has begun a generation, and its daemon dies before it serves anybody.
func TestUsersFindTheirData(t *testing.T) {
	for _, alone := range []bool{false, true} {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
		if alone {
			p.must(p.b, Down{})
		}
		p.newDaemonUnderUsers(p.a)
		p.back(p.a)
		p.wantUsers(p.a, UsersWaiting)
		p.newDaemonUnderUsers(p.a)
		p.back(p.a)
		p.wantUsers(p.a, UsersWaiting)
		if !alone {
			if err := p.do(p.b, Promote{}); !errors.Is(err, sm.RefusedByPeer) {
				t.Fatalf("the peer is promoted beside users who are about to be served: %v\n%s", err, p.story())
			}
		}
		p.must(p.a, Promote{})
		p.wantUsers(p.a, UsersServed)
	}
	t.Run("dead while it is promoted", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.must(p.b, Down{})
		p.newDaemonUnderUsers(p.a)
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		// Each of the metadata writes of the promotion is the last one that gets to the disk.
		for last := 0; ; last++ {
			n := 0
			p.a.hold = func(io DiskIO) bool {
				if io.Meta && io.Op == DiskWrite {
					n++
				}
				return n > last
			}
			p.a.e.Command(p.now, 1000+uint64(last), Promote{})
			p.settle(0)
			_, done := p.a.reply[1000+uint64(last)]
			p.a.hold = nil
			p.newDaemonUnderUsers(p.a)
			p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
			p.wantUsers(p.a, UsersWaiting)
			if done {
				break
			}
		}
		p.must(p.a, Promote{})
	})
}

// Their data is gone as soon as the disk is being overwritten, or the peer is Primary; that it is called as before
// afterwards, or that the next daemon finds a good disk, changes nothing.
func TestUsersLoseTheirData(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile, then func(p *pair)
	}{
		"the peer was Primary": {func(p *pair) {
			p.must(p.b, Promote{})
			p.write(p.b, 0, bytes.Repeat([]byte{2}, 4096))
			p.must(p.b, Demote{})
		}, func(*pair) {}},
		"the peer is Primary": {func(p *pair) { p.must(p.b, Promote{}) }, func(*pair) {}},
		"invalidated": {func(*pair) {}, func(p *pair) {
			p.must(p.a, Invalidate{})
		}},
		"invalidated by the peer": {func(*pair) {}, func(p *pair) {
			p.must(p.b, InvalidateRemote{})
		}},
		"the peer is promoted beside a node without its disk": {func(*pair) {}, func(p *pair) {
			p.must(p.a, Detach{})
			p.must(p.b, Promote{})
		}},
		"given up": {func(*pair) {}, func(p *pair) {
			p.must(p.a, LoseUsers{})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
			p.newDaemonUnderUsers(p.a)
			p.settle(2 * time.Second)
			c.meanwhile(p)
			p.back(p.a)
			c.then(p)
			p.settle(3 * time.Second)
			p.wantUsers(p.a, UsersLost)
			for _, force := range []bool{false, true} {
				if err := p.do(p.a, Promote{Force: force}); !errors.Is(err, sm.OtherDataInUse) && !errors.Is(err, sm.TwoPrimaries) {
					t.Fatalf("promotion below such users: %v\n%s", err, p.story())
				}
			}
			if p.b.e.State(0).Role == sm.Primary {
				p.must(p.b, Demote{})
			}
			p.newDaemonUnderUsers(p.a)
			p.back(p.a)
			p.wantUsers(p.a, UsersLost)
			if err := p.do(p.a, Promote{}); err != sm.OtherDataInUse {
				t.Fatalf("promotion below such users by the next daemon: %v\n%s", err, p.story())
			}
			p.must(p.a, Unused{})
			p.must(p.a, Promote{})
		})
	}
}

// While the peer could still decide, nothing is lost: the connection breaks before anything was overwritten, and neither this
// daemon nor the next serves the users, or gives them up.
func TestUsersWaitForTheDecision(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.newDaemonUnderUsers(p.a)
	p.settle(2 * time.Second)
	p.must(p.b, Promote{})
	p.write(p.b, 0, bytes.Repeat([]byte{2}, 4096))
	p.must(p.b, Demote{})
	p.b.mute[DataSock] = true // it does not hear that its bitmap was merged
	p.back(p.a)
	if c := p.a.e.State(0).Conn; c != sm.WFBitMapT {
		t.Fatalf("the connection is %v\n%s", c, p.story())
	}
	for range 2 {
		p.wantUsers(p.a, UsersWaiting)
		if err := p.do(p.a, Promote{}); err != sm.UsersNeedDisk && err != sm.OutdatedDisk {
			t.Fatalf("promotion: %v\n%s", err, p.story())
		}
		p.newDaemonUnderUsers(p.a)
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	}
	p.wantUsers(p.a, UsersWaiting)
}

// A Primary whose data is on the peer's disk has that remembered before it answers anything from there. The next daemon serves
// its users neither from the old disk nor, after a resync, from the peer's.
func TestUsersOnThePeersDisk(t *testing.T) {
	for _, disk := range []string{"detached", "failed", "being resynced"} {
		t.Run(disk, func(t *testing.T) {
			p := newPair(t, 8<<20, NetOptions{})
			p.inSync()
			switch disk {
			case "detached":
				p.must(p.a, Detach{})
			case "failed":
				p.a.fail = func(DiskIO) Errno { return EIO }
				p.read(p.a, 0)
				p.a.fail = nil
			default:
				p.must(p.a, PauseSync{On: true})
				p.must(p.a, Invalidate{})
			}
			p.settle(time.Second)
			p.wantUsers(p.a, UsersElsewhere)
			p.write(p.a, 0, bytes.Repeat([]byte{2}, 4096))
			p.newDaemonUnderUsers(p.a)
			p.wantAdopted(p.a, UsersLost)
			if err := p.do(p.a, Promote{}); err != sm.OtherDataInUse {
				t.Fatalf("promotion: %v\n%s", err, p.story())
			}
		})
	}
	t.Run("and back", func(t *testing.T) {
		p := newPair(t, 8<<20, NetOptions{})
		p.inSync()
		p.must(p.a, Detach{})
		p.write(p.a, 0, bytes.Repeat([]byte{2}, 4096))
		p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
		p.settle(3 * time.Second)
		p.wantUsers(p.a, UsersServed)
		p.newDaemonUnderUsers(p.a)
		p.back(p.a)
		p.wantUsers(p.a, UsersWaiting)
		p.must(p.a, Promote{})
	})
}

func (p *pair) wantAdopted(n *node, want UsersState) {
	p.t.Helper()
	if got := n.e.Status().Volumes[0].Users.State; got != want {
		p.t.Fatalf("%s: the users are %v, want %v", n.name, got, want)
	}
}

// Another disk than the one that the users worked on is not theirs, whoever attaches it.
func TestUsersKnowTheirDisk(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.newDaemonUnderUsers(p.a)
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.wantUsers(p.a, UsersWaiting)
	p.must(p.a, Detach{})
	if err := p.do(p.a, Promote{}); err != sm.UsersNeedDisk && err != sm.NoUpToDateDisk {
		t.Fatalf("promotion without the disk: %v", err)
	}
	own := bytes.Clone(p.a.disk)
	p.newDisk(p.a, 8<<20)
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.wantUsers(p.a, UsersLost)
	p.a.disk = own
}

// A generation that this node begins for waiting users is on the data that they worked on.
func TestUsersKnowTheirDataByItsNewName(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Down{})
	p.newDaemonUnderUsers(p.a)
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.a, NewCurrentUUID{})
	p.newDaemonUnderUsers(p.a)
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.wantUsers(p.a, UsersWaiting)
	p.must(p.a, Promote{})
	p.wantUsers(p.a, UsersServed)
}

// Users are found above a disk that no Primary has used last: they worked on something else.
func TestUsersOfNoPrimary(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	p.newDaemonUnderUsers(p.a)
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.wantUsers(p.a, UsersLost)
}
