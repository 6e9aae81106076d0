package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
)

func TestWriteReachesBothDisks(t *testing.T) {
	nodes := connectedPair(t)
	a := nodes[0]
	if size := a.devices.Volume(0).Size(); size <= diskSize/2 || size >= diskSize {
		t.Fatalf("the device has %d bytes", size)
	}
	var wg sync.WaitGroup
	for i := range int64(32) {
		buf := page(t, 64<<10)
		wg.Go(func() {
			for k := range int64(4) {
				a.io(engine.Request{Op: engine.OpWrite, Off: (i*4 + k) * 64 << 10, Len: 64 << 10, Data: buf})
			}
		})
	}
	wg.Wait()
	want := page(t, 8192)
	a.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 8192, Data: want, FUA: true})
	a.io(engine.Request{Op: engine.OpDiscard, Off: 1 << 20, Len: 1 << 20})
	a.io(engine.Request{Op: engine.OpWriteZeroes, Off: 3 << 20, Len: 1 << 20, NoUnmap: true})
	a.io(engine.Request{Op: engine.OpFlush})
	got := page(t, 8192)
	a.io(engine.Request{Op: engine.OpRead, Off: 4096, Len: 8192, Data: got})
	if !bytes.Equal(got, want) {
		t.Error("reads other bytes than were written")
	}
	a.io(engine.Request{Op: engine.OpRead, Off: 1<<20 + 4096, Len: 8192, Data: got})
	if !bytes.Equal(got, make([]byte, 8192)) {
		t.Error("discarded bytes do not read as zeroes")
	}
	a.must(engine.Demote{})
	sameDisks(t, nodes)
}

func TestResyncAfterPeerWasAway(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	b.down()
	a.await("alone", func(s statemachine.State) bool { return s.Conn < statemachine.WFReportParams })
	for i := range int64(64) {
		a.io(engine.Request{Op: engine.OpWrite, Off: i * 128 << 10, Len: 64 << 10, Data: page(t, 64<<10)})
	}
	b.up()
	a.await("in sync", redundant)
	b.await("in sync", redundant)
	a.must(engine.Demote{})
	sameDisks(t, nodes)
}

func TestInitialSyncByForce(t *testing.T) {
	nodes := newNodes(t, nil)
	nodes[0].up()
	nodes[0].must(engine.Promote{Force: true})
	nodes[0].io(engine.Request{Op: engine.OpWrite, Off: 0, Len: 1 << 20, Data: page(t, 1<<20)})
	nodes[1].up()
	nodes[0].await("in sync", redundant)
	nodes[1].await("in sync", redundant)
	nodes[0].must(engine.Demote{})
	sameDisks(t, nodes)
}

// TestHeldDeviceSurvivesRestart stops a daemon whose device is mounted. The connection breaks; the
// next daemon adopts the device and is Primary again without being asked.
func TestHeldDeviceSurvivesRestart(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	a.cfg.Recover = true
	want := page(t, 4096)
	a.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: want})
	a.devices.Volume(0).Hold("the mount at /mnt")
	a.down()
	b.await("alone", func(s statemachine.State) bool { return s.Conn == statemachine.WFConnection })
	if a.devices.Volume(0).Size() == 0 {
		t.Fatal("the device went away under its mount")
	}
	a.up()
	a.await("Primary again", func(s statemachine.State) bool { return s.Role == statemachine.Primary && redundant(s) })
	a.log.wait(t, "the users of the block device go on")
	got := page(t, 4096)
	a.io(engine.Request{Op: engine.OpRead, Off: 4096, Len: 4096, Data: got})
	if !bytes.Equal(got, want) {
		t.Error("reads other bytes than were written before the restart")
	}
	a.io(engine.Request{Op: engine.OpWrite, Off: 8192, Len: 4096, Data: page(t, 4096)})
	a.devices.Volume(0).Hold("")
	a.must(engine.Demote{})
	sameDisks(t, nodes)
}

// TestHeldDeviceWithoutPeerGoesOnSoon stops a daemon that had no peer: the next one does not wait for it as long as for one
// that was there.
func TestHeldDeviceWithoutPeerGoesOnSoon(t *testing.T) {
	nodes := connectedPair(t)
	a, b := nodes[0], nodes[1]
	a.cfg.Recover = true
	b.down()
	a.await("without the peer", func(s statemachine.State) bool {
		return s.PeerDisk != statemachine.UpToDate && s.Conn != statemachine.Connected
	})
	a.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: page(t, 4096)})
	a.devices.Volume(0).Hold("the mount at /mnt")
	a.down()
	began := time.Now()
	a.up()
	a.log.wait(t, "the users of the block device go on")
	if took := time.Since(began); took > meetPeer/2 {
		t.Errorf("its users waited %v", took)
	}
	if !a.devices.Volume(0).Prepared() {
		t.Error("nothing was prepared for them meanwhile")
	}
	a.devices.Volume(0).Hold("")
}

