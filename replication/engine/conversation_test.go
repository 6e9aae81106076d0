package engine

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/urbd/urbd/replication/engine/enginetest"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// conversation is one engine of one volume or two, with their disks, its application and administrator, and a peer that says what it likes.
// A script drives it, byte by byte; everything that must hold is looked at after each step.
type conversation struct {
	e     *Engine
	v     *volume // that the step is about
	now   Instant
	disks [][]byte
	room  metadata.Layout

	script enginetest.Script
	honest bool // the peer sends nothing that does not fit
	hold   bool // disk I/O is not carried out before it is released
	fail   int  // of the next I/Os
	held   []DiskIO
	quiet  bool // the peer reads nothing
	flying [2]bool
	in     [2][]byte // what the peer has sent and the engine not taken

	seeking, up bool
	open        int // requests of the application that are not answered
	orders      map[uint64]string
	last        uint64
}

// conversationImage is a disk with fresh metadata.
func conversationImage() ([]byte, metadata.Layout, error) {
	disk := make([]byte, stageSize)
	l, err := metadata.Place(metadata.Internal, 0, stageSize, stageSize)
	if err != nil {
		return nil, l, err
	}
	for w := range l.Create(metadata.New(l, 7)) {
		if w.Data == nil {
			clear(disk[w.Off : w.Off+w.Len])
		} else {
			copy(disk[w.Off:], w.Data)
		}
	}
	return disk, l, nil
}

func newConversation(image []byte, room metadata.Layout, script []byte) (*conversation, error) {
	c := &conversation{disks: [][]byte{stageDisk}, room: room, script: script, now: 1, orders: map[uint64]string{}}
	first := c.byte()
	disk := DiskOptions{}
	if first&16 != 0 {
		disk.Timeout = 3 * time.Second
	}
	volumes := []VolumeConfig{{Disk: disk}}
	if first&32 != 0 {
		volumes = append(volumes, VolumeConfig{Number: 1, Disk: disk})
		c.disks = append(c.disks, secondDisk)
	}
	for _, d := range c.disks {
		copy(d, image)
	}
	protocol := Protocol(first%3 + 1)
	c.honest = first&64 != 0
	uuid := uint64(1000)
	e, err := New(Config{
		Resource: "r0", Volumes: volumes, Net: NetOptions{Protocol: protocol}, Buffers: conversationMemory[:MinBuffers+len(volumes)*VolumeBuffers],
		Random: func() uint64 { uuid++; return uuid << 8 },
	})
	if err != nil {
		return nil, err
	}
	c.e, c.v = e, e.vols[0]
	return c, nil
}

// Every conversation has the same memory.
var (
	conversationMemory = make([]byte, MinBuffers+2*VolumeBuffers)
	secondDisk         = make([]byte, stageSize)
)

// each has something done about every volume.
func (c *conversation) each(do func()) {
	for _, v := range c.e.vols {
		c.v = v
		do()
	}
}

func (c *conversation) byte() byte { return c.script.Byte() }

func (c *conversation) order(name string, cmd Command) {
	c.last++
	c.orders[c.last] = name
	c.e.Command(c.now, c.last, cmd)
	c.turn()
}

// turn has the engine go on until nothing moves.
func (c *conversation) turn() {
	for i := 0; ; i++ {
		if i > 20000 {
			panic("the engine does not come to rest")
		}
		out := c.e.Drain()
		moved := len(out.Disk)+len(out.Done)+len(out.Events) > 0
		disk, events := slices.Clone(out.Disk), slices.Clone(out.Events)
		c.open -= len(out.Done)
		for _, ev := range events {
			c.event(ev)
		}
		for _, io := range disk {
			c.inside(io)
			if c.hold {
				c.held = append(c.held, io)
			} else {
				c.carryOut(io)
			}
		}
		for s := range c.in {
			moved = c.send(Socket(s)) || moved
			if c.up && len(c.in[s]) > 0 && c.e.ReceiveReady(Socket(s)) {
				used := c.e.Receive(c.now, Socket(s), c.in[s])
				c.in[s] = c.in[s][used:]
				moved = moved || used > 0
			}
		}
		if !moved {
			return
		}
	}
}

