package replication

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
	"github.com/urbd/urbd/ublk/uring"
)

// kill ends the daemon as kill -9 does: what it had on its disk, and had remembered, is as it was.
func (n *node) kill() {
	n.t.Helper()
	kept := map[string][]byte{}
	for _, path := range append([]string{n.cfg.Local.Volumes[0].Disk}, n.usersFiles()...) {
		b, err := os.ReadFile(path)
		if err != nil {
			n.t.Fatal(err)
		}
		kept[path] = b
	}
	n.down()
	for _, path := range n.usersFiles() {
		os.Remove(path)
	}
	for path, b := range maps.All(kept) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) usersFiles() []string {
	found, err := filepath.Glob(filepath.Join(n.cfg.RunDir, "*.users"))
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// fails wants an error for a request of the application.
func (n *node) fails(r engine.Request) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	if errno, err := n.devices.Volume(0).Do(ctx, r); err != nil || errno != engine.EIO {
		n.t.Fatalf("%v at %d: errno %d, %v; want EIO", r.Op, r.Off, errno, err)
	}
}

// users waits until status says this of the users of the device.
func (n *node) users(want string) {
	n.t.Helper()
	c, err := Dial(n.cfg.RunDir, "r0")
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	for range 600 {
		changed := n.res.changes.wait()
		st, err := c.Status(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		if st.Devices[0].Users == want {
			return
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond): // not everything that status tells is a change of state
		}
	}
	n.t.Fatalf("%s: status never says %q of the users", n.cfg.Local.Name(), want)
}

// filled is a page of one byte.
func filled(t *testing.T, b byte) []byte {
	p := page(t, 4096)
	for i := range p {
		p[i] = b
	}
	return p
}

// The daemon dies under users of its device, and the peer is Primary meanwhile, or still is when the next daemon starts, or
// lets that one start twice. What the peer wrote stands, and the users are never served it, nor is anything of theirs let go;
// they get errors, and when they have ended this node is as any other.
func TestUsersAreServedTheirOwnDataOnly(t *testing.T) {
	for name, c := range map[string]struct {
		primary bool // the peer, still
		twice   bool // the daemon dies once more, having been overwritten
	}{
		"promoted and demoted": {},
		"promoted":             {primary: true},
		"dead again":           {twice: true},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := connectedPair(t)
			a, b := nodes[0], nodes[1]
			a.cfg.Recover = true
			a.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: filled(t, 1)})
			a.devices.Volume(0).Hold("the mount at /mnt")
			a.kill()
			b.await("alone", func(s statemachine.State) bool { return s.Conn == statemachine.WFConnection })
			b.must(engine.Promote{})
			b.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: filled(t, 2)})
			if !c.primary {
				b.must(engine.Demote{})
			}
			a.up()
			a.users("refused")
			if c.twice {
				a.await("in sync", redundant)
				a.kill()
				a.up()
				a.users("refused")
			}
			a.fails(engine.Request{Op: engine.OpRead, Off: 4096, Len: 4096, Data: page(t, 4096)})
			a.fails(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: filled(t, 3)})
			a.log.wait(t, "get errors")
			a.await("in sync", redundant)
			var busy *BusyError
			if err := a.do(engine.Promote{}); !errors.As(err, &busy) || busy.Holder != "the mount at /mnt" {
				t.Errorf("primary beside such users: %v", err)
			}
			if err := a.do(engine.Demote{}); !errors.As(err, &busy) {
				t.Errorf("secondary beside such users: %v", err)
			}
			if c.primary {
				b.must(engine.Demote{})
			}
			a.devices.Volume(0).Hold("")
			a.users("")
			a.must(engine.Promote{})
			got := page(t, 4096)
			a.io(engine.Request{Op: engine.OpRead, Off: 4096, Len: 4096, Data: got})
			if !bytes.Equal(got, filled(t, 2)) {
				t.Errorf("the new Primary reads %x", got[:8])
			}
			if files := a.usersFiles(); len(files) > 0 {
				t.Errorf("%v is left", files)
			}
			a.must(engine.Demote{})
			sameDisks(t, nodes)
		})
	}
}

// The peer was Primary meanwhile, and connects before its disk is attached: nothing tells of its data yet. Users who are served in that
// moment would go on with old data, and begin a split brain.
func TestUsersWaitForTheDiskOfThePeer(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	a.cfg.Recover = true
	a.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: filled(t, 1)})
	a.devices.Volume(0).Hold("the mount at /mnt")
	a.kill()
	b.await("alone", func(s statemachine.State) bool { return s.Conn == statemachine.WFConnection })
	b.must(engine.Promote{})
	b.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: filled(t, 2)})
	b.must(engine.Demote{})
	b.must(engine.Detach{})
	a.up()
	a.await("connected to a peer without a disk", func(s statemachine.State) bool {
		return s.Conn == statemachine.Connected && s.PeerDisk == statemachine.Diskless
	})
	b.must(engine.Attach{})
	a.users("refused")
	a.await("in sync", redundant)
	a.devices.Volume(0).Hold("")
	a.users("")
	sameDisks(t, nodes)
}

