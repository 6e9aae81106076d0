package replication

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/engine/enginetest"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// TestScriptedPeer: a daemon meets the peer of FuzzConversation, over sockets: what that target begins with, what it has found, and random
// scripts, of which URBD_SCRIPTED is the number. It must hold what TestHostilePeer asks for.
func TestScriptedPeer(t *testing.T) {
	random := 60
	if s := os.Getenv("URBD_SCRIPTED"); s != "" {
		var err error
		if random, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	all := conversations(t, random)
	leavesNothing(t, len(all), func(t *testing.T, n int) {
		s := all[n]
		role := sm.Secondary
		if s.Where == asPrimary || s.Where == asSource {
			role = sm.Primary
		}
		newFlood(t, role, nil).hears(t, s)
	})
}

// Where a conversation begins, of the places of FuzzConversation those in which there is a peer.
const (
	unmet     byte = iota + 2 // nothing has been said
	asFresh                   // (a daemon that has data, like the next one)
	asGood                    // the same data here and there, the peer is Primary
	asPrimary                 // the same data, this node is Primary
	asTarget                  // of a resync from the peer, Primary
	asSource                  // of a resync to the peer
)

// conversations are those of FuzzConversation that begin with a peer, and random ones.
func conversations(t *testing.T, random int) (all []enginetest.Seed) {
	for _, s := range enginetest.Seeds() {
		if s.Where >= unmet && s.Where <= asSource {
			all = append(all, s)
		}
	}
	found, err := filepath.Glob("engine/testdata/fuzz/FuzzConversation/*")
	if err != nil || len(found) == 0 {
		t.Fatalf("nothing that FuzzConversation has found: %v", err)
	}
	for _, name := range found {
		lines := strings.Split(string(must(os.ReadFile(name))), "\n")
		where := must(strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(lines[1], "byte("), ")")))
		script := must(strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(lines[2], "[]byte("), ")")))
		all = append(all, enginetest.Seed{Where: max(where[0]%8, unmet), Script: []byte(script)})
	}
	for seed := range random {
		r := rand.New(rand.NewPCG(uint64(seed), 4))
		script := make([]byte, 20+r.IntN(600))
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		all = append(all, enginetest.Seed{Where: unmet + byte(r.IntN(int(asSource-unmet)+1)), Script: script})
	}
	return all
}

// hears has a peer come that says what a script says, as long as the daemon listens.
func (f *floodRun) hears(t *testing.T, c enginetest.Seed) {
	logged := f.logged.Load()
	s := enginetest.Script(c.Script)
	honest := s.Byte()&64 != 0 // the peer says nothing that does not fit; the rest is the configuration of the engine
	l := f.begins(t, c.Where)
	var asked sync.WaitGroup
	said := 0
	for open := true; open && len(s) > 0; {
		select {
		case <-l.dead:
			open = false
			continue
		default:
		}
		op := s.Byte()
		if honest && (op%16 < 4 || op%16 == 8) {
			op = op&^15 | 4 + op&3
		}
		switch op % 16 {
		case 0, 1, 2, 3:
			open = f.tells(l, s.Any(op&16 != 0, f.node(t)))
			said++
		case 4, 5: // an honest answer comes by itself; the next one may be another
			l.ack.Store(uint32([]wire.Cmd{wire.CmdWriteAck, wire.CmdRSWriteAck, wire.CmdNegAck, wire.CmdRecvAck}[s.Byte()>>3&3]))
		case 6, 7:
			open = f.tells(l, s.Honest(f.node(t))...)
			said++
		case 8: // bytes
			w := word{sock: engine.Socket(op >> 4 & 1), raw: s.Bytes(int(s.Byte()))}
			open = f.says(l, w)
			said++
		case 9, 10:
			f.asks(t, &s, &asked)
		case 11, 12, 13: // administrator, disk and time are the engine's
			s.Byte()
		case 14:
			if op>>4%4 == 2 {
				open = false
			}
		}
	}
	t.Logf("%v, place %d: %d packets, %d bytes of %d not read", f.role, c.Where, said, len(s), len(c.Script))
	f.survives(t, l, logged)
	ended := make(chan struct{})
	go func() { asked.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		t.Error("a request of the application does not end")
	}
}