func (c *conversation) send(s Socket) bool {
	if c.flying[s] || c.e.NextSend(s) == nil {
		return false
	}
	if c.quiet {
		c.flying[s] = true
		return false
	}
	c.e.Sent(c.now, s)
	return true
}

func (c *conversation) event(ev Event) {
	switch ev := ev.(type) {
	case OpenConnection:
		c.seeking = true
	case CloseConnection:
		c.seeking, c.up, c.in, c.flying = false, false, [2][]byte{}, [2]bool{}
		c.e.ConnClosed(c.now)
	case Reply:
		if _, ok := c.orders[ev.ID]; !ok {
			panic(fmt.Sprintf("order %d is answered twice", ev.ID))
		}
		delete(c.orders, ev.ID)
	}
}

// inside panics if an I/O is not where it belongs.
func (c *conversation) inside(io DiskIO) {
	first, end := int64(0), c.room.DataLimit
	if io.Meta {
		first, end = min(c.room.AL, c.room.Superblock, c.room.BitmapPageOffset(0)), stageSize
	}
	if io.Op != DiskFlush && (io.Off < first || io.Len < 0 || io.Off > end-io.Len || io.Data != nil && int64(len(io.Data)) != io.Len) {
		panic(fmt.Sprintf("%v of %d bytes at %d, metadata %v, is outside of [%d, %d)", io.Op, io.Len, io.Off, io.Meta, first, end))
	}
}

func (c *conversation) carryOut(io DiskIO) {
	if c.fail > 0 {
		c.fail--
		c.e.DiskDone(c.now, io.Token, EIO)
		return
	}
	disk := c.disks[io.Vol]
	switch io.Op {
	case DiskRead:
		copy(io.Data, disk[io.Off:io.Off+io.Len])
	case DiskWrite:
		copy(disk[io.Off:], io.Data[:io.Len])
	case DiskZero:
		clear(disk[io.Off : io.Off+io.Len])
	}
	c.e.DiskDone(c.now, io.Token, OK)
}

func (c *conversation) release(n int) {
	for ; n > 0 && len(c.held) > 0; n-- {
		io := c.held[0]
		c.held = c.held[1:]
		c.carryOut(io)
	}
}

// pass lets time pass, as the owner would: from deadline to deadline.
func (c *conversation) pass(d time.Duration) {
	until := c.now + d
	for i := 0; ; i++ {
		if i > 20000 {
			panic("time does not pass")
		}
		c.e.Tick(c.now)
		c.turn()
		if c.now >= until {
			return
		}
		c.now = min(max(c.e.Deadline(), c.now), until)
	}
}

// start brings the engine to one of the places where a conversation begins.
func (c *conversation) start(where byte) {
	if where%8 == 0 {
		return // nothing is attached, nobody looked for
	}
	c.each(func() { c.attach(where&8 != 0) })
	c.order("connect", Connect{})
	if where%8 == 1 {
		return
	}
	c.meet()
	if where%8 == 2 {
		return
	}
	fresh := sm.State{Role: sm.Secondary, Conn: sm.WFConnection, Disk: sm.Inconsistent, PeerDisk: sm.DUnknown}
	good := fresh
	good.Disk = sm.UpToDate
	switch where % 8 {
	case 3: // both fresh
		c.each(func() { c.greet(sm.JustCreated, 0, 0, fresh) })
	case 4: // both good, nobody is Primary
		c.bothGood(fresh)
	case 5: // Primary
		c.bothGood(fresh)
		c.order("primary", Promote{})
		c.each(c.grant)
	case 6: // the Target of a Primary
		good.Role = sm.Primary
		c.each(func() { c.greet(77<<8, 0, 0, good) })
		c.each(c.bitmap)
		c.each(func() { c.say(DataSock, wire.CmdSyncUUID, wire.SyncUUID{UUID: 78 << 8}.Append(nil), 0) })
	case 7: // the Source of a resync, Primary by force
		c.each(func() { c.greet(sm.JustCreated, 0, 0, fresh) })
		c.order("primary", Promote{Force: true})
		c.each(c.grant)
		w := sm.State{Role: sm.Secondary, Peer: sm.Primary, Conn: sm.WFBitMapT, Disk: sm.Inconsistent, PeerDisk: sm.UpToDate}
		c.each(func() {
			c.say(DataSock, wire.CmdUUIDs, wire.UUIDs{Current: sm.JustCreated}.Append(nil), 0)
			c.say(DataSock, wire.CmdState, wire.State{Word: w.Word()}.Append(nil), 0)
			c.bitmap()
		})
	}
	c.v = c.e.vols[0]
}

