package sim

import (
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// app is the application on both nodes. It writes where it is told that the
// node is Primary, and checks what it reads.
type app struct {
	s     *Sim
	on    [2]bool
	calls map[uint64]*call // under way, by handle
	next  uint64
	quiet [2]func() // called when nothing of a stopped application is under way
}

// call is one request under way.
type call struct {
	req   *engine.Request
	n     *node
	v     *volume
	w     *write // of a request that changes content
	begun uint64 // turn
	at    engine.Instant
}

func (a *app) start() {
	if a.calls == nil {
		a.calls = map[uint64]*call{}
	}
	for _, n := range a.s.nodes {
		a.tick(n)
	}
}

// tick submits one request, and comes back.
func (a *app) tick(n *node) {
	s := a.s
	if s.healing {
		return
	}
	if a.on[n.index] && n.alive() && !n.users.wait && n.asleep <= s.now && a.underWay(n) < s.profile.depth {
		a.submit(n, s.vols[s.rng.IntN(len(s.vols))])
	}
	think := s.profile.think
	if s.admin.parted || s.media.sparing && !s.admin.allInSync() {
		think += 5 * time.Millisecond
	}
	s.after(between(s.rng, think), func() { a.tick(n) })
}

func (a *app) underWay(n *node) int {
	c := 0
	for _, call := range a.calls {
		if call.n == n {
			c++
		}
	}
	return c
}

// stop has the application of a node stop; then is called when it has.
func (a *app) stop(n *node, then func()) {
	a.on[n.index] = false
	a.quiet[n.index] = then
	a.settled(n)
}

func (a *app) settled(n *node) {
	if then := a.quiet[n.index]; then != nil && a.underWay(n) == 0 {
		a.quiet[n.index] = nil
		a.s.after(0, then)
	}
}

func (a *app) submit(n *node, v *volume) {
	s := a.s
	a.next++
	r := &engine.Request{Vol: v.number, Handle: a.next}
	c := &call{req: r, n: n, v: v, begun: s.turn, at: s.now}
	r.Off, r.Len = a.place(v)
	switch k := s.rng.IntN(100); {
	case k < 52:
		r.Op, r.FUA = engine.OpWrite, s.rng.IntN(8) == 0
	case k < 80:
		r.Op = engine.OpRead
	case k < 90:
		r.Op, r.Off, r.Len = engine.OpFlush, 0, 0
	case k < 95:
		r.Op = engine.OpDiscard
	default:
		r.Op, r.NoUnmap = engine.OpWriteZeroes, s.rng.IntN(2) == 0
	}
	m := v.modelOf(n)
	if r.Op == engine.OpRead || r.Op == engine.OpWrite {
		r.Data = make([]byte, r.Len)
	}
	if r.Op != engine.OpRead && r.Op != engine.OpFlush {
		c.w = &write{begun: s.turn}
		if r.Op == engine.OpWrite {
			m.nextID++
			c.w.id = m.nextID
			for at := int64(0); at < r.Len; at += sectorSize {
				stamp(r.Data[at:], c.w.id, (r.Off+at)/sectorSize)
			}
		}
		m.add(c.w, r.Off, r.Len)
	}
	a.calls[r.Handle] = c
	n.tell("%v vol %d off %d len %d fua %v: request %d%s", r.Op, r.Vol, r.Off, r.Len, r.FUA, r.Handle, c.content())
	n.eng.Submit(n.now(), r)
	n.touched()
}

// content names what is written, for the story.
func (c *call) content() string {
	if c.w == nil || c.w.id == 0 {
		return ""
	}
	return ", content " + itoa(c.w.id)
}

// place is a random range of the device.
func (a *app) place(v *volume) (off, n int64) {
	s := a.s
	unit := max(v.block, pick[int64](s.rng, sectorSize, blockSize, blockSize))
	n = unit * (1 + s.rng.Int64N(max(1, pick(s.rng, blockSize, s.profile.largest)/unit)))
	n = min(n, v.size/unit*unit)
	within := min(v.size, s.profile.hot)
	if s.rng.IntN(8) == 0 {
		within = v.size
	}
	off = s.rng.Int64N(within) / unit * unit
	if s.rng.IntN(40) == 0 {
		off = v.size / unit * unit // the very end
	}
	off = max(0, min(off, (v.size-n)/v.block*v.block))
	return off, n
}

// answered takes a request back.
func (a *app) answered(n *node, r *engine.Request) {
	c := a.calls[r.Handle]
	if c == nil || c.n != n {
		a.s.fail("%s: request %d is answered twice", n.name, r.Handle)
	}
	if r.Err == engine.EAGAIN {
		if a.s.counts[ReadMoved]++; r.Held != 0 { // else the disk has ended with it since
			r.Data = make([]byte, r.Len)
		}
		n.eng.Submit(n.now(), r)
		n.touched()
		return
	}
	delete(a.calls, r.Handle)
	n.tell("request %d answered: errno %d", r.Handle, r.Err)
	m := c.v.modelOf(n)
	switch {
	case r.Err == engine.ENODEV && !n.primary():
	case r.Err != engine.OK:
		a.failed(c)
	case r.Op == engine.OpRead:
		a.checkRead(c, m)
	case r.Op == engine.OpFlush:
		m.flushed(c.begun)
		a.s.counts[FlushAnswered]++
	default:
		c.w.acked = a.s.turn
		a.checkAck(c)
		if r.FUA {
			c.w.durable = true
			a.s.counts[FUAAnswered]++
		}
		if r.Op != engine.OpWrite {
			a.s.counts[ZeroAnswered]++
		}
	}
	a.over(c, m)
}

// checkAck looks at the disks when a write is answered: with protocol C both
// have it, where no other write is under way (I1).
func (a *app) checkAck(c *call) {
	v := c.v
	if v.compare(); a.s.profile.net.Protocol != engine.ProtocolC || !v.inSync() {
		return
	}
	for blk := c.req.Off / blockSize; blk <= (c.req.Off+c.req.Len-1)/blockSize; blk++ {
		if _, differs := v.differ[blk]; differs && !a.busyAt(v, blk) {
			a.s.fail("%s: volume %d: request %d is answered, and block %d is not the same on both disks", c.n.name, v.number, c.req.Handle, blk)
		}
	}
}

// busyAt reports whether a request under way changes a block.
func (a *app) busyAt(v *volume, blk int64) bool {
	for _, c := range a.calls {
		if c.v == v && c.w != nil && c.req.Off < (blk+1)*blockSize && blk*blockSize < c.req.Off+c.req.Len {
			return true
		}
	}
	return false
}

// over ends a call in the model.
func (a *app) over(c *call, m *model) {
	if c.w != nil {
		if c.w.over == 0 {
			c.w.over = a.s.turn
		}
		m.prune(c.req.Off, c.req.Len, a.oldestRead(c.v))
	}
	a.settled(c.n)
}

func (a *app) oldestRead(v *volume) uint64 {
	oldest := a.s.turn
	for _, c := range a.calls {
		if c.v == v && c.req.Op == engine.OpRead {
			oldest = min(oldest, c.begun)
		}
	}
	return oldest
}

// failed looks whether an error was due: not while the own disk was good all the time, nor while the peer's was.
func (a *app) failed(c *call) {
	if c.req.Err != engine.EIO {
		a.s.fail("%s: request %d: errno %d", c.n.name, c.req.Handle, c.req.Err)
	}
	n, i := c.n.index, c.v.index
	switch st := c.n.state(i); {
	case a.s.admin.weak[n][i]+1 < c.begun && st.Disk == sm.UpToDate:
		a.s.fail("%s: request %d fails, and the own disk was UpToDate all the time", c.n.name, c.req.Handle)
	case a.s.admin.lone[n][i]+1 < c.begun && replicates(st):
		a.s.fail("%s: request %d fails, and the peer's disk was UpToDate all the time", c.n.name, c.req.Handle)
	}
	a.s.counts[RequestFailed]++
	if c.w != nil {
		c.v.modelOf(c.n).unsee(c.w, c.req.Off, c.req.Len)
	}
}

// checkRead compares what was read with what may be there.
func (a *app) checkRead(c *call, m *model) {
	r := c.req
	for at := int64(0); at < r.Len; at += sectorSize {
		sector := (r.Off + at) / sectorSize
		id := contentID(r.Data[at:], sector)
		ok, by := m.allows(sector, id, c.begun)
		if !ok {
			a.s.fail("%s: volume %d: request %d, begun in turn %d, reads content %d in sector %d, allowed are %s",
				c.n.name, c.v.number, r.Handle, c.begun, int64(id), sector, m.describe(sector))
		}
		c.v.pardoned(by)
		a.s.counts[ReadChecked]++
	}
	for at := int64(0); at < r.Len; at += sectorSize {
		sector := (r.Off + at) / sectorSize
		m.saw(sector, contentID(r.Data[at:], sector), a.s.turn)
	}
	if !c.n.state(c.v.index).ReadsLocally() {
		a.s.counts[ReadRemote]++
	}
}

// died loses what was under way on a node, unless those who have asked outlive the daemon.
func (a *app) died(n *node) {
	a.quiet[n.index] = nil
	if n.users.wait {
		a.on[n.index] = false
		return
	}
	for _, c := range a.callsOf(n) {
		a.s.counts[RequestLost]++
		a.drop(c, "lost")
	}
	a.on[n.index] = false
}

// callsOf are those of a node, in their order.
func (a *app) callsOf(n *node) (all []*call) {
	for _, h := range sortedKeys(a.calls) {
		if c := a.calls[h]; c.n == n {
			all = append(all, c)
		}
	}
	return all
}

// drop ends a call that nobody will answer.
func (a *app) drop(c *call, how string) {
	delete(a.calls, c.req.Handle)
	c.n.tell("request %d is %s", c.req.Handle, how)
	a.over(c, c.v.modelOf(c.n))
}

func (a *app) checkPatience() {
	for _, c := range a.calls {
		if a.s.now-c.at > patience && c.n.eng != nil && !c.n.users.wait {
			a.s.fail("%s: request %d (%v of volume %d at %d) of %v is not answered", c.n.name, c.req.Handle, c.req.Op, c.v.number, c.req.Off, c.at)
		}
	}
}
