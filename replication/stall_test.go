package replication

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/ublk/uring"
)

// A daemon that gets no processor for longer than disk-timeout, or than it waits for its peer, hears what they have answered first, and gives the
// one that was asked too late its time: neither a good disk nor a good peer is given up.
func TestDaemonStandsStill(t *testing.T) {
	for _, c := range []struct {
		name   string
		many   int  // requests that are under way
		before bool // the kernel has not got them yet
	}{
		{"one request that the kernel has", 1, false},
		{"one that it has not got", 1, true},
		{"more than are posted at once", 100, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			const limit = 500 * time.Millisecond
			nodes := newNodes(t, func(r *config.Resource) {
				r.Net.Timeout, r.Net.KOCount = limit, 1
				for i := range r.Hosts {
					o := &r.Hosts[i].Volumes[0].Options
					o.DiskFlushes, o.MDFlushes, o.DiskTimeout = false, false, limit
				}
			})
			upAndEqual(t, nodes)
			n := nodes[0]
			pipe := newPipe(t)
			disk := n.redirect(uring.FD(pipe))
			r := stalls{c.many, c.before, 2 * limit}
			r.run(n, engine.OpRead, func() { unix.Write(pipe, make([]byte, c.many*512)) })
			n.redirect(disk)
			r.run(n, engine.OpWrite, func() {})
			if st := n.state(); !redundant(st) {
				t.Errorf("the disk or the peer was given up: %v", st)
			}
		})
	}
}

// stalls are requests around which the loop stands still.
type stalls struct {
	many   int
	before bool
	long   time.Duration
}

// run submits the requests of a turn, lets the thread stand still, and waits until all have succeeded. What answers them is called when the kernel has them,
// or is about to get them.
func (s stalls) run(n *node, op engine.Op, answer func()) {
	n.t.Helper()
	d, done := n.devices.Volume(0), make(chan engine.Errno, s.many)
	if err := n.res.on(n.t.Context(), func(l *loop) {
		for i := range s.many {
			r := &engine.Request{Op: op, Off: int64(i) * 512, Len: 512, Data: page(n.t, 512)}
			d.waiting[r] = fakeCall{done, r.Data}
			l.submit(r)
		}
		l.turn()
		if s.before {
			<-time.After(s.long) // nobody else can wait for this thread
			time.AfterFunc(s.long/20, answer)
			return
		}
		l.ring.Submit()
		answer()
		<-time.After(s.long)
	}); err != nil {
		n.t.Fatal(err)
	}
	for range s.many {
		if errno := <-done; errno != engine.OK {
			n.t.Errorf("%v: errno %d", op, errno)
		}
	}
}

// newPipe is a pipe that can stand for a disk: it answers a read when something is written to it.
func newPipe(t testing.TB) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nothing, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		unix.Dup3(nothing, fd, unix.O_CLOEXEC)
		unix.Close(nothing)
		pipes.mu.Lock()
		defer pipes.mu.Unlock()
		pipes.gone = append(pipes.gone, fd)
	})
	return fd
}

// pipes are the numbers of those that have gone, which stay taken: a daemon that has one for a disk may end after that, and would write to
// what is opened next.
var pipes struct {
	mu   sync.Mutex
	gone []int
}