func (c *conversation) attach(flush bool) {
	c.order("attach", Attach{Vol: c.v.number, BackingSize: stageSize, MetaSize: stageSize, Flush: flush, MetaFlush: flush})
}

// bothGood has two fresh disks called good.
func (c *conversation) bothGood(fresh sm.State) {
	c.each(func() { c.greet(sm.JustCreated, 0, 0, fresh) })
	c.each(func() {
		c.saysConnected(sm.Inconsistent)
		c.order("skip the initial sync", NewCurrentUUID{Vol: c.v.number, ClearBitmap: true})
		c.saysConnected(sm.UpToDate)
	})
}

// grant answers the request for a change of a volume.
func (c *conversation) grant() {
	c.say(MetaSock, wire.CmdStateChgReply, wire.StateChgReply{Code: sm.CodeSuccess}.Append(nil), 0)
}

// bitmap has the peer send a bitmap in which everything is marked.
func (c *conversation) bitmap() {
	words := (c.v.size/4096 + 63) / 64
	c.say(DataSock, wire.CmdBitmap, bytes.Repeat([]byte{0xff}, int(words*8)), 0)
	c.say(DataSock, wire.CmdBitmap, nil, 0)
}

func (c *conversation) saysConnected(disks sm.Disk) {
	w := sm.State{Role: sm.Secondary, Peer: sm.Secondary, Conn: sm.Connected, Disk: disks, PeerDisk: disks}
	c.say(DataSock, wire.CmdState, wire.State{Word: w.Word()}.Append(nil), 0)
}

func (c *conversation) meet() {
	if c.seeking && !c.up {
		c.e.ConnUp(c.now, Link{ResolveConflicts: c.byte()&1 != 0, Features: Features})
		c.up = true
		c.turn()
	}
}

// meetAgain has a peer come that fits: with the same data, or with newer or older data.
func (c *conversation) meetAgain(op byte) {
	c.meet()
	c.each(func() { c.greetAgain(op) })
}

func (c *conversation) greetAgain(op byte) {
	st := sm.State{Role: sm.Secondary, Conn: sm.WFConnection, Disk: sm.UpToDate, PeerDisk: sm.DUnknown}
	if op&64 != 0 && c.v.state.Role == sm.Secondary {
		st.Role = sm.Primary
	}
	u := c.v.uuids
	switch op >> 4 & 3 {
	case 0, 1:
		c.greet(u.Current, 0, 0, st)
	case 2:
		c.greet(4321<<8, u.Current, 0, st)
	case 3:
		st.Disk = sm.Inconsistent
		c.greet(u.Bitmap, 0, 0, st)
	}
	if c.v.state.Conn.BitmapExchange() {
		c.bitmap()
	}
}

func (c *conversation) greet(current, bitmap, history uint64, st sm.State) {
	size := wire.SectorOf(c.room.DataLimit)
	if !c.e.conn.protocolSeen {
		c.say(DataSock, wire.CmdProtocol, wire.Protocol{Protocol: uint32(c.e.cfg.Net.Protocol)}.Append(nil), 0)
	}
	c.say(DataSock, wire.CmdSyncParam89, wire.SyncParam89{}.Append(nil), 0)
	c.say(DataSock, wire.CmdSizes, wire.Sizes{DSize: size, CSize: size, MaxBioSize: wire.MaxRequest}.Append(nil), 0)
	c.say(DataSock, wire.CmdUUIDs, wire.UUIDs{Current: current, Bitmap: bitmap}.Append(nil), 0)
	c.say(DataSock, wire.CmdState, wire.State{Word: st.Word()}.Append(nil), 0)
}

// say has the peer send one packet.
func (c *conversation) say(s Socket, cmd wire.Cmd, body []byte, payload int) {
	if c.up {
		b := wire.AppendHeader100(c.in[s], wire.Header{Volume: uint16(c.v.number), Cmd: cmd, Length: uint32(len(body) + payload)})
		c.in[s] = append(append(b, body...), make([]byte, payload)...)
		c.turn()
	}
}

