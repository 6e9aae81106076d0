package ublk

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urbd/urbd/ublk/internal/uapi"

	"golang.org/x/sys/unix"
)

func added(id uint32, owner uint64) uapi.DevInfo {
	return uapi.DevInfo{DevID: id, Queues: 1, Depth: 64, MaxIOBytes: 512 << 10, State: uapi.StateDead, OwnerTag: owner}
}

// Looking for one's own devices opens nobody else's, and costs one command for each of these.
func TestListLooksAtNothingForeign(t *testing.T) {
	f := fakeHost(t)
	for id := range uint32(6) {
		f.add(added(id, uint64(id%2)))
	}
	own := func(i *Info) bool { return i.Owner == 1 }
	found, err := List(t.Context(), own)
	if err != nil || len(found) != 3 || !slices.Equal(f.opened, []int{1, 3, 5}) {
		t.Errorf("found %+v, opened %v, %v", found, f.opened, err)
	}
	if len(f.sent) != 6+3 {
		t.Errorf("%d commands for six devices, three of them our own", len(f.sent))
	}
	for _, i := range found {
		if !i.Orphan {
			t.Errorf("%d has a server that nobody made", i.ID)
		}
	}
	f.opened = nil
	if done, err := Clean(t.Context(), own); err != nil || !slices.Equal(done, []int{1, 3, 5}) || len(f.devs) != 3 {
		t.Errorf("cleaned up %v, %d devices are left, %v", done, len(f.devs), err)
	}
}

// A device that goes away while it is looked at is none.
func TestListLeavesOutWhatGoesAway(t *testing.T) {
	f := fakeHost(t)
	f.add(added(1, 1))
	f.before = func(_ context.Context, op uint32) error {
		if op == uapi.CmdGetParams {
			return unix.ENODEV
		}
		return nil
	}
	if found, err := List(t.Context(), nil); err != nil || len(found) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// udev, or another daemon's look, does not make a server; neither does it that nothing can be found out.
func TestOrphansAreKnownForSure(t *testing.T) {
	for _, c := range []struct {
		name string
		busy time.Duration // from the start
		want bool
	}{
		{"free", 0, true},
		{"looked at", time.Second, true},
		{"served", time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fakeHost(t)
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				f.busy = func(int) bool { return time.Since(began) < c.busy }
				f.add(added(3, 1))
				if i, err := Lookup(t.Context(), 3); err != nil || i.Orphan != c.want {
					t.Errorf("orphan: %v, %v", i.Orphan, err)
				}
			})
		})
	}
	t.Run("without its node", func(t *testing.T) {
		f := fakeHost(t)
		f.add(added(3, 1))
		driver.open = func(int) (int, error) { return -1, unix.ENODEV }
		if i, err := Lookup(t.Context(), 3); err != nil || i.Orphan {
			t.Errorf("orphan: %v, %v", i.Orphan, err)
		}
	})
}
