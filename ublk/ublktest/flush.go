package ublktest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/urbd/urbd/ublk"

	"golang.org/x/sys/unix"
)

// flush checks which requests arrive, in which order, for what applications do to make data durable.
func flush(t *testing.T, b *bench) {
	for _, c := range []struct {
		name          string
		volatile, fua bool
		fsync, dsync  []string // what the handler sees for write+fsync, and for a write with O_DSYNC
	}{
		{"no cache", false, false, []string{"write"}, []string{"write"}},
		// The node of a block device follows a write with O_DSYNC by a flush of its own, as fsync does.
		{"volatile cache", true, false, []string{"write", "flush"}, []string{"write", "flush", "flush"}},
		{"volatile cache and FUA", true, true, []string{"write", "flush"}, []string{"write+fua", "flush"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{t: t, subject: b.subject, mode: b.mode}
			d := b.start(ublk.Config{Geometry: ublk.Geometry{Volatile: c.volatile, FUA: c.fua}})
			plain, durable := openDisk(t, d.Path(), 0), openDisk(t, d.Path(), unix.O_DSYNC)
			p := make([]byte, 8192)
			check := func(what string, want []string, f func() error) {
				t.Helper()
				var err error
				log := d.watch.during(func() { err = f() })
				var got []string
				for _, s := range log {
					got = append(got, s.String())
				}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: the handler sees %v instead of %v; %v", what, got, want, err)
				}
			}
			for i := range 5 {
				pattern(p, uint64(i))
				check("write and fsync", c.fsync, func() error {
					if err := plain.write(p, 0); err != nil {
						return err
					}
					return plain.flush()
				})
				check("write with O_DSYNC", c.dsync, func() error { return durable.write(p, 16384) })
			}
			if c.volatile {
				flushFails(t, d, plain)
			}
		})
	}
}

// flushFails checks that a failed flush reaches the one who asked for it.
func flushFails(t *testing.T, d *device, k *disk) {
	d.watch.set(func(w *watch) {
		w.inject = func(r *ublk.Request) error {
			if r.Op == ublk.OpFlush {
				return fmt.Errorf("cache is broken: %w", unix.EIO)
			}
			return nil
		}
	})
	if err := k.flush(); err != unix.EIO {
		t.Errorf("fsync over a failing flush answers %v", err)
	}
	d.watch.set(func(w *watch) { w.inject = nil })
	if err := k.flush(); err != nil {
		t.Errorf("fsync after a failed one: %v", err)
	}
}