// step does what the next byte of the script says.
func (c *conversation) step() {
	op := c.byte()
	if c.seeking && !c.up && op&128 != 0 {
		c.meetAgain(op)
	}
	c.v = c.e.vols[int(op>>6&1)%len(c.e.vols)]
	if c.honest && (op%16 < 4 || op%16 == 8) {
		op = op&^15 | 4 + op&3
	}
	switch op % 16 {
	case 0, 1, 2, 3: // any packet, well framed
		c.says(c.script.Any(op&16 != 0, c.node()))
	case 4, 5: // one that fits what is open
		c.fittingPacket()
	case 6, 7: // what an honest peer begins
		c.says(c.script.Honest(c.node())...)
	case 8: // bytes
		s := Socket(op >> 4 & 1)
		if b := c.script.Bytes(int(c.byte())); c.up {
			c.in[s] = append(c.in[s], b...)
		}
	case 9, 10:
		c.application()
	case 11:
		c.administrator()
	case 12: // the disk
		switch b := c.byte(); b % 4 {
		case 0:
			c.hold = true
		case 1:
			c.hold = false
			c.release(len(c.held))
		case 2:
			c.fail = int(b>>2)%4 + 1
		case 3:
			c.release(int(b>>2)%4 + 1)
		}
	case 13: // time
		c.pass(time.Duration(c.byte()) * []time.Duration{time.Microsecond, time.Millisecond, 20 * time.Millisecond, time.Second}[op>>4&3])
	case 14: // the connection
		c.link(op >> 4)
	case 15: // the peer stops reading, or goes on
		if c.quiet = op&16 != 0; !c.quiet {
			c.land()
		}
	}
	c.turn()
	c.bounded()
}

func (c *conversation) land() {
	for s := range c.flying {
		if c.flying[s] {
			c.flying[s] = false
			c.e.Sent(c.now, Socket(s))
		}
	}
}

func (c *conversation) link(how byte) {
	switch how % 4 {
	case 0, 1:
		c.meet()
		if how%4 == 1 && c.up {
			st := sm.FromWord(uint32(c.byte()) | uint32(c.byte())<<8 | uint32(c.byte())<<16)
			u := c.v.uuids
			c.greet(c.script.UUID(u), c.script.UUID(u), 0, st)
		}
	case 2:
		c.e.ConnDown(c.now, Trouble(c.byte()%3), nil)
	case 3:
		c.e.ConnRefused(c.now, mismatchf("somebody else"))
	}
}

// node is what the peer may know of the volume.
func (c *conversation) node() enginetest.Node {
	return enginetest.Node{State: c.v.state, UUIDs: c.v.uuids, Size: c.v.size}
}

// says has the peer send packets.
func (c *conversation) says(all ...enginetest.Packet) {
	for _, p := range all {
		s := DataSock
		if p.Meta() {
			s = MetaSock
		}
		c.say(s, p.Cmd, p.Body, p.Payload)
	}
}

