package replication

import (
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
)

// hold keeps the loop of a node from doing anything until the function that it returns is called.
func (n *node) hold() (letGo func()) {
	n.t.Helper()
	held, over := make(chan struct{}), make(chan struct{})
	if err := n.res.serving().post(n.t.Context(), func() { close(held); <-over }); err != nil {
		n.t.Fatal(err)
	}
	<-held
	return func() { close(over) }
}

// A store that was just detached is closed while the next attach finds it in use: it is free then.
func TestAttachWhileTheStoreIsClosed(t *testing.T) {
	r, tries := &Resource{}, 0
	r.closing.Store(1)
	want := &backing{}
	got, err := r.openWith(t.Context(), 0, func() (*backing, error) {
		if tries++; tries == 1 {
			r.closing.Store(0)
			return nil, &BusyError{}
		}
		return want, nil
	})
	if got != want || err != nil {
		t.Errorf("%v after %d tries", err, tries)
	}
}

// The client of an attach goes away before the loop has taken the opened store, which is closed then. Its descriptor has
// become that of another file when the loop looks.
func TestAttachGivenUp(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.up()
	n.must(engine.Detach{})
	n.await("Diskless", func(s statemachine.State) bool { return s.Disk == statemachine.Diskless })
	v, err := n.res.volume(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.res.open(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	letGo := n.hold()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.res.attachOpened(gone, v, b); !errors.Is(err, context.Canceled) {
		t.Errorf("attach without a client: %v", err)
	}
	for range 4 {
		other, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
	}
	letGo()
	has := false
	if err := n.res.on(t.Context(), func(l *loop) { has = l.disks.stores[0] != nil }); err != nil || has {
		t.Errorf("the loop has a closed store: %v, %v", has, err)
	}
	n.must(engine.Attach{})
}

// Applications may wait for every volume: the disk of one that takes its time to attach keeps no other one waiting.
func TestVolumesAttachTogether(t *testing.T) {
	n := newNodes(t, func(r *config.Resource) {
		for i := range r.Hosts {
			v := r.Hosts[i].Volumes[0]
			v.Number, v.Minor, v.Disk = 1, v.Minor+2, file(t, diskSize)
			r.Hosts[i].Volumes = append(r.Hosts[i].Volumes, v)
		}
	})[0]
	n.cfg.Recover = true // the stores that were detached may take a moment to close
	n.up()
	n.must(engine.Detach{Vol: 0})
	n.must(engine.Detach{Vol: 1})
	opened, err := n.res.openAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slow := *opened[0].b.meta // an empty pipe, which answers no read
	pipe := newPipe(t)
	if slow.fd, err = unix.Dup(pipe); err != nil {
		t.Fatal(err)
	}
	opened[0].b.meta = &slow
	ended := make(chan error)
	go func() { ended <- n.res.start(t.Context(), opened) }()
	for {
		changed := n.res.changes.wait()
		st, err := n.res.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st.Volumes[0].State.Disk == statemachine.Attaching && st.Volumes[1].State.Disk > statemachine.Attaching {
			break
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("one volume waits for the other: %v, %v", st.Volumes[0].State, st.Volumes[1].State)
		}
	}
	if _, err := unix.Write(pipe, make([]byte, 4096)); err != nil { // nothing that is metadata
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), n.cfg.Local.Volumes[0].Disk) {
		t.Errorf("the volume that cannot be attached: %v", err)
	}
}