// begins has the peer come, and waits until the daemon is where the conversation begins.
func (f *floodRun) begins(t *testing.T, where byte) (l *peerLink) {
	want := sm.Connected
	switch where {
	case unmet:
		want = sm.WFReportParams
		l = f.sockets(t)
		l.listen()
	case asTarget:
		want = sm.SyncTarget
		l = f.connectAs(t, func(node wire.UUIDs, _ sm.Role) (wire.UUIDs, sm.State) {
			return wire.UUIDs{Current: 77 << 8, Bitmap: node.Current}, state(sm.Primary, sm.WFConnection)
		}, fitting)
		f.marksAll(t, l)
		f.tells(l, enginetest.Packet{Cmd: wire.CmdSyncUUID, Body: wire.SyncUUID{UUID: 78 << 8}.Append(nil)})
	case asSource:
		want = sm.SyncSource
		l = f.connectAs(t, func(wire.UUIDs, sm.Role) (wire.UUIDs, sm.State) {
			st := state(sm.Secondary, sm.WFConnection)
			st.Disk = sm.Inconsistent
			return wire.UUIDs{Current: sm.JustCreated}, st
		}, fitting)
		f.marksAll(t, l)
	default:
		l = f.connectAs(t, sameData, fitting)
	}
	f.n.await(want.String(), func(s sm.State) bool { return s.Conn == want })
	return l
}

// marksAll sends a bitmap in which everything is marked.
func (f *floodRun) marksAll(t *testing.T, l *peerLink) {
	words := (f.node(t).Size/4096 + 63) / 64
	f.tells(l, enginetest.Packet{Cmd: wire.CmdBitmap, Body: bytes.Repeat([]byte{0xff}, int(words*8))}, enginetest.Packet{Cmd: wire.CmdBitmap})
}

// fitting grants what the node asks for, and confirms a block of a resync.
func fitting(h wire.Header, body []byte) []byte {
	switch h.Cmd {
	case wire.CmdStateChgReq:
		return packet(nil, wire.CmdStateChgReply, wire.StateChgReply{Code: sm.CodeSuccess}.Append(nil), 0)
	case wire.CmdConnStChgReq:
		return packet(nil, wire.CmdConnStChgReply, wire.StateChgReply{Code: sm.CodeSuccess}.Append(nil), 0)
	case wire.CmdRSDataReply:
		if d, err := wire.DecodeBlockData(body[:24]); err == nil {
			return packet(nil, wire.CmdRSWriteAck, wire.BlockAck{Sector: d.Sector, BlockID: wire.IDSyncer, Size: h.Length - 24}.Append(nil), 0)
		}
	case wire.CmdRSDataRequest:
		if q, err := wire.DecodeBlockReq(body); err == nil {
			return packet(nil, wire.CmdNegRSDReply, wire.BlockAck{Sector: q.Sector, BlockID: wire.IDSyncer, Size: q.Size}.Append(nil), 0)
		}
	case wire.CmdDataRequest:
		if q, err := wire.DecodeBlockReq(body); err == nil {
			return packet(nil, wire.CmdNegDReply, wire.BlockAck{Sector: q.Sector, BlockID: q.BlockID, Size: q.Size}.Append(nil), 0)
		}
	}
	return nil
}

// node is what the peer may know.
func (f *floodRun) node(t *testing.T) (n enginetest.Node) {
	if err := f.n.res.on(t.Context(), func(l *loop) {
		v := l.engine.Status().Volumes[0]
		n = enginetest.Node{State: v.State, UUIDs: v.UUIDs, Size: v.Size}
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// tells sends packets; false if the node has hung up.
func (f *floodRun) tells(l *peerLink, all ...enginetest.Packet) bool {
	for _, p := range all {
		w := word{sock: engine.DataSock, raw: packet(nil, p.Cmd, p.Body, p.Payload)}
		if p.Meta() {
			w.sock = engine.MetaSock
		}
		if !f.says(l, w) {
			return false
		}
	}
	return true
}

// asks has the application begin a request, if there is a device.
func (f *floodRun) asks(t *testing.T, s *enginetest.Script, asked *sync.WaitGroup) {
	sector, n := s.Place()
	b := s.Byte()
	if f.role != sm.Primary {
		return
	}
	r := engine.Request{Op: engine.Op(b % 5), Off: int64(sector) * wire.SectorSize, Len: int64(n), FUA: b&64 != 0, NoUnmap: b&128 != 0}
	switch r.Op {
	case engine.OpFlush:
		r.Off, r.Len = 0, 0
	case engine.OpRead, engine.OpWrite:
		r.Data = page(t, r.Len)
	}
	asked.Go(func() { f.n.devices.Volume(0).Do(t.Context(), r) })
}