// TestIdle counts what a connected pair does when nobody wants anything: nothing but pings.
func TestIdle(t *testing.T) {
	nodes := connectedPair(t)
	turns := func(n *node) (turns int64) {
		if err := n.res.on(t.Context(), func(l *loop) { turns = l.turns }); err != nil {
			t.Fatal(err)
		}
		return turns
	}
	time.Sleep(time.Second) // what the sync left to say; then the time that is measured
	a, b := turns(nodes[0]), turns(nodes[1])
	const seconds = 3
	time.Sleep(seconds * time.Second)
	for i, n := range []int64{turns(nodes[0]) - a, turns(nodes[1]) - b} {
		if n > 2*seconds+1 { // the question itself is one
			t.Errorf("node %d was awake %d times in %d seconds", i, n, seconds)
		}
	}
}

func TestPromoteRefusals(t *testing.T) {
	nodes := newNodes(t, nil)
	nodes[0].up()
	if err := nodes[0].do(engine.Promote{}); !errors.Is(err, statemachine.NoUpToDateDisk) {
		t.Errorf("promotion without data: %v", err)
	}
	if nodes[0].devices.Volume(0).Size() != 0 {
		t.Error("the device is there though the promotion was refused")
	}
	nodes[0].must(engine.Promote{Force: true})
	nodes[0].devices.Volume(0).Hold("process 1 (init)")
	var busy *BusyError
	if err := nodes[0].do(engine.Demote{}); !errors.As(err, &busy) || busy.Holder != "process 1 (init)" {
		t.Errorf("demotion of a held device: %v", err)
	}
	if err := nodes[0].do(engine.Down{}); !errors.As(err, &busy) {
		t.Errorf("down with a held device: %v", err)
	}
	if st, err := nodes[0].res.Status(t.Context()); err != nil || st.Role != statemachine.Primary {
		t.Errorf("role %v, %v", st.Role, err)
	}
	nodes[0].devices.Volume(0).Hold("")
	nodes[0].must(engine.Demote{})
}

func TestDetachAndAttach(t *testing.T) {
	nodes := connectedPair(t)
	a := nodes[0]
	a.must(engine.Detach{})
	a.await("Diskless", func(s statemachine.State) bool { return s.Disk == statemachine.Diskless })
	want := page(t, 4096)
	a.io(engine.Request{Op: engine.OpWrite, Off: 8192, Len: 4096, Data: want})
	got := page(t, 4096)
	a.io(engine.Request{Op: engine.OpRead, Off: 8192, Len: 4096, Data: got})
	if !bytes.Equal(got, want) {
		t.Error("a diskless Primary reads other bytes than it wrote")
	}
	a.must(engine.Attach{})
	if err := a.do(engine.Attach{}); !errors.Is(err, statemachine.AlreadyAttached) {
		t.Errorf("second attach: %v", err)
	}
	a.await("in sync", redundant)
	a.must(engine.Demote{})
	sameDisks(t, nodes)
}

func TestSecondDaemonIsRefused(t *testing.T) {
	nodes := newNodes(t, nil)
	nodes[0].up()
	second, err := New(nodes[0].cfg)
	if err != nil {
		t.Fatal(err)
	}
	var already *AlreadyRunningError
	if err := second.Run(t.Context()); !errors.As(err, &already) || already.PID != os.Getpid() {
		t.Errorf("second run: %v", err)
	}
	other := nodes[0].cfg
	other.RunDir = t.TempDir()
	var busy *BusyError
	host := *other.Local
	host.Address = netip.AddrPortFrom(host.Address.Addr(), freePort(t))
	other.Local = &host
	third, _ := New(other)
	if err := third.Run(t.Context()); !errors.As(err, &busy) {
		t.Errorf("second owner of the disk: %v", err)
	}
}

