package replication

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
	"github.com/urbd/urbd/ublk/uring"
)

// TestFailures are what is refused before the engine is asked, and what is no state change: drbdsetup's numbers.
func TestFailures(t *testing.T) {
	nodes := connectedPair(t)
	nodes[0].must(engine.PauseSync{Vol: 0, On: true})
	for _, tt := range []struct {
		cmd  engine.Command
		want statemachine.Refusal
		code int32
	}{
		{engine.Connect{DiscardMyData: true}, statemachine.DiscardOnPrimary, 123},
		{engine.Attach{Vol: 0}, statemachine.AlreadyAttached, 124},
		{engine.Connect{}, statemachine.AlreadyConnecting, 125},
		{engine.PauseSync{Vol: 0, On: true}, PausedAlready, 134},
		{engine.NewCurrentUUID{Vol: 0}, engine.NotStandAlone, 151},
		{engine.NewCurrentUUID{Vol: 0, ClearBitmap: true}, statemachine.NotFresh, 151},
	} {
		err := nodes[0].do(tt.cmd)
		_, body := outcome(err)
		f, _ := body.(failure)
		if there := (&RefusedError{f.Refused, f.Code}); !errors.Is(err, tt.want) || f.Code != tt.code || !errors.Is(there, tt.want) || !there.Failure() {
			t.Errorf("%+v: %v, over the socket %+v", tt.cmd, err, body)
		}
	}
	nodes[0].must(engine.PauseSync{Vol: 0})
	if err := nodes[0].do(engine.PauseSync{Vol: 0}); err != NotPaused {
		t.Errorf("resume-sync of what is not paused: %v", err)
	}
}

// TestBlockSizeReachesTheDevice: what the backing store can be read and written in is what the device is started with.
func TestBlockSizeReachesTheDevice(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.cfg.Recover = true // the store that was detached may take a moment to close
	n.up()
	n.must(engine.Detach{Vol: 0})
	v := &n.cfg.Local.Volumes[0]
	b, err := n.res.open(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	b.data.block = 4096
	if err := n.res.attachOpened(t.Context(), v, b); err != nil {
		t.Fatal(err)
	}
	n.must(engine.Promote{Force: true})
	if got := n.devices.Volume(0).cfg.BlockSize; got != 4096 {
		t.Errorf("the device has logical blocks of %d bytes", got)
	}
}

// TestAnOrderForEveryVolumeReachesEveryVolume: one that refuses is no reason for the next.
func TestAnOrderForEveryVolumeReachesEveryVolume(t *testing.T) {
	n := newNodes(t, func(r *config.Resource) {
		for i := range r.Hosts {
			v := r.Hosts[i].Volumes[0]
			v.Number, v.Minor, v.Disk = 1, v.Minor+2, file(t, diskSize)
			r.Hosts[i].Volumes = append(r.Hosts[i].Volumes, v)
		}
	})[0]
	n.up()
	n.must(engine.Detach{Vol: 1})
	c, err := Dial(n.cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Command(t.Context(), Verb{Verb: VerbAttach}); !errors.Is(err, statemachine.AlreadyAttached) {
		t.Errorf("attach of both, one of them attached: %v", err)
	}
	if st, err := n.res.Status(t.Context()); err != nil || st.Volumes[1].State.Disk < statemachine.Inconsistent {
		t.Errorf("volume 1: %v %v", st.Volumes[1].State, err)
	}
}

// A down whose disk cannot be marked Outdated is carried out, and says over the control socket what it lacks.
func TestDownWhoseMetadataFail(t *testing.T) {
	b := connectedPair(t)[1]
	full, err := unix.Open("/dev/full", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(full) })
	if err := b.res.on(t.Context(), func(l *loop) { l.disks.stores[0].meta.file = uring.FD(full) }); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(b.cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Command(t.Context(), Verb{Verb: VerbDown})
	if lacks := new(CarriedOutError); !errors.As(err, &lacks) || !strings.Contains(lacks.Reason, "not marked Outdated") {
		t.Errorf("down: %v", err)
	}
	if err := <-b.ended; err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
	b.ended <- nil
}