// fittingPacket is what an honest peer would say to what is open.
func (c *conversation) fittingPacket() {
	b := c.byte()
	conn := &c.e.conn
	switch b % 8 {
	case 0, 1: // a write is written, or refused
		cmd := []wire.Cmd{wire.CmdWriteAck, wire.CmdRSWriteAck, wire.CmdNegAck, wire.CmdRecvAck}[b>>3&3]
		for _, w := range c.e.writes.all {
			if w.vol != nil && w.awaits(c.e, cmd) {
				c.v = w.vol
				c.say(MetaSock, cmd, wire.BlockAck{Sector: wire.SectorOf(w.off), BlockID: w.id, Size: uint32(w.n)}.Append(nil), 0)
				return
			}
		}
	case 2: // an epoch is durable
		ep := conn.epochs.open.front()
		c.say(MetaSock, wire.CmdBarrierAck, wire.BarrierAck{Number: uint32(ep.serial), SetSize: ep.count}.Append(nil), 0)
	case 3: // a read is answered
		for i, rd := range conn.remoteReads {
			if rd.req == nil {
				continue
			}
			c.v = c.e.volume(rd.req.Vol)
			d := wire.BlockData{Sector: wire.SectorOf(rd.req.Off), BlockID: remoteReadID(i, rd.gen)}
			if b>>3&3 == 0 {
				c.say(MetaSock, wire.CmdNegDReply, wire.BlockAck{Sector: d.Sector, BlockID: d.BlockID, Size: uint32(rd.req.Len)}.Append(nil), 0)
			} else {
				c.say(DataSock, wire.CmdDataReply, d.Append(nil), int(rd.req.Len))
			}
			return
		}
	case 4: // a block is copied
		for at := int64(0); at < c.v.size; at += 4096 {
			a := c.v.resync.asks[at]
			if a == nil || a.answered {
				continue
			}
			ack := wire.BlockAck{Sector: wire.SectorOf(a.off), BlockID: wire.IDSyncer, Size: uint32(a.n)}
			switch b >> 3 & 3 {
			case 0:
				c.say(MetaSock, wire.CmdNegRSDReply, ack.Append(nil), 0)
			case 1:
				c.say(MetaSock, wire.CmdRSCancel, ack.Append(nil), 0)
			default:
				c.say(DataSock, wire.CmdRSDataReply, wire.BlockData{Sector: ack.Sector, BlockID: wire.IDSyncer}.Append(nil), int(a.n))
			}
			return
		}
	case 5: // the block that was sent last is written
		if n := len(c.v.resync.served); n > 0 {
			s := c.v.resync.served[n-1]
			cmd := []wire.Cmd{wire.CmdRSWriteAck, wire.CmdNegAck}[b>>3&1]
			c.say(MetaSock, cmd, wire.BlockAck{Sector: wire.SectorOf(s.off), BlockID: wire.IDSyncer, Size: uint32(s.n)}.Append(nil), 0)
		}
	case 6:
		for range min(conn.pings-conn.pongs, 100) {
			c.say(MetaSock, wire.CmdPingAck, nil, 0)
		}
	case 7: // a request is granted, or refused
		code := []int32{sm.CodeSuccess, sm.CodeSuccess, 0, -18}[b>>3&3]
		if conn.replies > 0 {
			c.say(MetaSock, wire.CmdConnStChgReply, wire.StateChgReply{Code: code}.Append(nil), 0)
		} else if c.v.replies > 0 {
			c.say(MetaSock, wire.CmdStateChgReply, wire.StateChgReply{Code: code}.Append(nil), 0)
		}
	}
}

// application has one request begin, if there is a device.
func (c *conversation) application() {
	sector, n := c.script.Place()
	b := c.byte()
	r := &Request{Vol: c.v.number, Op: Op(b % 5), Off: int64(sector) * wire.SectorSize, Len: int64(n), FUA: b&64 != 0, NoUnmap: b&128 != 0}
	if c.v.state.Role != sm.Primary || c.open >= 64 || r.Off+r.Len > c.v.size || (r.Off|r.Len)&(c.v.exported-1) != 0 {
		return
	}
	switch r.Op {
	case OpFlush:
		r.Off, r.Len = 0, 0
	case OpRead, OpWrite:
		r.Data = make([]byte, n)
	}
	c.open++
	c.e.Submit(c.now, r)
}

// administrator gives one order.
func (c *conversation) administrator() {
	b := c.byte()
	force, vol := b&16 != 0, c.v.number
	switch b % 13 {
	case 0:
		c.attach(force)
	case 1:
		c.order("detach", Detach{Vol: vol, Force: force})
	case 2:
		c.order("connect", Connect{DiscardMyData: force})
	case 3:
		c.order("disconnect", Disconnect{Force: force})
	case 4, 5:
		c.order("primary", Promote{Force: force})
	case 6:
		if c.open == 0 {
			c.order("secondary", Demote{})
		}
	case 7:
		c.order("invalidate", Invalidate{Vol: vol})
	case 8:
		c.order("invalidate-remote", InvalidateRemote{Vol: vol})
	case 9, 10:
		c.order("pause-sync", PauseSync{Vol: vol, On: force})
	case 11:
		if b&32 != 0 {
			c.withdraw(force)
			return
		}
		c.order("new-current-uuid", NewCurrentUUID{Vol: vol, ClearBitmap: force})
	case 12:
		if c.open == 0 {
			c.order("down", Down{Force: force})
		}
	}
}

