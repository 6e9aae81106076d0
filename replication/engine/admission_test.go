package engine

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// everyPacket lists the packets of the protocol that the engine may see.
func everyPacket() (all []wire.Cmd) {
	for c := wire.Cmd(0); c < 64; c++ {
		if c.Known() {
			all = append(all, c)
		}
	}
	return append(all, wire.CmdInitialMeta, wire.CmdInitialData, wire.CmdConnectionFeatures)
}

var everyOutstanding = []outstanding{nothing, asked, abandoned, openSame, openOther}

// everyStanding calls f with all that the table may be asked about.
func everyStanding(f func(s standing)) {
	for _, c := range sm.Conns()[greetings:] {
		for _, roles := range [][2]sm.Role{
			{sm.Primary, sm.Primary}, {sm.Primary, sm.Secondary}, {sm.Secondary, sm.Primary}, {sm.Secondary, sm.Secondary},
			{sm.Primary, sm.RoleUnknown}, {sm.Secondary, sm.RoleUnknown},
		} {
			for _, disk := range []bool{true, false} {
				for _, what := range everyOutstanding {
					f(standing{conn: c, role: roles[0], peer: roles[1], disk: disk, what: what})
				}
			}
		}
	}
}

// TestAdmissionTable: every packet has rules, every combination meets one, every row is needed; and what the table is for holds all over it.
func TestAdmissionTable(t *testing.T) {
	answers := map[wire.Cmd]bool{
		wire.CmdPingAck: true, wire.CmdStateChgReply: true, wire.CmdConnStChgReply: true, wire.CmdDataReply: true, wire.CmdNegDReply: true,
		wire.CmdRSDataReply: true, wire.CmdNegRSDReply: true, wire.CmdRSCancel: true, wire.CmdRecvAck: true, wire.CmdWriteAck: true,
		wire.CmdRSWriteAck: true, wire.CmdNegAck: true, wire.CmdBarrierAck: true,
	}
	writes := map[wire.Cmd]bool{wire.CmdData: true, wire.CmdTrim: true, wire.CmdZeroes: true, wire.CmdOutOfSync: true, wire.CmdDataRequest: true}
	greets := map[wire.Cmd]bool{wire.CmdProtocol: true, wire.CmdConnStChgReq: true, wire.CmdPing: true, wire.CmdPingAck: true}
	for _, cmd := range everyPacket() {
		rules := admissions[cmd]
		if len(rules) == 0 {
			t.Errorf("%v has no rule", cmd)
			continue
		}
		met := make([]bool, len(rules))
		everyStanding(func(s standing) {
			row := -1
			for i := range rules {
				if rules[i].fits(s) {
					row = i
					break
				}
			}
			if row < 0 {
				t.Errorf("%v meets no rule in %+v", cmd, s)
				return
			}
			met[row] = true
			got := rules[row].verdict
			if int(cmd) < len(rulesOf) && admitted(cmd, s) != got {
				t.Errorf("%v: the table says %v in %+v, and admitted %v", cmd, got, s, admitted(cmd, s))
			}
			switch {
			case got == end:
			case s.conn == greetings && !greets[cmd]:
				t.Errorf("%v is not refused before P_PROTOCOL", cmd)
			case got != take:
			case answers[cmd] && s.what != asked:
				t.Errorf("%v is taken without being asked for: %+v", cmd, s)
			case writes[cmd] && (s.role != sm.Secondary || s.peer != sm.Primary || !s.conn.Established()):
				t.Errorf("%v is taken from one who does not write: %+v", cmd, s)
			case cmd == wire.CmdStateChgReq && s.what == openSame || s.what == openOther && cmd == wire.CmdStateChgReq:
				t.Errorf("a second request is taken: %+v", s)
			case cmd == wire.CmdSyncUUID && s.conn == sm.Connected && s.what != asked:
				t.Errorf("a resync begins that nobody has agreed on: %+v", s)
			}
		})
		for i, ok := range met {
			if !ok {
				t.Errorf("row %d of %v is never met", i, cmd)
			}
		}
	}
	if len(admissions) != len(everyPacket()) {
		t.Errorf("%d packets have rules, there are %d", len(admissions), len(everyPacket()))
	}
}

