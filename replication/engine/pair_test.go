package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
)

// node is one engine with memory for its disk, driven by hand.
type node struct {
	t      testing.TB
	name   string
	e      *Engine
	disk   []byte
	second []byte // of volume 1, where it has one of its own
	peer   *node
	wire   [2][]byte // bytes on their way to this node
	log    []string
	events []Event
	conn   string // "", "open", "up"
	reply  map[uint64]error
	done   map[*Request]bool
	id     uint64
	fail   func(io DiskIO) Errno
	hold   func(io DiskIO) bool
	held   []DiskIO
	mute   [2]bool // bytes are not delivered to this node
}

type pair struct {
	t    testing.TB
	now  Instant
	a, b *node
}

func newPair(t testing.TB, size int64, net NetOptions) *pair {
	p := &pair{t: t}
	rng := rand.New(rand.NewPCG(1, 2))
	mk := func(name string) *node {
		e, err := New(Config{
			Resource: "r0", Volumes: []VolumeConfig{{}}, Net: net,
			Buffers: make([]byte, MinBuffers+VolumeBuffers), Random: rng.Uint64,
		})
		if err != nil {
			t.Fatal(err)
		}
		n := &node{t: t, name: name, e: e, disk: make([]byte, size), reply: map[uint64]error{}, done: map[*Request]bool{}}
		l, err := metadata.Place(metadata.Internal, 0, size, size)
		if err != nil {
			t.Fatal(err)
		}
		for w := range l.Create(metadata.New(l, 7)) {
			if w.Data == nil {
				clear(n.disk[w.Off : w.Off+w.Len])
			} else {
				copy(n.disk[w.Off:], w.Data)
			}
		}
		return n
	}
	p.a, p.b = mk("a"), mk("b")
	p.a.peer, p.b.peer = p.b, p.a
	return p
}

// work drains one node and carries everything out at once.
func (p *pair) work(n *node) bool {
	out := n.e.Drain()
	busy := len(out.Disk)+len(out.Done)+len(out.Events) > 0
	disk := append([]DiskIO(nil), out.Disk...)
	for _, r := range out.Done {
		n.done[r] = true
	}
	for _, ev := range append([]Event(nil), out.Events...) {
		n.log = append(n.log, fmt.Sprintf("%v %T%+v", p.now, ev, ev))
		n.events = append(n.events, ev)
		switch ev := ev.(type) {
		case OpenConnection:
			n.conn = "open"
		case CloseConnection:
			for _, s := range []Socket{DataSock, MetaSock} {
				p.send(n, s)
			}
			n.conn = ""
			if n.peer.conn == "up" {
				defer func() { p.hangup(n.peer) }()
			}
			n.e.ConnClosed(p.now)
		case Reply:
			n.reply[ev.ID] = ev.Err
		case Notice:
			if ev.Vol >= 0 && strings.HasPrefix(ev.Text, "volume ") {
				p.t.Errorf("a notice that names its volume twice: %d, %s", ev.Vol, ev.Text)
			}
		}
	}
	for _, io := range disk {
		if n.hold != nil && n.hold(io) {
			n.held = append(n.held, io)
			continue
		}
		if n.fail != nil {
			if err := n.fail(io); err != OK {
				n.e.DiskDone(p.now, io.Token, err)
				continue
			}
		}
		disk := n.disk
		if io.Vol == 1 && n.second != nil {
			disk = n.second
		}
		switch io.Op {
		case DiskRead:
			copy(io.Data, disk[io.Off:io.Off+io.Len])
		case DiskWrite:
			copy(disk[io.Off:], io.Data[:io.Len])
		case DiskZero:
			clear(disk[io.Off : io.Off+io.Len])
		}
		n.e.DiskDone(p.now, io.Token, OK)
	}
	for _, s := range []Socket{DataSock, MetaSock} {
		busy = p.send(n, s) || busy
		if b := n.wire[s]; len(b) > 0 && n.conn == "up" && !n.mute[s] {
			used := n.e.Receive(p.now, s, b)
			n.wire[s] = b[used:]
			busy = busy || used > 0
		}
	}
	return busy
}

func (p *pair) hangup(n *node) {
	for _, s := range []Socket{MetaSock, DataSock} {
		if b := n.wire[s]; len(b) > 0 {
			n.e.Receive(p.now, s, b)
			n.wire[s] = nil
		}
	}
	if n.conn == "up" {
		n.e.ConnDown(p.now, BrokenPipe, nil)
	}
}

func (p *pair) send(n *node, s Socket) bool {
	segs := n.e.NextSend(s)
	if segs == nil {
		return false
	}
	for _, g := range segs {
		n.peer.wire[s] = append(append(n.peer.wire[s], g.Head...), g.Body...)
	}
	n.e.Sent(p.now, s)
	return true
}