// withdraw takes an order back that is not answered yet, the last one or the first.
func (c *conversation) withdraw(last bool) {
	if len(c.orders) == 0 {
		return
	}
	open := slices.Sorted(maps.Keys(c.orders))
	id := open[0]
	if last {
		id = open[len(open)-1]
	}
	switch end, _ := c.e.Withdraw(c.now, id); end {
	case Withdrawn:
		delete(c.orders, id) // a Reply would be one too many
	case Answered:
		panic(fmt.Sprintf("order %d, %s, is called answered, and is not", id, c.orders[id]))
	}
}

// bounded panics if anything is larger than its bound.
func (c *conversation) bounded() {
	for _, v := range c.e.vols {
		within([]bound{
			{"effects", v.effects.len(), maxEffects + 64}, {"metadata jobs", v.meta.queue.len(), maxMetaJobs + 64},
			{"asked again", int(v.asked.again), maxAgain}, {"received bytes of the reserve", int(v.reserve[received].used), reserveSize},
			{"served bytes of the reserve", int(v.reserve[served].used), reserveSize},
		})
	}
	conn := &c.e.conn
	within([]bound{
		{"fences", len(conn.fences), 3 * len(c.e.vols)}, {"answers on meta", len(conn.queue[MetaSock].heads), maxAnswers + 1<<16},
		{"packets on data", len(conn.queue[DataSock].heads), maxQueued + 1<<20}, {"reads of the peer", conn.wantedReads, maxReadQueue},
		{"zero-outs", conn.zeroing, maxZeroing}, {"epochs", conn.in.open.len(), maxPeerEpochs + 1},
		{"bytes of the pool", int(c.e.pool.used), len(c.e.pool.mem)},
	})
}

type bound struct {
	what    string
	n, most int
}

func within(all []bound) {
	for _, b := range all {
		if b.n > b.most {
			panic(fmt.Sprintf("%d %s, at most %d are allowed", b.n, b.what, b.most))
		}
	}
}

// end has everything come to its end: the disk works, the peer is gone, time passes. Nothing may be left then.
func (c *conversation) end() {
	c.hold, c.fail, c.quiet = false, 0, false
	c.release(len(c.held))
	c.land()
	c.turn()
	c.release(len(c.held))
	c.e.ConnDown(c.now, NetworkFailure, nil)
	c.turn()
	c.pass(100 * time.Second)
	c.order("disconnect", Disconnect{Force: true})
	c.pass(time.Second)
	c.order("down", Down{})
	c.pass(100 * time.Second)
	for id, name := range c.orders {
		panic(fmt.Sprintf("order %d, %s, is never answered; state %v", id, name, c.v.state))
	}
	e, conn := c.e, &c.e.conn
	reads, writes := 0, len(e.writes.all)-len(e.writes.free)
	for _, rd := range conn.remoteReads {
		if rd.req != nil {
			reads++
		}
	}
	c.nothing([]left{
		{"requests of the application", c.open}, {"bytes of the pool", int(e.pool.used)}, {"writes", writes}, {"reads of the peer's disk", reads},
		{"I/Os for the peer", conn.peerBusy}, {"zero-outs", conn.zeroing}, {"bytes served", int(conn.servedBytes)}, {"bytes in flight", int(conn.apInFlight)},
		{"flushes", len(e.flushes)}, {"I/Os of disks that were given up", e.Abandoned()},
	})
	c.each(func() {
		v := c.v
		c.nothing([]left{
			{"I/Os", v.diskPending}, {"ranges", len(v.ranges.list)}, {"held requests", v.heldWrites.len() + v.heldReads.len() + v.gated.len() + v.waiting.len()},
			{"effects", v.effects.len()}, {"metadata jobs", v.meta.queue.len()}, {"active", v.activeReads + v.activeWrites + v.upper},
			{"bytes of the reserves", int(v.reserve[received].used + v.reserve[served].used)},
		})
	})
}

type left struct {
	what string
	n    int
}

// nothing panics if anything is left.
func (c *conversation) nothing(all []left) {
	for _, l := range all {
		if l.n != 0 {
			panic(fmt.Sprintf("%d %s are left; state %v", l.n, l.what, c.v.state))
		}
	}
}