// stage is one engine that is put into a state by hand, with a peer that is not there.
type stage struct {
	*pair
	n *node
	v *volume
}

// walkedStates are the states that make sense and have sockets.
func walkedStates() (all []sm.State) {
	for _, c := range sm.Conns()[sm.WFReportParams:] {
		for _, roles := range [][2]sm.Role{{sm.Primary, sm.Secondary}, {sm.Secondary, sm.Primary}, {sm.Secondary, sm.Secondary}} {
			for _, own := range []sm.Disk{sm.Diskless, sm.Inconsistent, sm.Outdated, sm.UpToDate} {
				for _, peer := range []sm.Disk{sm.Diskless, sm.Inconsistent, sm.Consistent, sm.UpToDate} {
					s := sm.State{Role: roles[0], Peer: roles[1], Conn: c, Disk: own, PeerDisk: peer}
					if c == sm.WFReportParams {
						s = s.Sanitise()
					}
					if s == s.Sanitise() && !slices.Contains(all, s) {
						all = append(all, s)
					}
				}
			}
		}
	}
	return all
}

// Every stage has the same memory.
var (
	stageDisk = make([]byte, stageSize)
)

const stageSize = 1 << 20

// newStage is an engine with a fresh disk whose connection is up, in a state, by protocol B.
func newStage(t testing.TB, image []byte, st sm.State, greeted bool) *stage {
	return newStageOf(t, image, st, greeted, ProtocolB, 1)
}

// newStageOf is newStage for any protocol, and for more volumes, of which the others have no disk.
func newStageOf(t testing.TB, image []byte, st sm.State, greeted bool, protocol Protocol, volumes int) *stage {
	n := &node{t: t, name: "n", disk: stageDisk, reply: map[uint64]error{}, done: map[*Request]bool{}}
	copy(stageDisk, image)
	e, err := New(Config{Resource: "r0", Volumes: numbered(volumes), Net: NetOptions{Protocol: protocol}, Buffers: conversationMemory[:MinBuffers+volumes*VolumeBuffers], Random: func() uint64 { return 77 << 8 }})
	if err != nil {
		t.Fatal(err)
	}
	n.e, n.peer = e, &node{t: t, name: "void", e: e}
	p := &stage{pair: &pair{t: t, now: 1, a: n, b: n.peer}, n: n, v: e.vols[0]}
	for i, c := range []Command{Attach{BackingSize: stageSize, MetaSize: stageSize}, Connect{}} {
		e.Command(p.now, uint64(i), c)
		p.rest()
	}
	e.ConnUp(p.now, Link{Features: Features})
	n.conn = "up"
	p.rest()
	e.conn.protocolSeen = greeted
	p.v.state = st
	p.v.attached = st.Disk != sm.Diskless
	p.v.resync = resync{active: st.Conn.Syncing(), paused: true, asks: map[int64]*ask{}}
	p.v.bm.ClearAll()
	for _, other := range e.vols[1:] {
		other.state = st
		other.state.Disk = sm.Diskless
		other.state = other.state.Sanitise()
		other.size, other.resync = p.v.size, resync{asks: map[int64]*ask{}}
	}
	p.rest()
	n.log, n.events = nil, nil
	return p
}

func numbered(volumes int) (all []VolumeConfig) {
	for i := range volumes {
		all = append(all, VolumeConfig{Number: i})
	}
	return all
}

func (p *stage) rest() {
	for p.work(p.n) {
	}
}

