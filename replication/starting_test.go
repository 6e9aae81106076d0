package replication

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// doesNotOpen has every open of a disk wait until the channel that is returned is closed. The other one has an element for each.
func (n *node) doesNotOpen() (opening <-chan struct{}, answers chan struct{}) {
	began, answers := make(chan struct{}, 16), make(chan struct{})
	n.cfg.open = func(v *config.Volume) (*backing, error) {
		began <- struct{}{}
		<-answers
		return openBacking(v)
	}
	if n.res != nil {
		n.res.cfg.open = n.cfg.open
	}
	return began, answers
}

// reports waits until the control socket says of volume 0 what is wanted.
func (n *node) reports(what string, ok func(DeviceStatus) bool) {
	n.t.Helper()
	client, err := Dial(n.cfg.RunDir, "r0")
	if err != nil {
		n.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	var last DeviceStatus
	for st, err := range client.Watch(ctx) {
		if err != nil {
			n.t.Fatalf("%s: the status never shows %s, but %+v: %v", n.cfg.Local.Name(), what, last, err)
		}
		if last = st.Devices[0]; ok(last) {
			return
		}
	}
}

func (n *node) beingOpened(d DeviceStatus) bool {
	return regexp.MustCompile(`the open of ` + n.cfg.Local.Volumes[0].Disk + ` began at \d\d:\d\d:\d\d, [1-9].*s ago`).MatchString(d.DiskWaits)
}

// A daemon is started on a disk that cannot even be opened: status says which and since when, it ends when it is told to, and goes on when the disk answers.
func TestStartOnADiskThatDoesNotOpen(t *testing.T) {
	for name, order := range map[string]engine.Command{
		"down": engine.Down{}, "down --force": engine.Down{Force: true}, "SIGTERM": nil, "nothing": engine.PauseSync{On: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNodes(t, nil)[0]
			opening, answers := n.doesNotOpen()
			held := make(chan string, 1)
			n.cfg.HeldUp = func(why string) { held <- why }
			ready := n.begin()
			<-opening
			n.reports("that it is opened", func(d DeviceStatus) bool { return d.DiskState == "Attaching" && n.beingOpened(d) })
			if err := n.do(engine.Detach{Force: true}); err == nil || !strings.Contains(err.Error(), "still starting") {
				t.Errorf("detach --force: %v", err)
			}
			if name == "nothing" {
				if why := <-held; !strings.Contains(why, "does not answer") {
					t.Errorf("the start is held up: %q", why)
				}
				close(answers)
				<-ready
				n.await("attached", func(s statemachine.State) bool { return s.Disk == statemachine.Inconsistent })
				return
			}
			begun := time.Now()
			err := n.force(order)
			if order == nil {
				if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "it is still being opened") {
					t.Error(err)
				}
			} else if ended := <-n.ended; err != nil || ended != nil {
				t.Errorf("%v; the daemon ends with %v", err, ended)
			} else {
				n.ended <- nil
			}
			if d := time.Since(begun); d > forcedTime/2 {
				t.Errorf("it took %v", d)
			}
			close(answers)
			n.cfg.open, n.cfg.HeldUp = nil, nil
			n.up() // waits for the disk that was opened late, and closed then
		})
	}
}

// Users that the last daemon has left are not thrown out by an end of the start: it is refused, and the start goes on, with one open of the disk.
func TestEndOfAStartIsRefusedByUsers(t *testing.T) {
	n := connectedPair(t)[0]
	n.cfg.Recover = true
	n.devices.Volume(0).Hold("the mount at /mnt")
	n.kill()
	opening, answers := n.doesNotOpen()
	ready := n.begin()
	<-opening
	for _, force := range []bool{false, true} {
		if err := n.do(engine.Down{Force: force}); !DeviceBusy(err) {
			t.Fatalf("down, force %v: %v", force, err)
		}
	}
	select {
	case <-opening:
		t.Error("the disk is opened twice at a time")
	default:
	}
	close(answers)
	<-ready
	n.await("Primary again", func(s statemachine.State) bool { return s.Role == statemachine.Primary })
	n.devices.Volume(0).Hold("")
}

// An attach of a disk that does not open says so, too, and a further one opens nothing beside it.
func TestAttachOfADiskThatDoesNotOpen(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.up()
	n.must(engine.Detach{})
	n.await("Diskless", func(s statemachine.State) bool { return s.Disk == statemachine.Diskless })
	opening, answers := n.doesNotOpen()
	begun, asBegun := context.WithCancel(t.Context())
	go func() {
		<-opening
		asBegun()
	}()
	short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for i, ctx := range []context.Context{begun, short} {
		err := n.res.Do(ctx, engine.Attach{})
		if err == nil || !strings.Contains(err.Error(), "still being opened") {
			t.Fatalf("attach %d: %v", i, err)
		}
	}
	n.reports("that it is opened", n.beingOpened)
	if len(opening) > 0 {
		t.Errorf("the disk was opened %d times more", len(opening))
	}
	close(answers)
	n.must(engine.Attach{})
}
