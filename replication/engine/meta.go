package engine

import (
	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// metaChunk is how much of the bitmap one I/O carries, in pages.
const metaChunk = 16

// metaMemory is what a volume has for its metadata, in bytes: a record and a chunk.
const metaMemory = (1 + metaChunk) * PageSize

// metaKind says what a metaJob ends with, after its bitmap pages are durable.
type metaKind uint8

const (
	metaPages metaKind = iota // nothing: the pages are all
	metaLog                   // one block of the activity log
	metaSuper                 // the superblock
	metaRing                  // a whole ring of INIT blocks
	metaKept                  // the superblock as it was last: of a disk that is not in use any more
)

// metaJob is one durable step of a volume's metadata. Its stages follow each
// other strictly: bitmap pages, flush, record, done; and so do the jobs of a
// volume, so that what a record states is on the disk before the record.
//
// What metadata forgets, a cleared bit, an evicted extent, the role of Primary,
// it forgets because the data is on the disk: so the disk's cache is flushed
// before, if anything was written since.
//
// A job that fails gives the disk up, whoever waits for it: what is known of the
// disk cannot be remembered there any more.
type metaJob struct {
	kind    metaKind
	covered bool // the data was flushed for this step
	pages   pageChoice
	log     bitmap.Transaction
	evict   []int // pages of evicted extents
	ticket  uint64
	then    func(e *Engine, err Errno)
	more    []func(e *Engine, err Errno) // others who wait for the same record

	swept  bool   // the pages were written because the superblock drops PRIMARY_IND
	chunk  DiskIO // pages that are encoded, and wait for the data that they speak of
	cursor int
	runs   []pageRun // pages that were encoded: they count as written
	ring   uint32
	flags  metadata.Flags // of the superblock that is on the disk after it
	busy   int
	err    Errno
	stage  metaStage
}

// pageRun are the pages [first, end) of the bitmap.
type pageRun struct{ first, end int }

// pageChoice says which pages of the bitmap a job writes first.
type pageChoice uint8

const (
	noPages      pageChoice = iota
	changedPages            // those where bits were set
	lazyPages               // those that changed at all
)

type metaStage uint8

const (
	stagePages metaStage = iota
	stageFlush
	stageRecord
)

// metaWriter runs the jobs of a volume one after the other.
type metaWriter struct {
	queue   fifo[*metaJob] // nothing is taken of a peer beyond maxMetaJobs
	current *metaJob
	plain   bool           // pages were written since the last flush
	flush   bool           // the metadata device has a volatile cache
	next    uint32         // number of the next transaction
	record  []byte         // 4096 bytes for the superblock or a block of the log
	chunk   []byte         // metaChunk pages
	issued  uint64         // tickets of superblock writes
	durable uint64         // the last one that is done
	written metadata.Flags // of the superblock that is on the disk; while one is being written, or if that failed, of both that may be
}

func (e *Engine) queueMeta(v *volume, j *metaJob) {
	v.meta.queue.push(j)
	e.metaNext(v)
}

// writeSuper makes the volume's generation identifiers and flags durable, and
// with pages the bitmap before them. Writes that wait already are joined.
func (e *Engine) writeSuper(v *volume, pages pageChoice, then func(e *Engine, err Errno)) uint64 {
	m := &v.meta
	m.issued++
	if n := m.queue.len(); n > 0 {
		if j := *m.queue.at(n - 1); j.kind == metaSuper {
			j.pages, j.ticket = max(j.pages, pages), m.issued
			j.more = append(j.more, then)
			return m.issued
		}
	}
	e.queueMeta(v, &metaJob{kind: metaSuper, pages: pages, ticket: m.issued, then: then})
	return m.issued
}

// takesMeta reports whether there is a disk that metadata can be written to: one that is in use, is being attached,
// or was given up and has ended what was in flight.
func (v *volume) takesMeta() bool {
	return v.attached || v.attach != nil || v.leaving > leavingBusy && v.late == 0
}

// writePages writes pages of the bitmap; they are durable when then is called.
func (e *Engine) writePages(v *volume, pages pageChoice, then func(e *Engine, err Errno)) {
	e.queueMeta(v, &metaJob{kind: metaPages, pages: pages, then: then})
}

func (e *Engine) metaNext(v *volume) {
	m := &v.meta
	for m.current == nil && m.queue.len() > 0 {
		j := m.queue.pop()
		m.current, j.flags = j, m.written
		if j.kind == metaLog {
			j.evict = v.evictedPages(j.log)
		}
		e.metaStep(v, j)
	}
}

// evictedPages are the pages that must be on the disk before the extents that
// stood for them are forgotten (metadata 4.5).
func (v *volume) evictedPages(t bitmap.Transaction) []int {
	var pages []int
	for _, u := range t.Updates {
		if u.Evicted == bitmap.NoExtent {
			continue
		}
		p := v.bm.PageOf(int64(u.Evicted) * bitmap.ExtentSize)
		if v.bm.Unwritten(p, false) {
			pages = append(pages, p)
		}
	}
	return pages
}

// metaStep goes on with the job until it has to wait for the disk.
func (e *Engine) metaStep(v *volume, j *metaJob) {
	m := &v.meta
	for j.busy == 0 {
		switch {
		case j.err != OK || !v.takesMeta():
			e.metaEnd(v, j)
			return
		case v.volatile() && !j.covered && (j.chunk.Len > 0 || j.stage == stageFlush && v.forgets(j)):
			j.covered = true
			j.busy++
			d := &metaIODone{v: v, j: j}
			d.covers = e.flushDisk(v, d)
		case j.chunk.Len > 0:
			e.writeChunk(v, j)
		case j.stage == stagePages:
			if !e.nextPages(v, j) {
				j.stage = stageFlush
			}
		case j.stage == stageFlush:
			j.stage = stageRecord
			if m.plain && m.flush && !v.cfg.Disk.NoMetaFlush {
				e.metaIO(v, j, DiskIO{Op: DiskFlush})
			}
			m.plain = false
		case j.kind == metaSuper && !j.swept && v.leavesLog():
			j.swept, j.covered, j.pages, j.cursor, j.stage = true, false, max(j.pages, changedPages), 0, stagePages
		case !e.nextRecord(v, j):
			e.metaEnd(v, j)
			return
		}
	}
}

func (e *Engine) metaIO(v *volume, j *metaJob, io DiskIO) {
	j.busy++
	io.Meta = true
	e.startIO(v, io, &metaIODone{v: v, j: j})
}

// nextPages writes the next run of pages that the job wants, if there is one.
func (e *Engine) nextPages(v *volume, j *metaJob) bool {
	m := &v.meta
	first, ok := v.nextPage(j)
	if !ok {
		return false
	}
	j.covered = false
	n := 0
	for n < metaChunk && first+n < v.bm.Pages() && (n == 0 || j.evict == nil && v.bm.Unwritten(first+n, j.pages == lazyPages)) {
		v.bm.EncodePage(first+n, m.chunk[n*PageSize:])
		v.bm.MarkWritten(first + n)
		n++
	}
	j.cursor = first + n
	j.runs = append(j.runs, pageRun{first, first + n})
	size := (n-1)*PageSize + v.layout.BitmapPageLen(first+n-1)
	v.bmWrites += int64(n)
	j.chunk = DiskIO{Op: DiskWrite, Off: v.layout.BitmapPageOffset(first), Len: int64(size), Data: m.chunk[:size]}
	return true
}

func (e *Engine) writeChunk(v *volume, j *metaJob) {
	io := j.chunk
	j.chunk = DiskIO{}
	v.meta.plain = true
	e.metaIO(v, j, io)
}

// forgets reports whether the record of the job takes back what the activity log
// stands for, and a write that it stood for is not durable.
func (v *volume) forgets(j *metaJob) bool {
	return j.kind == metaSuper && j.swept || j.kind == metaLog && j.log.Written > v.cache.safe
}

func (v *volume) nextPage(j *metaJob) (int, bool) {
	if j.kind == metaLog {
		for len(j.evict) > 0 {
			p := j.evict[0]
			j.evict = j.evict[1:]
			if v.bm.Unwritten(p, false) {
				return p, true
			}
		}
		return 0, false
	}
	if j.pages == noPages || v.bm == nil {
		return 0, false
	}
	return v.bm.NextUnwritten(j.cursor, j.pages == lazyPages)
}

// nextRecord writes the record that the job ends with, once.
func (e *Engine) nextRecord(v *volume, j *metaJob) bool {
	m := &v.meta
	off := v.layout.Superblock
	switch j.kind {
	case metaPages:
		return false
	case metaLog:
		metadata.EncodeTransaction(m.record, m.next, j.log)
		off = v.layout.ALBlockOffset(m.next)
		m.next++
	case metaSuper:
		e.dataBegins(v)
		v.fillSuper()
		v.super.Encode(m.record)
		j.flags = v.super.Flags
	case metaKept:
		if v.lacksAnswered() {
			v.super.Flags = v.super.Flags.Inconsistent()
		}
		v.super.Encode(m.record)
		j.flags = v.super.Flags
	case metaRing:
		metadata.EncodeInit(m.record)
		off = v.layout.AL + int64(j.ring)*PageSize
		if j.ring++; j.ring < v.layout.ALBlocks() {
			e.metaIO(v, j, DiskIO{Op: DiskWrite, FUA: true, Off: off, Len: PageSize, Data: m.record})
			return true
		}
	}
	j.kind = metaPages   // the record is on its way: nothing is left to do after it
	m.written |= j.flags // one of the two is on the disk from now on
	e.metaIO(v, j, DiskIO{Op: DiskWrite, FUA: !v.cfg.Disk.NoMetaFlush, Off: off, Len: PageSize, Data: m.record})
	return true
}

// leavesLog reports whether the next superblock says that this node is no longer
// Primary. Whoever reads it will not look at the activity log, so the bits that it
// stood for must be on the disk before.
func (v *volume) leavesLog() bool {
	return v.attached && v.super.Flags.Has(metadata.PrimaryInd) && v.superWritten && !v.serves() && v.state.WritesLocally()
}

// fillSuper brings the superblock up to date. The flags of a disk that is not
// usable stay as they are (metadata 1.3).
func (v *volume) fillSuper() {
	s := &v.super
	s.Clean = false
	s.Flags &^= metadata.ALClean
	if v.attached && v.state.WritesLocally() {
		d := v.state.Durable()
		s.Flags = s.Flags.Recalculate(metadata.Situation{
			DiskAboveInconsistent: d.Consistent, DiskAboveOutdated: d.WasUpToDate, Primary: v.serves(),
			HandshakeDone: d.Connected, PeerOutdated: d.PeerOutdated, CrashedPrimary: v.crashed,
		})
		v.superWritten = true
	}
	s.Flags &^= metadata.FullSync
	if v.fullSync || v.bits == bitsVoid {
		s.Flags |= metadata.FullSync
	}
	if s.LastAgreedSize = v.size; v.attach != nil {
		s.LastAgreedSize = v.attach.size // not used yet
	}
	s.Current, s.Bitmap, s.History = v.uuids.Current, v.uuids.Bitmap, v.uuids.History
	s.ALExtents = uint32(v.al.Slots())
	if v.state.Conn.Established() {
		s.PeerMaxBIO = wire.MaxRequest
	}
	s.PeerMaxBIO = max(s.PeerMaxBIO, PageSize)
}

type metaIODone struct {
	v      *volume
	j      *metaJob
	covers uint64 // by a flush of the data
}

func (d *metaIODone) ioDone(e *Engine, err Errno) {
	d.j.busy--
	if err == OK {
		d.v.flushed(d.covers)
	} else {
		d.j.err = err
	}
	e.metaStep(d.v, d.j)
}

// unwritePages takes back that the pages of a job that failed are on the disk.
func (v *volume) unwritePages(j *metaJob) {
	for _, r := range j.runs {
		for p := r.first; p < min(r.end, v.bm.Pages()); p++ {
			v.bm.MarkUnwritten(p)
		}
	}
}

// metaEnd reports the job and starts the next one.
func (e *Engine) metaEnd(v *volume, j *metaJob) {
	m := &v.meta
	m.current = nil
	if j.err == OK && !v.takesMeta() {
		j.err = ENODEV
	}
	m.durable = max(m.durable, j.ticket)
	switch {
	case j.err != OK:
		v.unwritePages(j)
		e.forgetGeneration(v)
		e.metaFailed(v, j.err)
	case j.ticket > 0 && v.super.Current == v.begun.to.Current:
		v.begun = begunGeneration{}
	}
	if j.err == OK {
		m.written = j.flags
	}
	if j.then != nil {
		j.then(e, j.err)
	}
	for _, f := range j.more {
		if f != nil {
			f(e, j.err)
		}
	}
	e.runEffects(v) // the record may be what a change waits for, whoever ordered it
	e.commandsAdvance()
	e.metaNext(v)
}

// begunGeneration is a data generation that began while no other disk was good, until it is on the own disk.
type begunGeneration struct {
	from, to sm.UUIDs
	stays    bool // also if it cannot be written: without this disk something would be missing, although another one may be called from
}

func (e *Engine) beganGeneration(v *volume, before sm.UUIDs) {
	stays := v.answeredAlone || v.crashed || e.answeredUnconfirmed(v)
	switch b := &v.begun; {
	case !v.attached || v.state.Conn.Established() && v.state.PeerDisk == sm.UpToDate:
		*b = begunGeneration{}
	case b.to == before: // it is not on the disk either
		b.to, b.stays = v.uuids, b.stays || stays
	default:
		*b = begunGeneration{before, v.uuids, stays}
	}
}

// workedOn reports whether the applications of a Primary that has lost its disk worked on what a disk that is attached here has: it is called as
// they know it, or as it was before the generation that could not be written on it, or as the one that was taken back for that, and is on it all the same.
func (v *volume) workedOn(current uint64) bool {
	same := func(a, b uint64) bool { return (a^b)&^sm.RoleBit == 0 }
	called := func(b begunGeneration, here, there sm.UUIDs) bool {
		return b.to.Current != 0 && same(here.Current, v.exposed) && same(there.Current, current)
	}
	b, back := v.begun, v.takenBack
	return same(v.exposed, current) || b.stays && called(b, b.to, b.from) || called(back, back.from, back.to)
}

// answeredUnconfirmed reports whether something was answered that the peer perhaps lacks: with protocols A and B because it
// was on the own disk, too.
func (e *Engine) answeredUnconfirmed(v *volume) bool {
	for w := range e.unconfirmed(v) {
		if w.req == nil && !w.peerOK {
			return true
		}
	}
	return false
}

// forgetGeneration takes back a generation that cannot be written: no answer that depends on it was given. A Primary
// that goes on without a disk would otherwise work on data that nobody can ever show. What failed may be on the
// disk all the same, so the old one is written over it, if that is possible.
func (e *Engine) forgetGeneration(v *volume) {
	b := v.begun
	if b.stays {
		return
	}
	v.begun = begunGeneration{}
	if b.to != (sm.UUIDs{}) && v.uuids == b.to {
		v.uuids, v.takenBack = b.from, b
		if v.exposed == b.to.Current {
			v.exposed = b.from.Current
		}
		v.super.Current, v.super.Bitmap, v.super.History = b.from.Current, b.from.Bitmap, b.from.History
		e.notice(v, Warn, "the new data generation could not be written, it is "+v.uuids.String()+" as before")
		e.writeSuper(v, noPages, nil)
	}
}
