package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
	"github.com/urbd/urbd/ublk/uring"
)

// hanging are parts of a disk that do not answer.
type hanging struct{ data, meta bool }

func (h hanging) String() string {
	switch h {
	case hanging{data: true}:
		return "data"
	case hanging{meta: true}:
		return "metadata"
	}
	return "both"
}

// fullPipe takes no write until it is read.
func fullPipe(t testing.TB) int {
	t.Helper()
	fd := newPipe(t)
	unix.SetNonblock(fd, true)
	for err := error(nil); err == nil; {
		_, err = unix.Write(fd, make([]byte, 4096))
	}
	unix.SetNonblock(fd, false) // the ring would answer EAGAIN instead of waiting
	return fd
}

// hangs has writes to parts of the disk never end.
func (n *node) hangs(h hanging) {
	n.t.Helper()
	fd := fullPipe(n.t)
	if err := n.res.on(n.t.Context(), func(l *loop) {
		d := l.disks.stores[0]
		if h.data {
			d.data.file = uring.FD(fd)
		}
		if h.meta {
			d.meta.file = uring.FD(fd)
		}
	}); err != nil {
		n.t.Fatal(err)
	}
}

// opensHanging has the disk that is opened next answer no read, so that it is never attached. Nobody can take its I/O back.
func (n *node) opensHanging() {
	n.cfg.open = func(v *config.Volume) (*backing, error) {
		b, err := openBacking(v)
		if err != nil {
			return nil, err
		}
		real, err := unix.Dup(b.data.fd)
		if err == nil {
			err = unix.Dup3(newPipe(n.t), b.data.fd, unix.O_CLOEXEC)
		}
		go func() { // the ring has the pipe by then; what cancels the I/O of a file means another one
			n.attaches()
			unix.Dup3(real, b.data.fd, unix.O_CLOEXEC)
			unix.Close(real)
		}()
		return b, err
	}
	if n.res != nil {
		n.res.cfg.open = n.cfg.open
	}
}

// attaches waits until I/O on a disk that is being attached is in flight.
func (n *node) attaches() bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		st, err := n.res.Status(n.t.Context())
		if err == nil && st.Volumes[0].State.Disk == statemachine.Attaching && works(st.Volumes[0]) {
			return true
		}
		select {
		case <-tick.C:
		case <-late:
			n.t.Error("no disk is being attached")
			return false
		}
	}
}

// forcedTime is what a forced order may take: as long as it waits for a disk, and as much again on a machine that is busy.
const forcedTime = 10 * time.Second

// A forced order, or the end of the daemon, gets through and is answered in its time, whatever is at work that a disk which hangs holds up; and what was at work
// ends, too, with a sentence. Every order meets every other on either node; with URBD_OVERTAKE every part of the disk hangs below each of them,
// without it one.
func TestForcedOrdersOvertake(t *testing.T) {
	type order struct {
		name string
		cmd  engine.Command
	}
	room, making := make(chan struct{}, 12), make(chan struct{}, 1) // they wait most of the time, but not while a pair is made
	var all sync.WaitGroup
	kinds := []hanging{{true, true}, {meta: true}, {data: true}}
	n := 0
	for _, work := range []order{
		{"down", engine.Down{}}, {"secondary", engine.Demote{}}, {"primary", engine.Promote{}}, {"attach", engine.Attach{}}, {"detach", engine.Detach{}},
		{"disconnect", engine.Disconnect{}}, {"invalidate", engine.Invalidate{}},
	} {
		for _, forced := range []order{
			{"detach --force", engine.Detach{Force: true}}, {"disconnect --force", engine.Disconnect{Force: true}}, {"down --force", engine.Down{Force: true}}, {"SIGTERM", nil},
		} {
			for side, role := range []string{"Primary", "Secondary"} {
				n++
				for k, h := range kinds {
					if os.Getenv("URBD_OVERTAKE") == "" && k != n%len(kinds) {
						continue
					}
					room <- struct{}{}
					all.Go(func() {
						defer func() { <-room }()
						t.Run(fmt.Sprintf("%s hangs, %s, %s, %s", h, role, work.name, forced.name), func(t *testing.T) {
							making <- struct{}{}
							nodes := func() [2]*node {
								defer func() { <-making }()
								return hangingPair(t, 0)
							}()
							overtakes(t, nodes, side, h, work.cmd, forced.cmd)
						})
					})
				}
			}
		}
	}
	all.Wait()
}

