package replication

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
	"github.com/urbd/urbd/ublk/uring"
)

// hangingPair is up and equal, a Primary, with disks that have no flushes, so that a pipe can stand for one that hangs.
func hangingPair(t *testing.T, timeout time.Duration) [2]*node {
	nodes := newNodes(t, func(r *config.Resource) {
		for i := range r.Hosts {
			o := &r.Hosts[i].Volumes[0].Options
			o.DiskFlushes, o.MDFlushes, o.DiskTimeout = false, false, timeout
		}
	})
	upAndEqual(t, nodes)
	return nodes
}

// hang puts a pipe in place of the data of a disk: a full one, which takes no write, or an empty one, which answers no read.
// Until what is returned is called no I/O ends, and nobody can take it back.
func (n *node) hang(full bool) (back func()) {
	n.t.Helper()
	fd := newPipe(n.t)
	if full {
		unix.SetNonblock(fd, true)
		for err := error(nil); err == nil; {
			_, err = unix.Write(fd, make([]byte, 4096))
		}
		unix.SetNonblock(fd, false) // the ring would answer EAGAIN instead of waiting
	}
	real := n.redirect(uring.FD(fd))
	return func() {
		n.redirect(real)
		unix.SetNonblock(fd, full) // who reads it empty may do that again
		for p := make([]byte, 64<<10); full; {
			if got, err := unix.Read(fd, p); err != nil || got < len(p) {
				break
			}
		}
		if !full {
			unix.Write(fd, make([]byte, 8192))
		}
	}
}

// redirect has the data of volume 0 go to another file.
func (n *node) redirect(f uring.File) (before uring.File) {
	n.t.Helper()
	if err := n.res.on(n.t.Context(), func(l *loop) {
		if d := l.disks.stores[0]; d != nil {
			before, d.data.file = d.data.file, f
		}
	}); err != nil {
		n.t.Fatal(err)
	}
	return before
}

// shows waits until the status of volume 0 is as wanted; what is waited for may come without a change of state.
func (n *node) shows(what string, ok func(engine.VolumeStatus) bool) {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		st, err := n.res.Status(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		if ok(st.Volumes[0]) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			n.t.Fatalf("the status never shows %s: %+v", what, st.Volumes[0])
		}
	}
}

func works(v engine.VolumeStatus) bool { return v.LowerPending > 0 }

func (n *node) reattach() {
	n.t.Helper()
	n.await("without a disk", func(s statemachine.State) bool { return s.Disk == statemachine.Diskless })
	n.must(engine.Attach{})
	n.await("UpToDate", redundant)
}

// A Primary whose disk hangs: the application is answered by the peer.
func TestHungDiskPrimary(t *testing.T) {
	nodes := hangingPair(t, time.Second)
	during, got := page(t, 8192), page(t, 8192)
	back := nodes[0].hang(true)
	begun := time.Now()
	nodes[0].io(engine.Request{Op: engine.OpWrite, Off: 2 << 20, Len: 8192, Data: during})
	if d := time.Since(begun); d < time.Second {
		t.Fatalf("answered after %v: the disk has not hung", d)
	}
	nodes[0].io(engine.Request{Op: engine.OpRead, Off: 2 << 20, Len: 8192, Data: got})
	if !bytes.Equal(got, during) {
		t.Fatal("the write is not on the peer")
	}
	back()
	nodes[0].reattach()
	nodes[0].must(engine.Demote{})
	sameDisks(t, nodes)
}

// A read that hangs is served by the peer, with memory that the disk cannot write to when it comes back.
func TestHungDiskRead(t *testing.T) {
	nodes := hangingPair(t, time.Second)
	before, got := page(t, 8192), page(t, 8192)
	nodes[0].io(engine.Request{Op: engine.OpWrite, Off: 1 << 20, Len: 8192, Data: before})
	back := nodes[0].hang(false)
	nodes[0].io(engine.Request{Op: engine.OpRead, Off: 1 << 20, Len: 8192, Data: got})
	if !bytes.Equal(got, before) {
		t.Fatal("read something else than was written")
	}
	back()
	nodes[0].reattach()
	nodes[0].must(engine.Demote{})
	sameDisks(t, nodes)
}