// settle runs until nothing moves, then lets time pass up to d.
func (p *pair) settle(d time.Duration) {
	end := p.now + d
	for i := 0; ; i++ {
		if i > 100000 {
			p.t.Fatalf("does not settle\n%s", p.story())
		}
		p.a.e.Tick(p.now)
		p.b.e.Tick(p.now)
		busy := p.work(p.a)
		busy = p.work(p.b) || busy
		if p.a.conn == "open" && p.b.conn == "open" {
			p.a.wire, p.b.wire = [2][]byte{}, [2][]byte{}
			p.a.conn, p.b.conn = "up", "up"
			p.a.e.ConnUp(p.now, Link{ResolveConflicts: true, Features: Features})
			p.b.e.ConnUp(p.now, Link{Features: Features})
			continue
		}
		if busy {
			continue
		}
		at := min(p.a.e.Deadline(), p.b.e.Deadline())
		if at > end {
			p.now = end
			return
		}
		p.now = max(at, p.now)
	}
}

func (p *pair) story() string {
	var b bytes.Buffer
	for _, n := range []*node{p.a, p.b} {
		for _, l := range n.log {
			fmt.Fprintln(&b, n.name, l)
		}
	}
	return b.String()
}

func (p *pair) do(n *node, c Command) error {
	n.id++
	n.e.Command(p.now, n.id, c)
	p.settle(0)
	err, ok := n.reply[n.id]
	if !ok {
		p.settle(20 * time.Second)
		if err, ok = n.reply[n.id]; !ok {
			p.t.Fatalf("%s: no reply to %T\n%s", n.name, c, p.story())
		}
	}
	return err
}

func (p *pair) must(n *node, c Command) {
	p.t.Helper()
	if err := p.do(n, c); err != nil {
		p.t.Fatalf("%s: %T: %v\n%s", n.name, c, err, p.story())
	}
}

func (p *pair) up() {
	p.t.Helper()
	for _, n := range []*node{p.a, p.b} {
		p.must(n, Attach{BackingSize: int64(len(n.disk)), MetaSize: int64(len(n.disk))})
		p.must(n, Connect{})
	}
	p.settle(time.Second)
}

// inSync brings the pair up with equal disks and a as Primary.
func (p *pair) inSync() {
	p.t.Helper()
	p.up()
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.must(p.a, Promote{})
	p.settle(time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
}

func (p *pair) write(n *node, off int64, data []byte) {
	p.t.Helper()
	r := &Request{Op: OpWrite, Off: off, Len: int64(len(data)), Data: data}
	n.e.Submit(p.now, r)
	p.settle(0)
	if !n.done[r] || r.Err != OK {
		p.t.Fatalf("write at %d: done %v errno %d\n%s", off, n.done[r], r.Err, p.story())
	}
}

func (p *pair) want(n *node, state string) {
	p.t.Helper()
	if got := n.e.Status().Volumes[0].State.String(); got != state {
		p.t.Fatalf("%s is %s, want %s\n%s", n.name, got, state, p.story())
	}
}

func (p *pair) equal() {
	p.t.Helper()
	n := p.a.e.Status().Volumes[0].Size
	if !bytes.Equal(p.a.disk[:n], p.b.disk[:n]) {
		p.t.Fatalf("disks differ\n%s", p.story())
	}
}

func TestPairFirstSync(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	rand.NewChaCha8([32]byte{1}).Read(p.a.disk[:4<<20])
	p.up()
	p.want(p.a, "Secondary/Secondary Connected Inconsistent/Inconsistent")
	if err := p.do(p.a, Promote{}); err == nil {
		t.Fatal("promoted without UpToDate data")
	}
	p.must(p.a, Promote{Force: true})
	p.settle(5 * time.Second)
	p.want(p.a, "Primary/Secondary Connected UpToDate/UpToDate")
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
	data := bytes.Repeat([]byte{0xAB}, 64<<10)
	p.write(p.a, 1<<20, data)
	p.write(p.a, 0, data[:512])
	p.settle(time.Second)
	p.equal()
	if !bytes.Equal(p.b.disk[1<<20:1<<20+64<<10], data) {
		t.Fatal("the write is not on the peer")
	}
	p.must(p.a, Demote{})
	p.must(p.b, Promote{})
	p.write(p.b, 2<<20, data)
	p.must(p.b, Disconnect{})
	p.want(p.b, "Primary/Unknown StandAlone UpToDate/Outdated")
	p.write(p.b, 3<<20, data)
	p.must(p.b, Connect{})
	p.settle(5 * time.Second)
	p.want(p.b, "Primary/Secondary Connected UpToDate/UpToDate")
	p.equal()
	p.must(p.b, Down{})
	p.must(p.a, Down{})
}
