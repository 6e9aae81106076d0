package replication

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// A backing file that was cut short, or cannot be written, is named with the place, in words, once; and what to do.
func TestFailedDiskIsNamed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*testing.T, *node)
		words []string
	}{
		{"short", func(t *testing.T, n *node) {
			if err := os.Truncate(n.cfg.Local.Volumes[0].Disk, 1<<20); err != nil {
				t.Fatal(err)
			}
		}, []string{"read (data)", "at 2097152", "give it back its size"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := connectedPair(t)
			nodes[0].io(engine.Request{Op: engine.OpWrite, Off: 2 << 20, Len: 8192, Data: page(t, 8192)})
			c.spoil(t, nodes[0])
			for range 3 {
				nodes[0].io(engine.Request{Op: engine.OpRead, Off: 2 << 20, Len: 8192, Data: page(t, 8192)})
			}
			nodes[0].await("without its disk", func(s statemachine.State) bool { return s.Disk == statemachine.Diskless })
			var said []string
			for _, l := range nodes[0].log.all() {
				if strings.Contains(l, nodes[0].cfg.Local.Volumes[0].Disk) && strings.Contains(l, "attach again") {
					said = append(said, l)
				}
			}
			if len(said) != 1 {
				t.Fatalf("%d lines name the disk: %q", len(said), said)
			}
			for _, w := range c.words {
				if !strings.Contains(said[0], w) {
					t.Errorf("%q says nothing of %q", said[0], w)
				}
			}
		})
	}
}

// What can be said about an error is said.
func TestFailedDiskRemedies(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.up()
	for errno, words := range map[unix.Errno]string{
		unix.ENOSPC: "disk: write (data) of 4096 bytes at 8192: no space left on device; free space",
		unix.EROFS:  "disk: write (data) of 4096 bytes at 8192: read-only file system; its file system was made read-only",
		unix.EPERM:  "disk: write (data) of 4096 bytes at 8192: operation not permitted; it was made read-only",
		unix.EIO:    "disk: write (data) of 4096 bytes at 8192: I/O error; the kernel could not do it",
	} {
		if err := n.res.on(t.Context(), func(l *loop) {
			l.disks.stores[0].failed = false
			l.disks.say(&diskOp{io: engine.DiskIO{Op: engine.DiskWrite, Off: 4096, Len: 4096}, done: 4096}, engine.Errno(errno), remedies[errno])
		}); err != nil {
			t.Fatal(err)
		}
		late := time.Now().Add(20 * time.Second)
		for !slices.ContainsFunc(n.log.all(), func(l string) bool { return strings.Contains(l, words) }) {
			if time.Now().After(late) {
				t.Fatalf("nothing says %q", words)
			}
			time.Sleep(time.Millisecond)
		}
	}
}
