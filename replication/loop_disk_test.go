package replication

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
	"github.com/urbd/urbd/ublk/uring"
)

// replaceData puts another file in the place of a node's backing store, for data only.
func (n *node) replaceData(path string, flags int) {
	n.t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { unix.Close(fd) })
	var errAdd error
	err = n.res.on(n.t.Context(), func(l *loop) {
		l.disks.stores[0].data.file, errAdd = l.ring.AddFile(fd) // the old one stays the metadata's
	})
	if err != nil || errAdd != nil {
		n.t.Fatal(err, errAdd)
	}
}

func diskless(s statemachine.State) bool { return s.Disk == statemachine.Diskless }

// What the disk did not do, or not as a whole, is an error: the disk is given up, and the peer's serves.
func TestDiskErrors(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	data := page(t, 8192)
	for _, c := range []struct {
		name  string
		path  string
		flags int
		r     engine.Request
	}{
		{"a read beyond the end", short, unix.O_RDWR, engine.Request{Op: engine.OpRead, Off: 4096, Len: 4096}},
		{"a read that ends early", short, unix.O_RDWR, engine.Request{Op: engine.OpRead, Len: 8192}},
		{"a write", short, unix.O_RDONLY, engine.Request{Op: engine.OpWrite, Len: 8192}},
		{"a flush", os.DevNull, unix.O_RDWR, engine.Request{Op: engine.OpFlush}},
	} {
		t.Run(c.name, func(t *testing.T) {
			nodes := connectedPair(t)
			nodes[0].io(engine.Request{Op: engine.OpWrite, Len: 8192, Data: data})
			nodes[0].replaceData(c.path, c.flags)
			if c.r.Data = page(t, 8192); c.r.Op == engine.OpWrite {
				copy(c.r.Data, data)
			}
			nodes[0].io(c.r)
			nodes[0].await("Diskless", diskless)
			if c.r.Op == engine.OpRead && !bytes.Equal(c.r.Data[:c.r.Len], data[c.r.Off:][:c.r.Len]) {
				t.Error("what was read is not what was written")
			}
		})
	}
}

// A write with FUA is durable when it ends, one without it is not: a power loss would tell, a flush of this file does not.
func TestDiskOperations(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.up()
	block := page(t, 4096)
	err := n.res.on(t.Context(), func(l *loop) {
		for _, c := range []struct {
			io   engine.DiskIO
			code uring.Opcode
			want uint32
		}{
			{engine.DiskIO{Op: engine.DiskWrite, Len: 4096, Data: block, FUA: true}, uring.OpWrite, uring.WriteDSync},
			{engine.DiskIO{Op: engine.DiskWrite, Len: 4096, Data: block}, uring.OpWrite, 0},
			{engine.DiskIO{Op: engine.DiskFlush}, uring.OpFsync, uring.FsyncData},
		} {
			if o := l.disks.next(&diskOp{io: c.io, to: &l.disks.stores[0].data}); o.Code != c.code || o.OpFlags != c.want {
				t.Errorf("%+v: operation %d with flags %#x, want %d with %#x", c.io, o.Code, o.OpFlags, c.code, c.want)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Metadata with a device of its own stays off the data.
func TestMetadataOnItsOwnDevice(t *testing.T) {
	nodes := newNodes(t, func(res *config.Resource) {
		for i := range res.Hosts {
			meta := filepath.Join(t.TempDir(), "meta")
			if err := os.WriteFile(meta, make([]byte, 2<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			res.Hosts[i].Volumes[0].MetaDisk = config.MetaDisk{Device: meta, Index: -1}
		}
	})
	n := nodes[0]
	n.up()
	n.must(engine.Promote{Force: true})
	block := page(t, 4096)
	n.io(engine.Request{Op: engine.OpWrite, Off: 4096, Len: 4096, Data: block})
	n.must(engine.Demote{})
	n.down()
	got, err := os.ReadFile(n.cfg.Local.Volumes[0].Disk)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, diskSize)
	copy(want[4096:], block)
	if !bytes.Equal(got, want) {
		t.Error("the data is not what was written, and nothing else")
	}
}

// A read that a hanging disk was to serve goes to the peer, also when that disk ends with its memory between the engine's answer and the next
// step of the loop: no application sees that answer.
func TestReadThatMovesWhileItsDiskEnds(t *testing.T) {
	n := connectedPair(t)[0]
	data, r := page(t, 4096), &engine.Request{Op: engine.OpRead, Len: 4096, Data: page(t, 4096), Err: engine.EAGAIN}
	n.io(engine.Request{Op: engine.OpWrite, Len: 4096, Data: data})
	done, kept := make(chan engine.Errno, 1), 0
	err := n.res.on(t.Context(), func(l *loop) {
		l.volumes[0].(*FakeDevice).waiting[r] = fakeCall{done, r.Data}
		l.answer([]*engine.Request{r})
		l.exchangeHeld()
		kept = len(l.disks.late)
	})
	if err != nil || kept != 0 {
		t.Fatal(err, kept)
	}
	if errno := <-done; errno != engine.OK || !bytes.Equal(r.Data, data) {
		t.Errorf("errno %d", errno)
	}
}