// packet makes a packet that stands to what is open as it says, and what it needs for that; ok is false if
// the packet cannot stand so.
func (p *stage) packet(cmd wire.Cmd, what outstanding) (b []byte, ok bool) {
	e, v := p.n.e, p.v
	body, payload := []byte(nil), 0
	block := wire.BlockData{Sector: 8, BlockID: 1, Flags: wire.DPSendWriteAck}
	ackOf := wire.BlockAck{Sector: 8, BlockID: 1, Size: 4096}
	isAsked := what == asked
	ok = what == nothing
	switch cmd {
	case wire.CmdPingAck:
		if ok = ok || isAsked; isAsked {
			e.ping()
		}
	case wire.CmdPing, wire.CmdUnplugRemote:
	case wire.CmdDelayProbe:
		body = make([]byte, cmd.Fixed())
	case wire.CmdProtocol, wire.CmdProtocolUpdate:
		body = wire.Protocol{Protocol: wire.ProtB}.Append(nil)
	case wire.CmdSyncParam89:
		body = wire.SyncParam89{ResyncRate: 1}.Append(nil)
	case wire.CmdSizes:
		body = wire.Sizes{DSize: wire.SectorOf(v.size), CSize: wire.SectorOf(v.size), MaxBioSize: wire.MaxRequest}.Append(nil)
	case wire.CmdUUIDs:
		body = wire.UUIDs{Current: 99 << 8}.Append(nil)
	case wire.CmdState:
		s := v.state
		body = wire.State{Word: sm.State{Role: s.Peer, Peer: s.Role, Conn: sm.Connected, Disk: s.PeerDisk, PeerDisk: s.Disk}.Word()}.Append(nil)
	case wire.CmdConnStChgReq, wire.CmdStateChgReq:
		c := sm.DisconnectChange
		if cmd == wire.CmdStateChgReq {
			c = sm.DetachChange
			switch ok = ok || what == openSame || what == openOther; what {
			case openSame:
				v.asked = peerAsk{change: c, stage: askAnswers}
			case openOther:
				v.asked = peerAsk{change: sm.PromoteChange, stage: askAnswers}
			}
		}
		body = wire.StateChgReq{Mask: c.Mask, Val: c.Val}.Append(nil)
	case wire.CmdStateChgReply:
		if ok = ok || isAsked; isAsked {
			v.request, v.replies = &request{change: sm.PromoteChange, since: p.now}, 1
		}
		body = wire.StateChgReply{Code: sm.CodeUnknown}.Append(nil)
	case wire.CmdConnStChgReply:
		if ok = ok || isAsked; isAsked {
			e.conn.request, e.conn.replies = &request{change: sm.DisconnectSelfChange, connection: true, since: p.now}, 1
		}
		body = wire.StateChgReply{Code: sm.CodeUnknown}.Append(nil)
	case wire.CmdData:
		body, payload = block.Append(nil), 4096
	case wire.CmdTrim, wire.CmdZeroes:
		body = wire.TrimBlock{BlockData: block, Size: 4096}.Append(nil)
	case wire.CmdBarrier:
		e.conn.in.open.at(0).count = 1
		body = wire.Barrier{Number: 1}.Append(nil)
	case wire.CmdDataRequest, wire.CmdRSDataRequest, wire.CmdRSThinReq:
		body = wire.BlockReq{Sector: 8, BlockID: wire.IDSyncer, Size: 4096}.Append(nil)
	case wire.CmdDataReply, wire.CmdNegDReply:
		if ok = ok || isAsked; isAsked {
			v.activeReads++
			v.upper++
			e.readRemotely(v, &Request{Op: OpRead, Off: 4096, Len: 4096, Data: make([]byte, 4096)})
			block.BlockID, ackOf.BlockID = remoteReadID(0, 1), remoteReadID(0, 1)
		}
		body = block.Append(nil)
		if payload = 4096; cmd == wire.CmdNegDReply {
			body, payload = ackOf.Append(nil), 0
		}
	case wire.CmdRSDataReply, wire.CmdNegRSDReply, wire.CmdRSCancel:
		switch ok = ok || isAsked || what == abandoned; what {
		case asked:
			v.bm.SetRange(4096, 4096)
			e.askFor(v, 1)
		case abandoned:
			v.resync.abandoned = 1
		}
		block.BlockID, ackOf.BlockID = wire.IDSyncer, wire.IDSyncer
		body, payload = block.Append(nil), 4096
		if cmd != wire.CmdRSDataReply {
			body, payload = ackOf.Append(nil), 0
		}
	case wire.CmdRecvAck, wire.CmdWriteAck, wire.CmdRSWriteAck, wire.CmdNegAck, wire.CmdBarrierAck:
		if ok = ok || isAsked; isAsked {
			w := e.writes.get()
			r := &Request{Op: OpWrite, Off: 4096, Len: 4096, Data: make([]byte, 4096), write: w}
			w.vol, w.req, w.off, w.n = v, r, 4096, 4096
			v.activeWrites++
			v.upper++
			v.ranges.add(&w.heldRange, ownWrite, w.off, w.off+w.n, w)
			e.sendWrite(w)
			w.sending = false
			ackOf.BlockID = w.id
			if cmd == wire.CmdBarrierAck {
				e.closeEpoch()
			}
		}
		body = ackOf.Append(nil)
		if cmd == wire.CmdBarrierAck {
			body = wire.BarrierAck{Number: uint32(e.conn.epochs.open.front().serial), SetSize: 1}.Append(nil)
		}
	case wire.CmdBitmap, wire.CmdCompressedBitmap:
		ok, v.exchange.peerGot = ok || isAsked, !isAsked
		if body = make([]byte, 8); cmd == wire.CmdCompressedBitmap {
			body = []byte{0x02 | 0x80, 1, 2, 3}
		}
	case wire.CmdOutOfSync:
		body = wire.BlockDesc{Sector: 8, Size: 4096}.Append(nil)
	case wire.CmdSyncUUID:
		if ok = ok || isAsked; isAsked {
			v.request, v.replies = &request{change: sm.StartingSyncTChange, since: p.now}, 1
		}
		body = wire.SyncUUID{UUID: 55 << 8}.Append(nil)
	default:
		body = make([]byte, cmd.Fixed())
	}
	b = wire.AppendHeader100(nil, wire.Header{Cmd: cmd, Length: uint32(len(body) + payload)})
	return append(append(b, body...), make([]byte, payload)...), ok
}