// A Secondary whose disk hangs, and nobody has told it how long to wait: forced orders do not wait, others say what for.
func TestHungDiskSecondary(t *testing.T) {
	nodes := hangingPair(t, 0)
	back := nodes[1].hang(true)
	wrote := make(chan engine.Errno, 1)
	go func() {
		errno, _ := nodes[0].devices.Volume(0).Do(t.Context(), engine.Request{Op: engine.OpWrite, Off: 1 << 20, Len: 8192, Data: page(t, 8192)})
		wrote <- errno
	}()
	nodes[1].shows("that it hangs", func(v engine.VolumeStatus) bool { return strings.Contains(v.DiskWaits, "detach --force") })
	client, err := Dial(nodes[1].cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = client.Command(short, Verb{Verb: VerbDetach})
	if late := new(LateError); !errors.As(err, &late) || !late.GoesOn || !strings.Contains(late.Reason, "does not answer") {
		t.Fatalf("detach without force: %v", err)
	}
	nodes[1].must(engine.Detach{Force: true})
	if errno := <-wrote; errno != 0 {
		t.Fatalf("the application got errno %d", errno)
	}
	if err := nodes[1].do(engine.Attach{}); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Fatalf("attach beside a disk that was given up: %v", err)
	}
	back()
	nodes[1].reattach()
	nodes[0].must(engine.Demote{})
	sameDisks(t, nodes)
}

// A daemon whose disk hangs ends all the same, and what it leaves is taken up by the next one.
func TestHungDiskDown(t *testing.T) {
	nodes := hangingPair(t, 0)
	nodes[1].hang(true)
	go nodes[0].devices.Volume(0).Do(t.Context(), engine.Request{Op: engine.OpWrite, Off: 1 << 20, Len: 8192, Data: page(t, 8192)})
	nodes[1].shows("I/O in flight", works)
	client, err := Dial(nodes[1].cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	orderly := make(chan error, 1)
	go func() { orderly <- client.Command(t.Context(), Verb{Verb: VerbDetach}) }()
	nodes[1].shows("that the order waits", func(engine.VolumeStatus) (waits bool) {
		nodes[1].res.on(t.Context(), func(l *loop) { waits = len(l.replies) > 0 })
		return waits
	})
	begun := time.Now()
	nodes[1].must(engine.Down{Force: true})
	if err, late := <-orderly, new(LateError); !errors.As(err, &late) || !strings.Contains(late.Reason, "the end of the daemon") {
		t.Errorf("the order that waits is answered with %v", err)
	}
	if err := <-nodes[1].ended; err != nil {
		t.Fatal(err)
	}
	nodes[1].ended <- nil
	if d := time.Since(begun); d > 12*time.Second {
		t.Fatalf("down --force took %v", d)
	}
	if _, err := os.Stat(SocketPath(nodes[1].cfg.RunDir, "r0")); err == nil {
		t.Fatal("the control socket is left behind")
	}
}

// An order that its client gives up is not carried out later.
func TestOrderTakenBack(t *testing.T) {
	nodes := hangingPair(t, 0)
	back := nodes[0].hang(true)
	wrote := make(chan engine.Errno, 1)
	go func() {
		errno, _ := nodes[0].devices.Volume(0).Do(t.Context(), engine.Request{Op: engine.OpWrite, Off: 1 << 20, Len: 8192, Data: page(t, 8192)})
		wrote <- errno
	}()
	nodes[0].shows("I/O in flight", works)
	gone, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	client, err := Dial(nodes[0].cfg.RunDir, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.Command(gone, Verb{Verb: VerbSecondary})
	if late := new(LateError); !errors.As(err, &late) || late.GoesOn {
		t.Fatalf("secondary: %v", err)
	}
	if nodes[0].devices.Volume(0).Size() == 0 {
		t.Fatal("the device has gone, and the order was taken back")
	}
	back()
	if errno := <-wrote; errno != 0 {
		t.Fatalf("the write got errno %d", errno)
	}
	nodes[0].must(engine.PauseSync{On: true}) // an order that was still there would be carried out before this one is answered
	nodes[0].await("still Primary", func(s statemachine.State) bool { return s.Role == statemachine.Primary })
}
