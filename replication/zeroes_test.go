package replication

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk/uring"
)

// TestZeroesWithoutHelp discards on a disk that can do nothing but write.
func TestZeroesWithoutHelp(t *testing.T) {
	nodes := connectedPair(t)
	for _, n := range nodes {
		n.res.on(t.Context(), func(l *loop) {
			f := &l.disks.stores[0].data
			f.noPunch, f.noZeroes = true, true
		})
	}
	const off, length = 512, 3*zeroPiece + 512
	nodes[0].io(engine.Request{Op: engine.OpWrite, Off: 0, Len: 1 << 20, Data: page(t, 1<<20)})
	nodes[0].io(engine.Request{Op: engine.OpDiscard, Off: off, Len: length})
	got := page(t, 1<<20)
	nodes[0].io(engine.Request{Op: engine.OpRead, Off: off, Len: 1<<20 - 4096, Data: got[:1<<20-4096]})
	if !bytes.Equal(got[:1<<20-4096], make([]byte, 1<<20-4096)) {
		t.Error("discarded bytes do not read as zeroes")
	}
	nodes[0].must(engine.Demote{})
	sameDisks(t, nodes)
}

// TestZeroesAreWrittenAfterAnError discards on a file that answers a discard with an error which
// does not say that it never can (ENODEV), and takes what is written.
func TestZeroesAreWrittenAfterAnError(t *testing.T) {
	nodes := connectedPair(t)
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	detached := false
	change := func(f func(l *loop, to *ioFile)) {
		err := nodes[0].res.on(t.Context(), func(l *loop) {
			if detached = l.disks.stores[0] == nil; !detached {
				f(l, &l.disks.stores[0].data)
			}
		})
		if err != nil || detached {
			t.Fatalf("err %v, the disk is detached: %v", err, detached)
		}
	}
	var file uring.File
	change(func(l *loop, to *ioFile) {
		file = to.file
		to.file, err = l.ring.AddFile(null)
	})
	if err != nil {
		t.Fatal(err)
	}
	nodes[0].io(engine.Request{Op: engine.OpDiscard, Off: 4096, Len: 2*zeroPiece + 512})
	change(func(l *loop, to *ioFile) {
		l.ring.RemoveFile(to.file)
		to.file = file
		if to.noPunch || to.noZeroes {
			t.Error("one error, and the device is taken for one that cannot discard")
		}
	})
}