// shows is everything that a packet could have changed, but for answers.
func (p *stage) shows() string {
	c, v := &p.n.e.conn, p.v
	open := 0
	for _, rd := range c.remoteReads {
		if rd.req != nil {
			open++
		}
	}
	acked := 0
	for _, w := range p.n.e.writes.all {
		if w.acked || w.peerOK {
			acked++
		}
	}
	oos := int64(0)
	if v.bm != nil {
		oos = v.bm.Count()
	}
	return fmt.Sprint(v.state, c.protocolSeen, c.pongs, c.replies, c.in.open.len(), c.in.dueAt, c.epochs.open.len(), len(c.queue[DataSock].heads), c.wantedReads,
		c.peerBusy, open, acked, v.replies, v.request != nil, c.request != nil, v.asked, v.effects.len(), v.unacked, v.peerUUIDs, v.peerKnown, v.peer, v.peerConn,
		v.syncUUID, v.earlyUUID, v.exchange.merger != nil, len(v.resync.asks), v.resync.owed, v.resync.failed, v.received, oos, v.aloneWrites)
}

// silent packets change nothing that is seen, in the form in which they are sent here.
var silent = map[wire.Cmd]bool{wire.CmdPing: true, wire.CmdProtocolUpdate: true, wire.CmdSyncParam89: true, wire.CmdState: true, wire.CmdStateChgReq: true,
	wire.CmdConnStChgReq: true}

var negative = map[wire.Cmd]wire.Cmd{
	wire.CmdData: wire.CmdNegAck, wire.CmdTrim: wire.CmdNegAck, wire.CmdZeroes: wire.CmdNegAck, wire.CmdDataRequest: wire.CmdNegDReply,
	wire.CmdRSDataRequest: wire.CmdNegRSDReply, wire.CmdRSThinReq: wire.CmdNegRSDReply, wire.CmdStateChgReq: wire.CmdStateChgReply,
}

