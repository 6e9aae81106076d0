package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/ublk"
)

// fakeDriver has devices and their users, without a kernel.
type fakeDriver struct {
	devices   []ublk.Info
	holders   func(id int) ([]ublk.Holder, error)
	exclusive bool
	removed   []int
}

func (f *fakeDriver) left(t *testing.T) leftovers {
	dir := t.TempDir()
	return leftovers{driver{
		list: func(_ context.Context, match func(*ublk.Info) bool) (out []ublk.Info, err error) {
			for _, i := range f.devices {
				if match(&i) {
					out = append(out, i)
				}
			}
			return out, nil
		},
		holders: func(id int) ([]ublk.Holder, error) {
			if f.holders == nil {
				return nil, nil
			}
			return f.holders(id)
		},
		claimed: func(string) bool { return f.exclusive },
		remove: func(_ context.Context, id int) error {
			f.removed = append(f.removed, id)
			return nil
		},
	}, deviceNames{dir, dir}}
}

var r0 = target{resource: "r0", volume: everyVolume, local: &config.Host{
	Names: []string{"alpha"}, Volumes: []config.Volume{{Number: 0, Minor: 0}, {Number: 1, Minor: 1}},
}}

func quiesced(id, volume int) ublk.Info {
	return ublk.Info{ID: id, State: ublk.StateQuiesced, Orphan: true, Owner: ownerTag("alpha", "r0", volume), Recovery: ublk.RecoverReissue}
}

func held(h ...ublk.Holder) func(int) ([]ublk.Holder, error) {
	return func(int) ([]ublk.Holder, error) { return h, nil }
}

func TestSweepRemovesWhatNobodyUses(t *testing.T) {
	served, foreign := quiesced(7, 1), quiesced(8, 0)
	served.Orphan, foreign.Owner = false, 5
	f := &fakeDriver{devices: []ublk.Info{quiesced(3, 0), served, foreign, quiesced(9, 1)}}
	if err := f.left(t).sweep(t.Context(), r0); err != nil || !slices.Equal(f.removed, []int{3, 9}) {
		t.Errorf("removed %v, %v", f.removed, err)
	}
}

// A user without O_EXCL, as qemu and databases are, is one like any other.
func TestSweepLeavesWhatIsUsed(t *testing.T) {
	for _, c := range []struct {
		name string
		f    fakeDriver
		want string
	}{
		{"an open device", fakeDriver{holders: held(ublk.Holder{PID: 7, What: "process qemu"})}, "/dev/ublkb3 is in use by process qemu (pid 7), and its daemon has died; unmount it or end what uses it, or start"},
		{"a mount", fakeDriver{holders: held(ublk.Holder{What: "mounted on /mnt"})}, "in use by the mount at /mnt"},
		{"somebody out of sight", fakeDriver{exclusive: true}, "in use by a mount in another namespace"},
		{"nothing is known", fakeDriver{holders: func(int) ([]ublk.Holder, error) { return nil, errors.New("no sysfs") }}, "no sysfs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.f.devices = []ublk.Info{quiesced(3, 0)}
				err := c.f.left(t).sweep(t.Context(), r0)
				if err == nil || !strings.Contains(err.Error(), c.want) || len(c.f.removed) > 0 {
					t.Errorf("removed %v: %v", c.f.removed, err)
				}
				if busy := new(replication.BusyError); errors.As(err, &busy) && exitCode(err) != exitRefused {
					t.Errorf("exit code %d, want %d", exitCode(err), exitRefused)
				}
			})
		})
	}
}

// Metadata is not touched below a device that somebody uses, also when its daemon has died.
func TestSpareWhatIsUsed(t *testing.T) {
	f := fakeDriver{devices: []ublk.Info{quiesced(3, 0)}, holders: held(ublk.Holder{What: "mounted on /mnt"})}
	err := f.left(t).spare(t.Context(), r0)
	if err == nil || !strings.Contains(err.Error(), "/dev/ublkb3 is in use by the mount at /mnt, and its daemon has died; start the daemon again with: urbd up r0") {
		t.Errorf("a mount: %v", err)
	}
	if exitCode(err) != exitRefused {
		t.Errorf("exit code %d, want %d", exitCode(err), exitRefused)
	}
	f.holders = nil
	if err := f.left(t).spare(t.Context(), r0); err != nil || len(f.removed) > 0 {
		t.Errorf("nobody: removed %v, %v", f.removed, err)
	}
}

// A process that only looks at the device is waited for.
func TestSweepHasPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := &fakeDriver{devices: []ublk.Info{quiesced(3, 0)}, holders: func(int) ([]ublk.Holder, error) {
			if time.Since(began) < time.Second {
				return []ublk.Holder{{PID: 7, What: "process udevd"}}, nil
			}
			return nil, nil
		}}
		if err := f.left(t).sweep(t.Context(), r0); err != nil || len(f.removed) != 1 {
			t.Errorf("removed %v, %v", f.removed, err)
		}
	})
}

// The minor of a volume was changed while the daemon was dead and the old device in use.
func TestAnOldMinorInUseIsKept(t *testing.T) {
	f := &fakeDriver{devices: []ublk.Info{quiesced(3, 0)}, holders: held(ublk.Holder{What: "mounted on /mnt"})}
	u := &ublkDevices{host: "alpha", left: f.left(t), logger: slog.New(slog.DiscardHandler)}
	cfg := replication.DeviceConfig{Resource: "r0", Volume: 0, Minor: 4, Recover: true}
	owner := ownerTag("alpha", "r0", 0)
	adopt, err := u.clear(t.Context(), cfg, owner)
	if busy := new(replication.BusyError); adopt || !errors.As(err, &busy) || len(f.removed) > 0 {
		t.Errorf("adopt %v, removed %v, %v", adopt, f.removed, err)
	}
	cfg.Minor = 3
	if adopt, err := u.clear(t.Context(), cfg, owner); !adopt || err != nil || len(f.removed) > 0 {
		t.Errorf("with its own minor: adopt %v, removed %v, %v", adopt, f.removed, err)
	}
	f.holders, cfg.Minor = nil, 4
	if adopt, err := u.clear(t.Context(), cfg, owner); adopt || err != nil || !slices.Equal(f.removed, []int{3}) {
		t.Errorf("when nobody uses it: adopt %v, removed %v, %v", adopt, f.removed, err)
	}
}

// What a daemon that begins is adding is not what a dead one has left.
func TestDownWaitsForADaemonThatBegins(t *testing.T) {
	b := newBench(t)
	release, err := replication.Lock(b.run, "r0")
	if err != nil {
		t.Fatal(err)
	}
	b.want("down r0 --timeout 300ms", 20, "", "does not begin or end to serve (kill ")
	if err := release(); err != nil {
		t.Fatal(err)
	}
	b.want("down r0", 0, "", "")
}