func overtakes(t *testing.T, nodes [2]*node, side int, h hanging, first, second engine.Command) {
	n := nodes[side]
	if _, attach := first.(engine.Attach); attach {
		n.must(engine.Detach{})
		n.opensHanging()
	} else {
		n.hangs(h)
		if h.data {
			go nodes[0].devices.Volume(0).Do(t.Context(), engine.Request{Op: engine.OpWrite, Off: 1 << 20, Len: 8192, Data: page(t, 8192)})
			n.shows("I/O in flight", works)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.res.Do(ctx, first) }()
	if !n.holdsUp(ended) {
		return // what does not wait for the disk cannot be overtaken
	}
	begun := time.Now()
	err := n.force(second)
	var refused statemachine.Refusal // there may be nothing left to disconnect
	if err != nil && !errors.As(err, &refused) || time.Since(begun) > forcedTime {
		t.Errorf("%T: %v, after %v", second, err, time.Since(begun))
	}
	if _, downs := second.(engine.Down); !downs && second != nil {
		cancel() // it may have to wait for what the kernel still works on
	}
	select {
	case err := <-ended:
		if err != nil && strings.HasPrefix(err.Error(), "context") {
			t.Errorf("%T: %v", first, err)
		}
	case <-time.After(forcedTime):
		t.Errorf("%T has not ended", first)
	}
}

// force gives a forced order; nil is the end of the daemon.
func (n *node) force(cmd engine.Command) error {
	if cmd != nil {
		ctx, cancel := context.WithTimeout(n.t.Context(), 2*forcedTime)
		defer cancel()
		return n.res.Do(ctx, cmd)
	}
	n.cancel()
	select {
	case err := <-n.ended:
		n.ended <- nil
		return err
	case <-time.After(2 * forcedTime):
		return errors.New("the daemon does not end")
	}
}

// holdsUp waits until the disk is known to hang, and reports whether an order still waits then.
func (n *node) holdsUp(ended <-chan error) bool {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return false
		case <-tick.C:
		}
		if st, err := n.res.Status(n.t.Context()); err == nil && st.Volumes[0].DiskWaits != "" {
			return true
		}
	}
}

// A daemon that is started on a disk that hangs says so, and does what it is told.
func TestStartOnADiskThatHangs(t *testing.T) {
	for name, order := range map[string]engine.Command{
		"detach --force": engine.Detach{Force: true}, "down --force": engine.Down{Force: true}, "SIGTERM": nil, "disk-timeout": engine.PauseSync{On: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := newNodes(t, func(r *config.Resource) {
				if name == "disk-timeout" {
					r.Hosts[1].Volumes[0].Options.DiskTimeout = 2 * time.Second
				}
			})
			upAndEqual(t, nodes)
			n := nodes[1]
			n.down()
			n.opensHanging()
			ready := n.begin()
			if !n.attaches() {
				return
			}
			n.shows("what is waited for", func(v engine.VolumeStatus) bool { return strings.Contains(v.DiskWaits, "detach --force") })
			begun := time.Now()
			if err := n.force(order); err != nil && !(order == nil && errors.Is(err, context.Canceled)) || time.Since(begun) > forcedTime {
				t.Errorf("%v, after %v", err, time.Since(begun))
			}
			if _, downs := order.(engine.Down); downs {
				if err := <-n.ended; err != nil {
					t.Errorf("the daemon ends with %v", err)
				}
				n.ended <- nil
				select {
				case <-ready:
					t.Error("what was taken down says that it serves")
				default:
				}
				return
			}
			if order == nil {
				return
			}
			<-ready
			n.await("served by the peer", func(s statemachine.State) bool {
				return s.Conn == statemachine.Connected && s.PeerDisk == statemachine.UpToDate
			})
		})
	}
}

// Users that the last daemon has left wait for a promotion that a disk which hangs holds up: orders do not wait for that.
func TestOrdersOvertakeTheReturnOfUsers(t *testing.T) {
	nodes := hangingPair(t, 0)
	n, b := nodes[0], nodes[1]
	n.cfg.Recover = true
	b.must(engine.Down{})
	n.await("alone", func(s statemachine.State) bool { return s.Conn < statemachine.Connected })
	n.devices.Volume(0).Hold("the mount at /mnt")
	n.kill()
	n.up()
	n.hangs(hanging{meta: true}) // users wait for the peer for two seconds
	n.shows("a promotion that hangs", func(v engine.VolumeStatus) bool { return v.DiskWaits != "" })
	for _, cmd := range []engine.Command{engine.Attach{}, engine.Promote{}, engine.Down{Force: true}, engine.Demote{}, engine.Detach{Force: true}} {
		n.res.changes.changed() // the users' return is tried again
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := n.res.Do(ctx, cmd)
		cancel()
		if took := time.Since(begun); took > 4*time.Second || err != nil && strings.Contains(err.Error(), "still at work") {
			t.Errorf("%T: %v, after %v", cmd, err, took)
		}
	}
	n.devices.Volume(0).Hold("")
	if err := n.force(engine.Down{Force: true}); err != nil {
		t.Error(err)
	}
}