// TestAdmissionWalk: the engine does as the table says, for every packet in every state, however it stands to what is open.
func TestAdmissionWalk(t *testing.T) {
	image := newPair(t, stageSize, NetOptions{}).a.disk
	count := map[verdict]int{}
	for _, greeted := range []bool{false, true} {
		for _, st := range walkedStates() {
			if !greeted && st.Conn != sm.WFReportParams {
				continue
			}
			for _, cmd := range everyPacket() {
				for _, what := range everyOutstanding {
					p := newStage(t, image, st, greeted)
					b, ok := p.packet(cmd, what)
					if !ok {
						continue
					}
					s := standing{conn: st.Conn, role: st.Role, peer: st.Peer, disk: p.v.can(cmd), what: what}
					if !greeted {
						s.conn = greetings
					}
					want := admitted(cmd, s)
					if why := p.obeys(cmd, b, want); why != "" {
						t.Errorf("%v (%d) in %v, greeted %v: the table says %d: %s", cmd, what, st, greeted, want, why)
					}
					count[want]++
				}
			}
		}
	}
	for v := end; v <= drop; v++ {
		if count[v] == 0 {
			t.Errorf("verdict %d is never given", v)
		}
	}
	t.Logf("combinations: %d end, %d are taken, %d refused, %d answered again, %d dropped", count[end], count[take], count[refuse], count[again], count[drop])
}

// TestAdmissionByProtocol: what the protocol decides is whether a P_RECV_ACK is owed; it is with B alone. The other acknowledgements are the
// same with each.
func TestAdmissionByProtocol(t *testing.T) {
	image := newPair(t, stageSize, NetOptions{}).a.disk
	for _, protocol := range []Protocol{ProtocolA, ProtocolC} {
		for _, st := range walkedStates() {
			for _, cmd := range []wire.Cmd{wire.CmdRecvAck, wire.CmdWriteAck, wire.CmdRSWriteAck, wire.CmdNegAck, wire.CmdBarrierAck, wire.CmdData, wire.CmdBarrier} {
				for _, what := range everyOutstanding {
					p := newStageOf(t, image, st, true, protocol, 1)
					b, ok := p.packet(cmd, what)
					if !ok {
						continue
					}
					owed := what
					if cmd == wire.CmdRecvAck {
						owed = nothing
					}
					want := admitted(cmd, standing{conn: st.Conn, role: st.Role, peer: st.Peer, disk: p.v.can(cmd), what: owed})
					if why := p.obeys(cmd, b, want); why != "" {
						t.Errorf("protocol %v, %v (%d) in %v: the table says %d: %s", protocol, cmd, what, st, want, why)
					}
				}
			}
		}
	}
}

// TestAdmissionForAnotherVolume: what is open of one volume is not answered for another.
func TestAdmissionForAnotherVolume(t *testing.T) {
	image := newPair(t, stageSize, NetOptions{}).a.disk
	walked := 0
	for _, st := range walkedStates() {
		for _, cmd := range []wire.Cmd{
			wire.CmdStateChgReply, wire.CmdDataReply, wire.CmdNegDReply, wire.CmdRSDataReply, wire.CmdNegRSDReply, wire.CmdRSCancel,
			wire.CmdRecvAck, wire.CmdWriteAck, wire.CmdRSWriteAck, wire.CmdNegAck,
		} {
			p := newStageOf(t, image, st, true, ProtocolB, 2)
			b, ok := p.packet(cmd, asked)
			if !ok {
				continue
			}
			other := p.n.e.vols[1]
			want := admitted(cmd, standing{conn: other.state.Conn, role: other.state.Role, peer: other.state.Peer, disk: other.can(cmd), what: nothing})
			binary.BigEndian.PutUint16(b[4:], 1) // the volume of the header
			if why := p.obeys(cmd, b, want); why != "" {
				t.Errorf("%v for volume 1 in %v, asked for volume 0: the table says %d: %s", cmd, st, want, why)
			}
			walked++
		}
	}
	t.Logf("%d combinations", walked)
}