// TestDaemonWaitsForACommandsLock: what holds the lock for a moment, and serves nothing, does not keep a daemon from starting.
func TestDaemonWaitsForACommandsLock(t *testing.T) {
	n := newNodes(t, nil)[0]
	release, err := Lock(n.cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(200*time.Millisecond, func() { release() })
	n.up()
}

// A daemon whose control socket was removed is neither up for a command nor down for a daemon: both ways out are told.
func TestDaemonWithoutItsSocketIsNamed(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.up()
	for _, tt := range []struct{ says, remove string }{
		{"is up already", SocketPath(n.cfg.RunDir, "r0")},
		{fmt.Sprintf("kill %d ends a daemon in order", os.Getpid()), ""},
	} {
		_, err := lockWithin(t.Context(), n.cfg.RunDir, "r0", 0)
		if running := new(AlreadyRunningError); !errors.As(err, &running) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v, want %s", err, tt.says)
		}
		if tt.remove != "" {
			if err := os.Remove(tt.remove); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDownEndsRun(t *testing.T) {
	nodes := connectedPair(t)
	nodes[0].must(engine.Down{})
	if err := <-nodes[0].ended; err != nil {
		t.Fatal(err)
	}
	nodes[0].ended <- nil
	v := &nodes[0].cfg.Local.Volumes[0]
	sb, err := ReadSuperblock(v)
	if err != nil || sb.Flags.Has(metadata.PrimaryInd) || !sb.Flags.Has(metadata.Consistent|metadata.WasUpToDate) {
		t.Errorf("metadata after down: %+v, %v", sb, err)
	}
	if a, err := ApplyAL(v); err != nil || a.Hot != 0 || a.Full {
		t.Errorf("apply-al after down: %+v, %v", a, err)
	}
	var dump bytes.Buffer
	if err := DumpMD(&dump, v); err != nil || !strings.Contains(dump.String(), "# bits-set 0;") || strings.Contains(dump.String(), "unclean") {
		t.Errorf("dump-md after down: %v\n%s", err, &dump)
	}
	nodes[1].await("looking for its peer", func(s statemachine.State) bool { return s.Conn < statemachine.WFReportParams })
}

func TestUpWithoutMetadata(t *testing.T) {
	nodes := newNodes(t, nil)
	n := nodes[0]
	if err := WipeMD(&n.cfg.Local.Volumes[0]); err != nil {
		t.Fatal(err)
	}
	res, err := New(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	var bad *metadata.Error
	if err := res.Run(t.Context()); !errors.As(err, &bad) {
		t.Fatalf("run: %v", err)
	}
	if err := CreateMD(&n.cfg.Local.Volumes[0], CreateOptions{}); err != nil { // nothing holds the disk any more
		t.Fatal(err)
	}
	n.up()
}

func TestControlSocket(t *testing.T) {
	nodes := connectedPair(t)
	a := nodes[0]
	var gone *NotRunningError
	if _, err := Dial(t.TempDir(), "r0"); !errors.As(err, &gone) {
		t.Errorf("dial without a daemon: %v", err)
	}
	path := SocketPath(a.cfg.RunDir, "r0")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", st.Mode(), err)
	}
	c, err := Dial(a.cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	st, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if st.Role != "Primary" || st.Devices[0].DiskState != "UpToDate" || st.Connections[0].PeerDevices[0].ReplicationState != "Established" ||
		st.Devices[0].Path != "/dev/fake0" || st.PID != os.Getpid() {
		t.Errorf("status: %+v", st)
	}
	peer, err := Dial(nodes[1].cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.Command(ctx, Verb{Verb: VerbPrimary}); !errors.Is(err, statemachine.TwoPrimaries) && !errors.Is(err, statemachine.RefusedByPeer) {
		t.Errorf("second Primary: %v", err)
	}
	for _, bad := range []Verb{{Verb: "explode"}, {Verb: VerbPrimary, Volume: ptr(1)}, {Verb: VerbDetach, Volume: ptr(7)}} {
		var wrong *VerbError
		if err := c.Command(ctx, bad); !errors.As(err, &wrong) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	states := make(chan string, 100)
	watching := make(chan struct{})
	go func() {
		defer close(states)
		for st, err := range c.Watch(ctx) {
			if err != nil {
				states <- err.Error()
				return
			}
			states <- st.Role
			if st.Role == "Primary" {
				select {
				case <-watching:
				default:
					close(watching)
				}
			}
		}
	}()
	<-watching
	if err := c.Command(ctx, Verb{Verb: VerbSecondary}); err != nil {
		t.Fatal(err)
	}
	if err := c.Command(ctx, Verb{Verb: VerbDown}); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for s := range states {
		seen = append(seen, s)
	}
	if len(seen) < 3 || seen[0] != "Primary" || seen[len(seen)-2] != "Secondary" || seen[len(seen)-1] != (&NotRunningError{"r0"}).Error() {
		t.Errorf("watched %q", seen)
	}
	if err := <-a.ended; err != nil {
		t.Fatal(err)
	}
	a.ended <- nil
	if _, err := c.Status(ctx); !errors.As(err, &gone) {
		t.Errorf("status after down: %v", err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestMissingAddress(t *testing.T) {
	nodes := newNodes(t, nil)
	cfg := nodes[0].cfg
	host := *cfg.Local
	host.Address = netip.MustParseAddrPort("198.51.100.7:7789")
	cfg.Local = &host
	res, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var missing *NoAddressError
	if err := res.Run(t.Context()); !errors.As(err, &missing) {
		t.Fatalf("run: %v", err)
	}
}

func TestSimilarAddresses(t *testing.T) {
	want := netip.MustParseAddr("10.0.1.7")
	have := []netip.Addr{netip.MustParseAddr("fe80::1"), netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("10.0.1.8"), netip.MustParseAddr("10.9.0.1")}
	got := (&NoAddressError{want, bySimilarity(want, have)}).Error()
	const text = "this machine has no address 10.0.1.7; it has 10.0.1.8, 10.9.0.1, 192.168.0.1, fe80::1: did you mean 10.0.1.8?"
	if got != text {
		t.Errorf("%s", got)
	}
}
