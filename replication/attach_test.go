package replication

import (
	"context"
	"errors"
	"os"
	"testing"

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
	got, err := r.openWith(t.Context(), func() (*backing, error) {
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
