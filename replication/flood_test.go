package replication

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// What a flood may cost. Source: the text of TestFlood.
const (
	floodMemory = 16 << 20    // bytes that the process may grow by
	floodLog    = 1 << 20     // bytes of log
	floodWait   = time.Second // for an answer of the control socket
)

// TestFlood: a peer sends packets of one kind, or a random mixture, as fast as the node takes them, to a Primary whose application works and
// to a Secondary. The process does not grow by more than 16 MiB, its log by less than 1 MiB, the control socket answers within a second,
// and the application's requests end, with the peer or without it. URBD_FLOOD is how many packets of each kind are sent; scripts/soak
// sends ten million.
func TestFlood(t *testing.T) {
	many := 20000
	if s := os.Getenv("URBD_FLOOD"); s != "" {
		var err error
		if many, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []sm.Role{sm.Primary, sm.Secondary} {
		t.Run(role.String(), func(t *testing.T) {
			for _, k := range slices.Concat(floodKinds, floodMixtures) {
				if many > 20000 || k.short {
					t.Run(k.name, func(t *testing.T) { newFlood(t, role).run(t, k, many) })
				}
			}
		})
	}
}

// floodKind makes packets of a kind.
type floodKind struct {
	name   string
	short  bool // also when time is short
	writes bool // only a Primary says so
	sock   engine.Socket
	make   func(r *rand.Rand, b []byte) []byte // appends one
}

func packet(b []byte, cmd wire.Cmd, body []byte, payload int) []byte {
	b = wire.AppendHeader100(b, wire.Header{Cmd: cmd, Length: uint32(len(body) + payload)})
	return append(append(b, body...), make([]byte, payload)...)
}

func state(role sm.Role, conn sm.Conn) sm.State {
	return sm.State{Role: role, Peer: sm.Secondary, Conn: conn, Disk: sm.UpToDate, PeerDisk: sm.UpToDate}
}

// sector is one of the first MiB.
func sector(r *rand.Rand) uint64 { return uint64(r.IntN(2048)) }

func blockOf(r *rand.Rand) wire.BlockData {
	return wire.BlockData{Sector: sector(r), BlockID: uint64(r.IntN(64)), Flags: wire.DPSendWriteAck}
}

func ackKind(cmd wire.Cmd) floodKind {
	return floodKind{name: cmd.String(), sock: engine.MetaSock, make: func(r *rand.Rand, b []byte) []byte {
		return packet(b, cmd, wire.BlockAck{Sector: sector(r), BlockID: uint64(r.IntN(64)), Size: 512}.Append(nil), 0)
	}}
}

func dataKind(cmd wire.Cmd, short bool, body func(r *rand.Rand) []byte, payload int) floodKind {
	return floodKind{name: cmd.String(), short: short, sock: engine.DataSock, make: func(r *rand.Rand, b []byte) []byte {
		return packet(b, cmd, body(r), payload)
	}}
}

func byPrimary(k floodKind) floodKind {
	k.writes = true
	return k
}

func stateKind(name string, short bool, word func(r *rand.Rand) sm.State) floodKind {
	k := dataKind(wire.CmdState, short, func(r *rand.Rand) []byte { return wire.State{Word: word(r).Word()}.Append(nil) }, 0)
	k.name = name
	return k
}

func changeKind(name string, cmd wire.Cmd, short bool, change func(r *rand.Rand) sm.Change) floodKind {
	k := dataKind(cmd, short, func(r *rand.Rand) []byte {
		c := change(r)
		return wire.StateChgReq{Mask: c.Mask, Val: c.Val}.Append(nil)
	}, 0)
	k.name = name
	return k
}

func oneOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

func trimOf(r *rand.Rand) []byte { return wire.TrimBlock{BlockData: blockOf(r), Size: 512}.Append(nil) }

func requestOf(r *rand.Rand) []byte {
	return wire.BlockReq{Sector: sector(r), BlockID: wire.IDSyncer, Size: 512}.Append(nil)
}

var floodKinds = []floodKind{
	{name: "P_PING", short: true, sock: engine.MetaSock, make: func(_ *rand.Rand, b []byte) []byte { return packet(b, wire.CmdPing, nil, 0) }},
	{name: "P_PING_ACK", sock: engine.MetaSock, make: func(_ *rand.Rand, b []byte) []byte { return packet(b, wire.CmdPingAck, nil, 0) }},
	stateKind("P_STATE that pauses and resumes", true, func(r *rand.Rand) sm.State {
		s := state(sm.Secondary, sm.Connected)
		s.UserISP = r.IntN(2) == 0
		return s
	}),
	stateKind("P_STATE", false, func(r *rand.Rand) sm.State {
		s := state(oneOf(r, sm.Primary, sm.Secondary), oneOf(r, sm.Conns()...))
		s.Disk = oneOf(r, sm.Diskless, sm.Failed, sm.Negotiating, sm.Inconsistent, sm.Outdated, sm.Consistent, sm.UpToDate)
		return s
	}),
	changeKind("P_STATE_CHG_REQ, the same", wire.CmdStateChgReq, true, func(*rand.Rand) sm.Change { return sm.Change{Mask: ^uint32(0)} }),
	changeKind("P_STATE_CHG_REQ", wire.CmdStateChgReq, false, func(r *rand.Rand) sm.Change {
		return oneOf(r, sm.PromoteChange, sm.DetachChange, sm.StartingSyncSChange, sm.StartingSyncTChange, sm.VerifyChange, sm.Change{Mask: r.Uint32(), Val: r.Uint32()})
	}),
	changeKind("P_STATE_CHG_REQ to invalidate", wire.CmdStateChgReq, false, func(*rand.Rand) sm.Change { return sm.StartingSyncSChange }),
	changeKind("P_CONN_ST_CHG_REQ", wire.CmdConnStChgReq, true, func(r *rand.Rand) sm.Change { return sm.Change{Mask: r.Uint32() &^ 0x1f0} }),
	changeKind("P_CONN_ST_CHG_REQ to disconnect", wire.CmdConnStChgReq, false, func(*rand.Rand) sm.Change { return sm.DisconnectChange }),
	byPrimary(dataKind(wire.CmdData, true, func(r *rand.Rand) []byte { return blockOf(r).Append(nil) }, 512)),
	byPrimary(dataKind(wire.CmdTrim, true, trimOf, 0)),
	dataKind(wire.CmdZeroes, false, trimOf, 0),
	dataKind(wire.CmdDataReply, false, func(r *rand.Rand) []byte { return blockOf(r).Append(nil) }, 512),
	dataKind(wire.CmdRSDataReply, false, func(r *rand.Rand) []byte { return blockOf(r).Append(nil) }, 512),
	dataKind(wire.CmdBarrier, true, func(r *rand.Rand) []byte { return wire.Barrier{Number: r.Uint32()}.Append(nil) }, 0),
	dataKind(wire.CmdBitmap, true, func(*rand.Rand) []byte { return make([]byte, 64) }, 0),
	dataKind(wire.CmdCompressedBitmap, false, func(*rand.Rand) []byte { return make([]byte, 64) }, 0),
	dataKind(wire.CmdUnplugRemote, true, func(*rand.Rand) []byte { return nil }, 0),
	dataKind(wire.CmdDataRequest, true, requestOf, 0),
	dataKind(wire.CmdRSDataRequest, true, requestOf, 0),
	dataKind(wire.CmdRSThinReq, false, requestOf, 0),
	byPrimary(dataKind(wire.CmdOutOfSync, true, func(r *rand.Rand) []byte { return wire.BlockDesc{Sector: sector(r), Size: 4096}.Append(nil) }, 0)),
	dataKind(wire.CmdSyncUUID, false, func(r *rand.Rand) []byte { return wire.SyncUUID{UUID: r.Uint64()}.Append(nil) }, 0),
	dataKind(wire.CmdUUIDs, true, func(r *rand.Rand) []byte {
		return wire.UUIDs{Current: r.Uint64(), Flags: wire.UUIDFlags(r.Uint64() & 15)}.Append(nil)
	}, 0),
	dataKind(wire.CmdSizes, true, func(*rand.Rand) []byte {
		return wire.Sizes{DSize: 8, CSize: 16, MaxBioSize: wire.MaxRequest}.Append(nil)
	}, 0),
	dataKind(wire.CmdSyncParam89, true, func(*rand.Rand) []byte { return wire.SyncParam89{}.Append(nil) }, 0),
	dataKind(wire.CmdProtocol, false, func(*rand.Rand) []byte { return wire.Protocol{Protocol: wire.ProtC}.Append(nil) }, 0),
	dataKind(wire.CmdProtocolUpdate, true, func(*rand.Rand) []byte { return wire.Protocol{Protocol: wire.ProtC}.Append(nil) }, 0),
	dataKind(wire.CmdDelayProbe, true, func(*rand.Rand) []byte { return make([]byte, 8) }, 0),
	ackKind(wire.CmdRecvAck), ackKind(wire.CmdWriteAck), ackKind(wire.CmdRSWriteAck), ackKind(wire.CmdNegAck), ackKind(wire.CmdNegDReply),
	ackKind(wire.CmdNegRSDReply), ackKind(wire.CmdRSCancel), ackKind(wire.CmdSuperseded), ackKind(wire.CmdRSIsInSync),
	{name: "P_BARRIER_ACK", sock: engine.MetaSock, make: func(r *rand.Rand, b []byte) []byte {
		return packet(b, wire.CmdBarrierAck, wire.BarrierAck{Number: r.Uint32(), SetSize: 1}.Append(nil), 0)
	}},
	{name: "P_STATE_CHG_REPLY", sock: engine.MetaSock, make: func(_ *rand.Rand, b []byte) []byte {
		return packet(b, wire.CmdStateChgReply, wire.StateChgReply{Code: 1}.Append(nil), 0)
	}},
	{name: "P_CONN_ST_CHG_REPLY", sock: engine.MetaSock, make: func(_ *rand.Rand, b []byte) []byte {
		return packet(b, wire.CmdConnStChgReply, wire.StateChgReply{Code: 1}.Append(nil), 0)
	}},
}

// floodMixtures are packets of all kinds of the data socket, and of those that a connection survives.
var floodMixtures = []floodKind{
	{name: "anything", sock: engine.DataSock, make: anyOf(func(floodKind) bool { return true })},
	{name: "what a Secondary may say", short: true, sock: engine.DataSock, make: anyOf(func(k floodKind) bool { return k.short && !k.writes && k.name != "P_SIZES" })},
	{name: "what a Primary may say", short: true, sock: engine.DataSock, make: anyOf(func(k floodKind) bool { return k.short && k.name != "P_SIZES" })},
}

func anyOf(which func(floodKind) bool) func(*rand.Rand, []byte) []byte {
	return func(r *rand.Rand, b []byte) []byte {
		for {
			if k := floodKinds[r.IntN(len(floodKinds))]; k.sock == engine.DataSock && which(k) {
				return k.make(r, b)
			}
		}
	}
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

func newFlood(t *testing.T, role sm.Role) *floodRun {
	nodes := newNodes(t, nil)
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

// peerLink is a connection, with whoever answers for the peer.
type peerLink struct {
	data, meta net.Conn
	dead       chan struct{} // closed when the node has closed it
	last       chan struct{} // has an element when the last packet on data has been answered
	pongs      atomic.Int64
	metaOut    sync.Mutex
}

func fdConn(t *testing.T, fd int) net.Conn {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connect greets the node as the owner of the same data.
func (f *floodRun) connect(t *testing.T) *peerLink {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	got, err := f.other.run(ctx)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	l := &peerLink{data: fdConn(t, got.data), meta: fdConn(t, got.meta), dead: make(chan struct{}), last: make(chan struct{}, 2)}
	var b []byte
	ours := sm.Secondary
	if f.role == sm.Secondary {
		ours = sm.Primary
	}
	var theirs wire.UUIDs
	size := uint64(0)
	for seen := false; !seen; {
		h, body := l.read(t)
		switch h.Cmd {
		case wire.CmdSizes:
			size = must(wire.DecodeSizes(body)).DSize
		case wire.CmdUUIDs:
			theirs = must(wire.DecodeUUIDs(body))
		case wire.CmdState:
			seen = true
		}
	}
	b = packet(b, wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil), 0)
	b = packet(b, wire.CmdSyncParam89, wire.SyncParam89{}.Append(nil), 0)
	b = packet(b, wire.CmdSizes, wire.Sizes{DSize: size, CSize: size, MaxBioSize: wire.MaxRequest}.Append(nil), 0)
	b = packet(b, wire.CmdUUIDs, wire.UUIDs{Current: theirs.Current, Bitmap: theirs.Bitmap, History: theirs.History}.Append(nil), 0)
	b = packet(b, wire.CmdState, wire.State{Word: state(ours, sm.WFConnection).Word()}.Append(nil), 0)
	if _, err := l.data.Write(b); err != nil {
		t.Fatal(err)
	}
	go l.answer()
	go l.hear()
	return l
}

func (l *peerLink) read(t *testing.T) (wire.Header, []byte) {
	l.data.SetReadDeadline(time.Now().Add(20 * time.Second))
	head := make([]byte, wire.HeaderLen100)
	if _, err := io.ReadFull(l.data, head); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	h := must(wire.DecodeHeader100(head))
	body := make([]byte, h.Length)
	if _, err := io.ReadFull(l.data, body); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	l.data.SetReadDeadline(time.Time{})
	return h, body
}

// answer confirms what the node writes, as a peer does.
func (l *peerLink) answer() {
	defer close(l.dead)
	in := newReader(l.data)
	count := uint32(0)
	for {
		h, body, err := in.next()
		if err != nil {
			return
		}
		var out []byte
		switch h.Cmd {
		case wire.CmdData:
			d, err := wire.DecodeBlockData(body[:24])
			if err != nil {
				return
			}
			count++
			out = packet(nil, wire.CmdWriteAck, wire.BlockAck{Sector: d.Sector, BlockID: d.BlockID, Size: h.Length - 24}.Append(nil), 0)
		case wire.CmdBarrier:
			q, err := wire.DecodeBarrier(body)
			if err != nil {
				return
			}
			out = packet(nil, wire.CmdBarrierAck, wire.BarrierAck{Number: q.Number, SetSize: count}.Append(nil), 0)
			count = 0
		case wire.CmdDataReply:
			l.answered(wire.DecodeBlockData(body[:24]))
		}
		if out != nil && l.say(out) != nil {
			return
		}
	}
}

func (l *peerLink) say(b []byte) error {
	l.metaOut.Lock()
	defer l.metaOut.Unlock()
	l.meta.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err := l.meta.Write(b)
	return err
}

// hear answers pings.
func (l *peerLink) hear() {
	in := newReader(l.meta)
	for {
		h, body, err := in.next()
		if err != nil {
			return
		}
		switch h.Cmd {
		case wire.CmdPing:
			if l.say(packet(nil, wire.CmdPingAck, nil, 0)) != nil {
				return
			}
		case wire.CmdPingAck:
			l.pongs.Add(1)
		case wire.CmdNegDReply:
			p, err := wire.DecodeBlockAck(body)
			l.answered(wire.BlockData{BlockID: p.BlockID}, err)
		}
	}
}

// lastRead is the id of a read that is sent after everything else.
const lastRead = 0x1a57

func (l *peerLink) answered(d wire.BlockData, err error) {
	if err == nil && d.BlockID == lastRead {
		l.last <- struct{}{}
	}
}

// drained waits until the node has taken everything that was sent, or has closed the connection. pings were among it.
func (l *peerLink) drained(t *testing.T, pings int64) {
	l.data.SetWriteDeadline(time.Now().Add(60 * time.Second))
	l.data.Write(packet(nil, wire.CmdDataRequest, wire.BlockReq{BlockID: lastRead, Size: 512}.Append(nil), 0))
	l.say(packet(nil, wire.CmdPing, nil, 0))
	late := time.After(120 * time.Second)
	select {
	case <-l.last:
	case <-l.dead:
		return
	case <-late:
		t.Fatal("the node does not take what it was sent")
	}
	for l.pongs.Load() <= pings {
		select {
		case <-l.dead:
			return
		case <-late:
			t.Fatalf("%d of %d pings are answered", l.pongs.Load(), pings+1)
		case <-time.After(time.Millisecond):
		}
	}
}

// reader cuts a stream into packets.
type reader struct {
	in   io.Reader
	buf  []byte
	from int
}

func newReader(in io.Reader) *reader { return &reader{in: in} }

func (r *reader) next() (wire.Header, []byte, error) {
	for need := wire.HeaderLen100; ; {
		if have := r.buf[r.from:]; len(have) >= need {
			h, err := wire.DecodeHeader100(have)
			if err != nil {
				return h, nil, err
			}
			if need = wire.HeaderLen100 + int(h.Length); len(have) >= need {
				r.from += need
				return h, have[wire.HeaderLen100:need], nil
			}
		}
		r.buf, r.from = append(r.buf[:0], r.buf[r.from:]...), 0
		n := len(r.buf)
		r.buf = append(r.buf, make([]byte, 64<<10)...)
		got, err := r.in.Read(r.buf[n:])
		r.buf = r.buf[:n+got]
		if err != nil {
			return wire.Header{}, nil, err
		}
	}
}

func (l *peerLink) close() {
	l.data.Close()
	l.meta.Close()
	<-l.dead
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
	memory, logged, writes := rss(t), f.logged.Load(), f.writes.Load()
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
	l.drained(t, int64(pings))
	if f.role == sm.Primary {
		f.goesOn(t)
	}
	top = max(top, rss(t))
	slowest := time.Duration(f.slowest.Load())
	t.Logf("%d packets over %d connections in %v: memory %+d KiB, log %d bytes, slowest status %v, %d writes", sent, links, time.Since(began).Round(time.Millisecond),
		(top-memory)>>10, f.logged.Load()-logged, slowest.Round(time.Microsecond), f.writes.Load()-writes)
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
