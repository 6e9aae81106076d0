package replication

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// What a flood may cost. Source: the text of TestFlood.
const (
	floodMemory = 16 << 20    // bytes that the process may grow by
	floodLog    = 1 << 20     // bytes of log
	floodWait   = time.Second // for an answer of the control socket

	floodShare  = 512 // packets of a socket that a turn of the loop takes at most: twice what the engine takes at once
	floodWrites = 20  // writes of the application that end in a second; hundreds do on a busy machine
)

// TestFlood: a peer sends packets of one kind, or a random mixture, as fast as the node takes them, to a Primary whose application works and
// to a Secondary. The process does not grow by more than 16 MiB, its log by less than 1 MiB, the control socket answers within a second,
// and the application's writes go on, with the peer or without it: packets are taken by shares, between which everybody else has a turn. URBD_FLOOD is how many packets of each kind are sent; scripts/soak
// sends ten million.
func TestFlood(t *testing.T) {
	many := floodSize(t)
	for _, role := range []sm.Role{sm.Primary, sm.Secondary} {
		t.Run(role.String(), func(t *testing.T) {
			for _, k := range slices.Concat(floodKinds, floodMixtures) {
				if many > shortFlood || k.short {
					t.Run(k.name, func(t *testing.T) { newFlood(t, role, nil).run(t, k, many) })
				}
			}
		})
	}
}

// shortFlood is how many packets are sent when time is short.
const shortFlood = 20000

func floodSize(t *testing.T) int {
	s := os.Getenv("URBD_FLOOD")
	if s == "" {
		return shortFlood
	}
	many, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return many
}

// TestFloodOfOwnChanges: with protocol A a peer that pulls ahead again and again, no faster than the node follows, keeps the connection, and changes the state of
// the node's own disk by every packet. The log grows no more than in any other flood.
func TestFloodOfOwnChanges(t *testing.T) {
	f := newFlood(t, sm.Secondary, func(r *config.Resource) {
		r.Net.Protocol, r.Net.PingTimeout = config.ProtocolA, 5*time.Second // on a busy machine
	})
	f.n.must(engine.Disconnect{})
	f.n.must(engine.NewCurrentUUID{ClearBitmap: true})
	f.n.must(engine.Connect{})
	l := f.connect(t)
	defer l.close()
	f.n.await("Connected", func(s sm.State) bool { return s.Conn == sm.Connected })
	logged := f.logged.Load()
	ahead := packet(nil, wire.CmdState, wire.State{Word: state(sm.Primary, sm.Ahead).Word()}.Append(nil), 0)
	back := packet(nil, wire.CmdSyncUUID, wire.SyncUUID{UUID: 1000}.Append(nil), 0)
	for i := range floodSize(t) / 4 {
		next, to := ahead, sm.Behind
		if i%2 == 1 {
			next, to = back, sm.Connected // by a resync of nothing
		}
		if _, err := l.data.Write(next); err != nil {
			t.Fatalf("after %d packets: %v", i, err)
		}
		for late := time.Now().Add(20 * time.Second); f.conn(t) != to; {
			if time.Now().After(late) {
				t.Fatalf("packet %d leads to %v", i, f.conn(t))
			}
		}
	}
	n := f.logged.Load() - logged
	if t.Logf("%d bytes of log", n); n > floodLog {
		t.Errorf("%d bytes of log", n)
	}
}

// conn is the state of the node's connection.
func (f *floodRun) conn(t *testing.T) (c sm.Conn) {
	if err := f.n.res.on(t.Context(), func(l *loop) { c = l.engine.State(0).Conn }); err != nil {
		t.Fatal(err)
	}
	return c
}

// floodRun is a node and somebody in the place of its peer.
type floodRun struct {
	t      *testing.T
	n      *node
	role   sm.Role
	other  *connector
	client *Client
	logged atomic.Int64

	writes, failed atomic.Int64 // requests of the application that have ended
	slowest        atomic.Int64 // answer of the control socket
}

func (f *floodRun) Write(b []byte) (int, error) {
	f.logged.Add(int64(len(b)))
	return len(b), nil
}