// SIGTERM under a device in use ends the daemon as a crash does: what was answered until then is on both disks, no generation was begun,
// and after a failover, which is no split brain, the users get errors.
func TestTermUnderUsersLeavesNothingBehind(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	a.cfg.Recover = true
	a.devices.Volume(0).Hold("the mount at /mnt")
	a.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: filled(t, 0)})
	before, err := ReadSuperblock(&a.cfg.Local.Volumes[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	answered, begun := make(chan byte, 1), make(chan struct{})
	p := filled(t, 0)
	go func() {
		for n := byte(1); ; n++ {
			for i := range p {
				p[i] = n
			}
			if errno, err := a.devices.Volume(0).Do(ctx, engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: p}); err != nil || errno != engine.OK {
				answered <- n - 1
				return
			}
			if n == 1 {
				close(begun)
			}
		}
	}()
	<-begun
	a.down()
	end()
	last := <-answered
	b.await("alone", func(s statemachine.State) bool { return s.Conn == statemachine.WFConnection })
	theirs, err := os.ReadFile(b.cfg.Local.Volumes[0].Disk)
	if err != nil {
		t.Fatal(err)
	}
	if got := theirs[4096]; got != last && got != last+1 { // the next one may have come that far
		t.Errorf("the peer has write %d, and %d was answered", got, last)
	}
	if after, err := ReadSuperblock(&a.cfg.Local.Volumes[0]); err != nil || after.Current != before.Current {
		t.Errorf("generation %016X has become %016X, %v", before.Current, after.Current, err)
	}
	b.must(engine.Promote{})
	b.io(engine.Request{Op: engine.OpWrite, Off: 8192, Len: 4096, Data: filled(t, 2)})
	b.must(engine.Demote{})
	a.up()
	a.users("refused")
	a.await("in sync", redundant)
	a.devices.Volume(0).Hold("")
	a.users("")
	sameDisks(t, nodes)
}

// A Secondary whose device is in use serves nobody: SIGTERM has it leave in order, and below a Primary its disk is old.
func TestTermOfASecondaryWithUsersLeaves(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	a.cfg.Recover = true
	a.devices.Volume(0).Hold("the mount at /mnt")
	a.down()
	b.await("alone", func(s statemachine.State) bool { return s.Conn == statemachine.WFConnection })
	b.must(engine.Promote{})
	a.up()
	a.users("refused")
	a.await("in sync", redundant)
	a.down()
	b.log.wait(t, "the peer disconnects")
	sb, err := ReadSuperblock(&a.cfg.Local.Volumes[0])
	if err != nil || sb.Flags.AtAttach(metadata.Attach{}).Disk != metadata.DiskOutdated {
		t.Errorf("metadata of a Secondary that has left its Primary: %+v, %v", sb, err)
	}
	a.devices.Volume(0).Hold("")
}

// Users whose Primary had lost its disk worked on the peer's; that it has not been written since cannot be known. They get errors, also
// when the own disk is back, with older data, and nobody else is there.
func TestUsersOfTheLostDiskAreNotServedTheOldOne(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	a.cfg.Recover = true
	a.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: filled(t, 1)})
	a.must(engine.Detach{})
	a.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: filled(t, 2)})
	a.devices.Volume(0).Hold("the mount at /mnt")
	a.kill()
	b.down()
	a.up()
	a.users("refused")
	a.fails(engine.Request{Op: engine.OpRead, Off: 4096, Len: 4096, Data: page(t, 4096)})
	a.devices.Volume(0).Hold("")
	a.users("")
}

// toldTooEarly are devices that notice when their users are said to be refused, or served, before they are.
type toldTooEarly struct {
	*FakeDevices
	n     *node
	early atomic.Pointer[string]
}

