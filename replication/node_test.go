package replication

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
	"github.com/urbd/urbd/ublk/uring"
)

// node is one running Resource of a test.
type node struct {
	t       testing.TB
	res     *Resource
	devices *FakeDevices
	cfg     Config
	cancel  context.CancelFunc
	ended   chan error
	log     *notice
}

const diskSize = 16 << 20

// newNodes makes a pair whose disks are regular files with fresh metadata.
func newNodes(t testing.TB, change func(*config.Resource)) [2]*node {
	t.Helper()
	a, b := twoAddresses(t)
	res := &config.Resource{Name: "r0", Net: testNet()}
	for i, at := range []netip.AddrPort{a, b} {
		v := config.Volume{Minor: i, MetaDisk: config.MetaDisk{Internal: true, Index: -1}, Options: config.DefaultDisk()}
		v.Disk = filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(v.Disk, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(v.Disk, diskSize); err != nil {
			t.Fatal(err)
		}
		res.Hosts = append(res.Hosts, config.Host{Names: []string{string('a' + rune(i))}, Address: at, Volumes: []config.Volume{v}})
	}
	if change != nil {
		change(res)
	}
	var nodes [2]*node
	for i := range nodes {
		n := &node{t: t, devices: &FakeDevices{}, log: newNotice()}
		n.cfg = Config{
			Resource: res, Local: &res.Hosts[i], Peer: &res.Hosts[1-i], Devices: n.devices,
			Logger: slog.New(n.log), RunDir: t.TempDir(), StateDir: t.TempDir(), ShutdownTimeout: 5 * time.Second, tame: true,
		}
		for j := range res.Hosts[i].Volumes {
			if err := CreateMD(&res.Hosts[i].Volumes[j], CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		nodes[i] = n
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, n := range nodes {
			for _, l := range n.log.all() {
				t.Log(n.cfg.Local.Name(), l)
			}
		}
	})
	return nodes
}

// up runs the daemon until the test ends or down; it returns when it serves.
func (n *node) up() {
	n.t.Helper()
	select {
	case <-n.begin():
	case err := <-n.ended:
		n.ended <- nil
		n.t.Fatalf("up of %s: %v", n.cfg.Local.Name(), err)
	case <-time.After(20 * time.Second):
		n.t.Fatal("up does not end")
	}
}

// begin is up without waiting; what it returns is closed when the daemon serves.
func (n *node) begin() (ready <-chan struct{}) {
	n.t.Helper()
	serves := make(chan struct{})
	n.cfg.Ready = func() { close(serves) }
	var err error
	if n.res, err = New(n.cfg); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, make(chan error, 1)
	ended, res := n.ended, n.res
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				ended <- err
				if err != nil {
					n.t.Errorf("%s ended with %v", n.cfg.Local.Name(), err)
				}
			case <-time.After(20 * time.Second):
				n.t.Errorf("%s does not end", n.cfg.Local.Name())
			}
		})
	}
	go func() { ended <- res.Run(ctx) }()
	n.t.Cleanup(stop)
	return serves
}

// down stops the daemon as SIGTERM does.
func (n *node) down() {
	n.t.Helper()
	n.cancel()
	if err := <-n.ended; err != nil {
		n.t.Fatal(err)
	}
	n.ended <- nil
}

func (n *node) do(cmd engine.Command) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	return n.res.Do(ctx, cmd)
}

func (n *node) must(cmd engine.Command) {
	n.t.Helper()
	if err := n.do(cmd); err != nil {
		n.t.Fatalf("%s: %T: %v", n.cfg.Local.Name(), cmd, err)
	}
}

// await waits until the state of volume 0 is as wanted.
func (n *node) await(what string, ok func(statemachine.State) bool) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	for {
		changed := n.res.changes.wait()
		st, err := n.res.Status(ctx)
		if err != nil {
			n.t.Fatalf("%s: waiting for %s: %v", n.cfg.Local.Name(), what, err)
		}
		if ok(st.Volumes[0].State) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			n.t.Fatalf("%s: never %s; it is %v", n.cfg.Local.Name(), what, st.Volumes[0].State)
		}
	}
}

func redundant(s statemachine.State) bool {
	return s.Conn == statemachine.Connected && s.Disk == statemachine.UpToDate && s.PeerDisk == statemachine.UpToDate
}

// io is one request of the application.
func (n *node) io(r engine.Request) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	errno, err := n.devices.Volume(0).Do(ctx, r)
	if err != nil || errno != 0 {
		n.t.Fatalf("%v at %d: errno %d, %v", r.Op, r.Off, errno, err)
	}
}

// page gives page-aligned memory with random bytes.
func page(t testing.TB, size int64) []byte {
	t.Helper()
	b, err := uring.MapMemory(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { uring.UnmapMemory(b) })
	for i := range b[:size] {
		b[i] = byte(rand.Uint32())
	}
	return b[:size]
}

// sameDisks compares the data of both files.
func sameDisks(t *testing.T, nodes [2]*node) {
	t.Helper()
	l, err := metadata.Place(metadata.Internal, 0, diskSize, diskSize)
	if err != nil {
		t.Fatal(err)
	}
	var got [2][]byte
	for i, n := range nodes {
		b, err := os.ReadFile(n.cfg.Local.Volumes[0].Disk)
		if err != nil {
			t.Fatal(err)
		}
		got[i] = b[:l.DataLimit]
	}
	for off := 0; off < len(got[0]); off += 4096 {
		end := min(off+4096, len(got[0]))
		if !bytes.Equal(got[0][off:end], got[1][off:end]) {
			t.Fatalf("the disks differ at %d", off)
		}
	}
}

// connectedPair is up and equal, a Primary.
func connectedPair(t testing.TB) [2]*node {
	t.Helper()
	nodes := newNodes(t, nil)
	upAndEqual(t, nodes)
	return nodes
}

// upAndEqual has the first node become Primary, and waits until both have the same data.
func upAndEqual(t testing.TB, nodes [2]*node) {
	t.Helper()
	nodes[0].up()
	nodes[0].must(engine.Promote{Force: true})
	nodes[1].up()
	for _, n := range nodes {
		n.await("UpToDate", redundant)
	}
}

// state is that of volume 0 now.
func (n *node) state() statemachine.State {
	n.t.Helper()
	st, err := n.res.Status(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return st.Volumes[0].State
}