// obeys feeds the packet and says what does not agree with the verdict.
func (p *stage) obeys(cmd wire.Cmd, b []byte, want verdict) string {
	e, c := p.n.e, &p.n.e.conn
	before, queued := p.shows(), len(c.queue[MetaSock].heads)
	sock := DataSock
	if cmd.Socket() == wire.MetaSock {
		sock = MetaSock
	}
	if used := e.Receive(p.now, sock, b); used != len(b) {
		return fmt.Sprintf("%d of %d bytes are taken", used, len(b))
	}
	after := p.shows()
	breach := ""
	for _, ev := range e.out.Events {
		if change, ok := ev.(StateChange); ok && strings.Contains(change.Cause, "protocol error of the peer") {
			breach = change.Cause
		}
	}
	var answer wire.Cmd
	if heads := c.queue[MetaSock].heads; len(heads) > queued {
		h, err := wire.DecodeHeader100(heads[queued:])
		if err != nil {
			return err.Error()
		}
		answer = h.Cmd
	}
	switch {
	case want == end && e.hears():
		return "it goes on"
	case want == end && slices.ContainsFunc(e.out.Disk, func(io DiskIO) bool { return !io.Meta && (io.Op == DiskWrite || io.Op == DiskZero) }):
		return "the disk is written"
	case want == end:
	case breach != "" && (strings.Contains(breach, cmd.String()+" does not fit") || strings.Contains(breach, "answers nothing")):
		return breach
	case want == take && before == after && !silent[cmd]:
		return "nothing has happened"
	case want == refuse && (answer != negative[cmd] || before != after && cmd != wire.CmdData && cmd != wire.CmdTrim && cmd != wire.CmdZeroes):
		return fmt.Sprintf("the answer is %v\n%s\n%s", answer, before, after)
	case want == again && (p.v.asked.again != 1 || answer != 0):
		return fmt.Sprintf("asked again %d times, answer %v", p.v.asked.again, answer)
	case want == drop && (before != after || answer != 0):
		return fmt.Sprintf("the answer is %v\n%s\n%s", answer, before, after)
	}
	return ""
}

// TestGoodDiskIsKept: whatever a peer says that is not a handshake, or a request that is granted, a Primary keeps its good disk, and a Secondary its
// data; and nobody writes to a Primary's disk.
func TestGoodDiskIsKept(t *testing.T) {
	image := newPair(t, stageSize, NetOptions{}).a.disk
	both := sm.State{Role: sm.Primary, Peer: sm.Secondary, Conn: sm.Connected, Disk: sm.UpToDate, PeerDisk: sm.UpToDate}
	for _, role := range []sm.Role{sm.Primary, sm.Secondary} {
		for _, conn := range sm.Conns() {
			for _, peer := range []sm.Role{sm.Primary, sm.Secondary} {
				for _, disk := range []sm.Disk{sm.Diskless, sm.Failed, sm.Negotiating, sm.Inconsistent, sm.Outdated, sm.Consistent, sm.UpToDate} {
					st := both
					st.Role = role
					p := newStage(t, image, st, true)
					p.v.peerKnown, p.v.peerUUIDs.UUIDs = true, p.v.uuids // the same data
					w := sm.State{Role: peer, Peer: role, Conn: conn, Disk: disk, PeerDisk: sm.UpToDate}
					p.n.e.Receive(p.now, DataSock, packets(1, wire.CmdState, wire.State{Word: w.Word()}.Append(nil)))
					p.rest()
					p.n.e.Receive(p.now, DataSock, packets(1, wire.CmdSyncUUID, wire.SyncUUID{UUID: 55 << 8}.Append(nil)))
					p.n.e.Receive(p.now, DataSock, blockPacket(wire.CmdData, wire.BlockData{Sector: 8, BlockID: 1}, 4096))
					for _, io := range p.n.e.Drain().Disk {
						if io.Op == DiskWrite && !io.Meta {
							t.Errorf("%v as %v, after %v: the disk is written", peer, role, w)
						}
					}
					if p.v.state.Disk != sm.UpToDate {
						t.Errorf("%v, after %v: the own disk is %v", role, w, p.v.state.Disk)
					}
				}
			}
		}
	}
}