func newFlood(t *testing.T, role sm.Role, change func(*config.Resource)) *floodRun {
	nodes := newNodes(t, change)
	f := &floodRun{t: t, n: nodes[0], role: role}
	f.n.cfg.Logger = slog.New(slog.NewTextHandler(f, nil))
	f.n.up()
	f.n.must(engine.Promote{Force: true})
	if role == sm.Secondary {
		f.n.must(engine.Demote{})
	}
	// The buffers for the peer are a fixed piece of memory, which a daemon outside of a test has locked from the start.
	if err := f.n.res.on(t.Context(), func(l *loop) {
		for i := 0; i < len(l.memory); i += engine.PageSize {
			l.memory[i] |= 0
		}
	}); err != nil {
		t.Fatal(err)
	}
	f.other = newConnector(nodes[1].cfg.Local.Address, nodes[0].cfg.Local.Address, nodes[1].cfg.Resource.Net, slog.New(slog.DiscardHandler))
	var err error
	if f.client, err = Dial(f.n.cfg.RunDir, "r0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.client.Close)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	t.Cleanup(func() { cancel(); ended.Wait() })
	ended.Go(func() { f.watch(ctx) })
	if role == sm.Primary {
		for range 4 {
			ended.Go(func() { f.work(ctx) })
		}
	}
	return f
}

// watch asks for the status ten times a second.
func (f *floodRun) watch(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		if _, err := f.client.Status(ctx); err != nil && ctx.Err() == nil {
			f.t.Errorf("status: %v", err)
			return
		}
		f.slowest.Store(max(f.slowest.Load(), int64(time.Since(began))))
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// work is an application.
func (f *floodRun) work(ctx context.Context) {
	buf := page(f.t, 4096)
	for i := int64(0); ctx.Err() == nil; i++ {
		errno, err := f.n.devices.Volume(0).Do(ctx, engine.Request{Op: engine.OpWrite, Off: 4096 * (i % 1000), Len: 4096, Data: buf})
		switch {
		case ctx.Err() != nil:
		case err != nil || errno != 0:
			f.failed.Add(1)
			time.Sleep(time.Millisecond) // a peer that has taken the disk away
		default:
			f.writes.Add(1)
		}
	}
}

// rss is the resident memory of this process, in bytes.
func rss(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// run floods the node with many packets of a kind. A kind that ends the connection is sent again over a second one.
func (f *floodRun) run(t *testing.T, k floodKind, many int) {
	rng := rand.New(rand.NewPCG(1, 2))
	var chunk []byte
	const perChunk = 500
	for range perChunk {
		chunk = k.make(rng, chunk)
	}
	l := f.connect(t)
	defer func() { l.close() }() // also a second time
	f.slowest.Store(0)
	memory, logged, writes, turns := rss(t), f.logged.Load(), f.writes.Load(), f.turns(t)
	sent, links, began, top := 0, 1, time.Now(), memory
	out := l.data
	if k.sock == engine.MetaSock {
		out = l.meta
	}
	for sent < many {
		out.SetWriteDeadline(time.Now().Add(60 * time.Second))
		var err error
		if k.sock == engine.MetaSock {
			err = l.say(chunk)
		} else {
			_, err = out.Write(chunk)
		}
		if err != nil {
			l.close()
			if links == 2 || f.standsAlone(t) {
				break
			}
			links++
			if l = f.connect(t); k.sock == engine.MetaSock {
				out = l.meta
			} else {
				out = l.data
			}
			continue
		}
		if sent += perChunk; sent%(perChunk*20) == 0 {
			top = max(top, rss(t))
		}
	}
	pings := 0
	if k.name == wire.CmdPing.String() {
		pings = sent
	}
	taken := l.drained(t, int64(pings)) && links == 1
	took := time.Since(began)
	writes, turns = f.writes.Load()-writes, f.turns(t)-turns
	if f.role == sm.Primary {
		f.goesOn(t)
	}
	top = max(top, rss(t))
	slowest := time.Duration(f.slowest.Load())
	t.Logf("%d packets over %d connections in %v: memory %+d KiB, log %d bytes, slowest status %v, %d turns, %.0f writes/s", sent, links, took.Round(time.Millisecond),
		(top-memory)>>10, f.logged.Load()-logged, slowest.Round(time.Microsecond), turns, float64(writes)/took.Seconds())
	if taken && turns < int64(sent)/floodShare {
		t.Errorf("%d packets are taken in %d turns", sent, turns)
	}
	if taken && !k.owes && f.role == sm.Primary && writes < floodWrites*int64(took/time.Second) {
		t.Errorf("%d writes have ended in %v", writes, took)
	}
	if top-memory > floodMemory {
		t.Errorf("the process has grown by %d bytes", top-memory)
	}
	if n := f.logged.Load() - logged; n > floodLog {
		t.Errorf("%d bytes of log", n)
	}
	if slowest > floodWait {
		t.Errorf("the control socket has answered after %v", slowest)
	}
}

// turns is how often the loop has gone round.
func (f *floodRun) turns(t *testing.T) (n int64) {
	if err := f.n.res.on(t.Context(), func(l *loop) { n = l.turns }); err != nil {
		t.Fatal(err)
	}
	return n
}

// standsAlone waits until the node has noticed the end of the connection, and reports whether it has given it up: the peer
// has asked for what the configuration of both must agree on.
func (f *floodRun) standsAlone(t *testing.T) bool {
	f.n.await("without the peer", func(s sm.State) bool {
		return s.Conn == sm.StandAlone || s.Conn == sm.WFConnection || s.Conn == sm.WFReportParams
	})
	st, err := f.n.res.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st.Conn == sm.StandAlone
}

// goesOn waits until the application has been answered twice as often as it asks at once.
func (f *floodRun) goesOn(t *testing.T) {
	ended := func() int64 { return f.writes.Load() + f.failed.Load() }
	for began, late := ended(), time.Now().Add(60*time.Second); ended() < began+8; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("the application's requests do not end")
		}
	}
}