func (f *toldTooEarly) Add(ctx context.Context, cfg DeviceConfig) (Device, error) {
	d, err := f.FakeDevices.Add(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &toldDevice{d.(*FakeDevice), f}, nil
}

type toldDevice struct {
	*FakeDevice
	all *toldTooEarly
}

func (d *toldDevice) Serve(ring *uring.Ring, submit func(*engine.Request)) error {
	if d.Adopted() {
		if says := d.all.n.res.devices[0].leftWord(); says != "waiting" {
			d.all.early.Store(&says)
		}
	}
	return d.FakeDevice.Serve(ring, submit)
}

// Nobody is told that users get errors, or go on, before their device is served.
func TestUsersAreServedBeforeItIsSaid(t *testing.T) {
	for _, word := range []string{"refused", ""} {
		nodes := connectedPair(t)
		a, b := nodes[0], nodes[1]
		a.cfg.Recover = true
		a.devices.Volume(0).Hold("the mount at /mnt")
		a.kill()
		b.await("alone", func(s statemachine.State) bool { return s.Conn == statemachine.WFConnection })
		if word == "refused" {
			b.must(engine.Promote{})
		}
		watched := &toldTooEarly{FakeDevices: a.devices, n: a}
		a.cfg.Devices = watched
		a.up()
		a.users(word)
		if early := watched.early.Load(); early != nil {
			t.Errorf("status says %q of users before they are served", *early)
		}
		a.devices.Volume(0).Hold("")
	}
}

// Users who wait for the peer are given up by order, without waiting for it.
func TestUsersWhoWaitAreGivenUp(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	a.cfg.Recover = true
	a.devices.Volume(0).Hold("the mount at /mnt")
	a.kill()
	b.down()
	a.up()
	a.users("waiting")
	var busy *BusyError
	if err := a.do(engine.Demote{}); !errors.As(err, &busy) {
		t.Errorf("secondary: %v", err)
	}
	a.users("refused")
	a.fails(engine.Request{Op: engine.OpRead, Off: 4096, Len: 4096, Data: page(t, 4096)})
	a.devices.Volume(0).Hold("")
	a.users("")
	a.must(engine.Promote{})
	a.must(engine.Demote{})
}

// What cannot be understood of an earlier daemon's record is no reason to serve anybody.
func TestUsersRecordIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r0.users")
	u, err := readUsers(path, true)
	if err != nil || len(u.known) != 0 {
		t.Fatalf("%v, %v", u, err)
	}
	want := engine.Users{State: engine.UsersWaiting, Generations: [2]uint64{^uint64(0), 7}}
	for vol, is := range map[int]engine.Users{0: want, 1: {State: engine.UsersElsewhere}} {
		if err := u.keep(vol, is); err != nil {
			t.Fatal(err)
		}
	}
	again, err := readUsers(path, true)
	if err != nil || !maps.Equal(again.known, u.known) {
		t.Fatalf("%v, %v", again, err)
	}
	if err := again.adopt(func(vol int) bool { return vol == 0 }); err != nil {
		t.Fatal(err)
	}
	if again, err = readUsers(path, true); err != nil || len(again.known) != 1 || again.known[0] != want {
		t.Fatalf("%v, %v", again, err)
	}
	if err := again.keep(0, engine.Users{}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	for _, text := range []string{"", "{", "null", `{"0":{"State":"none of them"}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readUsers(path, true); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
		if u, err := readUsers(path, false); err != nil || u.adopt(func(int) bool { return false }) != nil {
			t.Errorf("%q, and no device is in use: %v", text, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q, and no device is in use: it is left: %v", text, err)
		}
	}
}

// A record that cannot be written says nothing to the next daemon, rather than what holds no longer.
func TestUsersRecordThatCannotBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r0.users")
	u, err := readUsers(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.keep(0, engine.Users{State: engine.UsersWaiting}); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".new", 0o700); err != nil { // in the way of what replaces it
		t.Fatal(err)
	}
	if err := u.keep(0, engine.Users{State: engine.UsersElsewhere}); err == nil {
		t.Fatal("it was written")
	}
	if _, err := readUsers(path, true); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("the next daemon: %v", err)
	}
}

// An order overtakes the supervisor just when that has found that users who got errors have ended. The engine hears of it all the same: it would
// refuse to be Primary for good.
func TestEndOfUsersIsNotOvertaken(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	a.cfg.Recover = true
	d := a.devices.Volume(0)
	d.Hold("the mount at /mnt")
	a.kill()
	b.await("alone", func(s statemachine.State) bool { return s.Conn == statemachine.WFConnection })
	b.must(engine.Promote{})
	b.must(engine.Demote{})
	a.up()
	a.users("refused")
	a.await("in sync", redundant)
	promoted := make(chan error, 1)
	var once sync.Once
	d.mu.Lock()
	d.onStop = func(ctx context.Context) {
		once.Do(func() {
			go func() { promoted <- a.do(engine.Promote{}) }()
			<-ctx.Done()
		})
	}
	d.holder = ""
	d.mu.Unlock()
	if err := <-promoted; err != nil {
		t.Error(err)
	}
}
