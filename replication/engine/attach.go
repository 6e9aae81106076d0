package engine

import (
	"cmp"
	"fmt"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
)

// maxRing bounds the activity log that an attach reads, in bytes.
const maxRing = 32 << 20

// attaching is a backing store on its way into use. Stages, each after the I/O
// of the one before: superblock, ring of the activity log, bitmap, what a crash
// left to do.
type attaching struct {
	v     *volume
	id    uint64 // of the command
	cmd   Attach
	ring  []byte
	at    int64 // bytes of the ring, or page of the bitmap, that were read
	size  int64 // bytes, of the device that the metadata tells of
	next  func(e *Engine)
	ready bool // everything is read and written; waits until it may be used
	got   metadata.Attached
}

func (cmd *Attach) block() int64 { return max(cmd.BlockSize, smallestBlock) }

// startAttach reads the metadata of the opened backing store.
func (e *Engine) startAttach(id uint64, cmd Attach) {
	v := e.volume(cmd.Vol)
	if v == nil {
		e.reply_(id, fmt.Errorf("there is no volume %d", cmd.Vol))
		return
	}
	if e.goesDown() {
		e.reply_(id, statemachine.InTransientState)
		return
	}
	if err := e.step(v, statemachine.Attach{}, "attach"); err != nil {
		e.reply_(id, err)
		return
	}
	a := &attaching{v: v, id: id, cmd: cmd}
	v.attach, v.flush = a, cmd.Flush
	v.meta.flush = cmd.MetaFlush
	v.resetDisk()
	kind := v.metaKind()
	off, err := metadata.Locate(kind, v.cfg.Meta.Index, cmd.BackingSize, cmd.MetaSize)
	if err != nil {
		a.fail(e, err)
		return
	}
	a.read(e, off, v.meta.record, (*attaching).superblock)
}

func (v *volume) metaKind() metadata.Kind {
	switch {
	case !v.cfg.Meta.External:
		return metadata.Internal
	case v.cfg.Meta.Index >= 0:
		return metadata.ExternalIndexed
	}
	return metadata.ExternalFlexible
}

// resetDisk forgets what belonged to an earlier backing store.
func (v *volume) resetDisk() {
	v.bm, v.bits, v.al, v.block = nil, bitsCount, nil, smallestBlock
	v.dataBlock = 0
	v.cache, v.wroteAt, v.missedEnd = cacheState{}, 0, 0
	v.wrote(false)                        // whoever had the disk before may have left something in its cache
	v.meta.plain, v.crashed = true, false // what is read may be in the cache of the metadata device only
}

func (a *attaching) read(e *Engine, off int64, into []byte, next func(*attaching, *Engine)) {
	a.next = func(e *Engine) { next(a, e) }
	e.startIO(a.v, DiskIO{Op: DiskRead, Meta: true, Off: off, Len: int64(len(into)), Data: into}, a)
}

func (a *attaching) ioDone(e *Engine, err Errno) {
	if a.v.attach != a {
		return
	}
	switch {
	case a.v.state.Disk != statemachine.Attaching:
		a.fail(e, a.givenUp())
	case err != OK:
		a.fail(e, &DiskError{Vol: a.v.number, What: "metadata cannot be read", Errno: err})
	default:
		a.next(e)
	}
}

// superblock checks the block and its place.
func (a *attaching) superblock(e *Engine) {
	v := a.v
	sb, err := metadata.DecodeSuperblock(v.meta.record)
	if err == nil {
		v.layout, err = metadata.Place(v.metaKind(), v.cfg.Meta.Index, a.cmd.BackingSize, a.cmd.MetaSize, sb.Stripes)
	}
	if err == nil {
		err = sb.Check(v.layout)
	}
	if err == nil && v.cfg.Disk.Size > v.layout.DataLimit {
		err = fmt.Errorf("size %d is configured, the disk has room for %d bytes", v.cfg.Disk.Size, v.layout.DataLimit)
	}
	size := int64(0)
	if err == nil {
		size = metadata.EffectiveSize(v.layout.DataLimit, 0, sb.LastAgreedSize, v.cfg.Disk.Size)
		if sb.Flags.Has(metadata.Consistent) && size < sb.LastAgreedSize && size != v.cfg.Disk.Size {
			err = fmt.Errorf("the disk has room for %d bytes, and %d are in use: it has shrunk; give it back its size", size, sb.LastAgreedSize)
		}
	}
	if err == nil {
		err = v.fitsInUse(sb, size, a.cmd.block())
	}
	remembered := a.rememberedBlock(sb.DeviceUUID, sb.Current)
	if err == nil {
		err = fitsData(a.cmd.block(), remembered)
	}
	if err != nil {
		a.fail(e, err)
		return
	}
	v.super, a.size, v.dataBlock = sb, size, remembered
	v.meta.written = sb.Flags
	if v.super.DeviceUUID == 0 {
		v.super.DeviceUUID = a.cmd.DeviceUUID
	}
	if v.lastUse == UseUnknown {
		v.lastUse = lastUse(sb.Flags)
	}
	v.uuids = statemachine.UUIDs{Current: sb.Current, Bitmap: sb.Bitmap, History: sb.History}
	e.usersMeet(v)
	v.bm = bitmap.New(size)
	v.al = bitmap.NewActivityLog(v.layout.Slots(v.cfg.Disk.ALExtents))
	n := int64(v.layout.ALBlocks()) * PageSize
	if n > maxRing {
		a.fail(e, fmt.Errorf("an activity log of %d bytes is larger than the %d that are supported", n, maxRing))
		return
	}
	a.ring = make([]byte, 0, n)
	a.readRing(e)
}

func (a *attaching) readRing(e *Engine) {
	v := a.v
	n := min(cap(a.ring)-len(a.ring), len(v.meta.chunk))
	a.read(e, v.layout.AL+int64(len(a.ring)), v.meta.chunk[:n], (*attaching).ringRead)
	a.at = int64(n)
}

func (a *attaching) ringRead(e *Engine) {
	v := a.v
	a.ring = append(a.ring, v.meta.chunk[:a.at]...)
	if len(a.ring) < cap(a.ring) {
		a.readRing(e)
		return
	}
	a.at = 0
	if v.super.LastAgreedSize == 0 {
		v.bm.SetAll() // nothing was ever agreed: the bitmap on the disk means nothing
		a.replay(e)
		return
	}
	a.readBitmap(e)
}

// readBitmap reads the next pages.
func (a *attaching) readBitmap(e *Engine) {
	v := a.v
	left := v.bm.Pages() - int(a.at)
	if left == 0 {
		a.replay(e)
		return
	}
	n := min(left, metaChunk)
	size := (n-1)*PageSize + v.layout.BitmapPageLen(int(a.at)+n-1)
	a.read(e, v.layout.BitmapPageOffset(int(a.at)), v.meta.chunk[:size], func(a *attaching, e *Engine) {
		clear(v.meta.chunk[size:])
		for i := range n {
			v.bm.LoadPage(int(a.at)+i, v.meta.chunk[i*PageSize:(i+1)*PageSize])
		}
		a.at += int64(n)
		a.readBitmap(e)
	})
}

// replay does what the last user of the disk left undone: extents that were hot
// in a crash may differ from the peer's.
func (a *attaching) replay(e *Engine) {
	v := a.v
	flags := v.super.Flags
	hot, _, verdict := metadata.Replay(a.ring, v.super.Stripes)
	a.got = flags.AtAttach(metadata.Attach{PrimaryNow: v.state.Role == statemachine.Primary})
	v.crashed = a.got.CrashedPrimary
	if v.fullSync = a.got.AllOutOfSync; v.fullSync {
		v.bits = bitsVoid
	}
	if flags.Has(metadata.PrimaryInd) && v.super.NeedsReplay() {
		if verdict.Trusted() {
			metadata.MarkHot(v.bm, hot)
		} else {
			e.notice(v, Error, fmt.Sprintf("the activity log is not readable (%v): every block will be resynced", verdict))
			v.fullSync = true
		}
		if len(hot) > 0 {
			e.notice(v, Info, fmt.Sprintf("activity log replayed: %d extents, %d KiB out of sync", len(hot), v.outOfSync()>>10))
		}
	}
	if v.fullSync {
		v.bm.SetAll()
	}
	v.meta.next = 0
	v.restored = statemachine.Disk(a.got.Disk)
	if !v.fullSync {
		a.writeBitmap(e, OK)
		return
	}
	e.writeSuper(v, noPages, a.writeBitmap) // says FULL_SYNC until the bitmap is there
}

// writeBitmap writes what the replay has marked, and only then forgets the log.
func (a *attaching) writeBitmap(e *Engine, err Errno) {
	a.then(e, err, func() {
		e.writePages(a.v, changedPages, func(e *Engine, err Errno) {
			a.then(e, err, func() { e.queueMeta(a.v, &metaJob{kind: metaRing, then: a.finish}) })
		})
	})
}

func (a *attaching) then(e *Engine, err Errno, next func()) {
	switch {
	case a.v.attach != a:
	case a.v.state.Disk != statemachine.Attaching:
		a.fail(e, a.givenUp())
	case err != OK:
		a.fail(e, &DiskError{Vol: a.v.number, What: "metadata cannot be written", Errno: err})
	default:
		next()
	}
}

// finish puts the disk into use.
func (a *attaching) finish(e *Engine, err Errno) {
	a.then(e, err, func() { a.use(e) })
}

// use takes the disk into use when no handshake is under way, and every write
// that began without it is answered: one that comes to the peer after it has decided on this disk would be
// missing here, and only in memory would that be known.
func (a *attaching) use(e *Engine) {
	v := a.v
	a.ready = v.state.Conn == statemachine.WFReportParams || v.activeWrites > 0 && !v.state.Suspended() || v.owed.len() > 0
	if a.ready {
		return
	}
	if v.staleForPrimary() && !v.state.Conn.Established() {
		a.fail(e, v.staleError())
		return
	}
	if err := cmp.Or(v.fitsInUse(v.super, a.size, a.cmd.block()), v.fitsPeer(a.cmd.block())); err != nil {
		a.fail(e, err)
		return
	}
	v.restore()
	e.warnUnheard(v)
	v.attach, v.attached, v.block = nil, true, a.cmd.block()
	a.takeSize(e)
	v.peerKnown = false // the peer answers with what it has now; a state that it sent before is no answer
	if !v.fullSyncing {
		v.fullSync = false
	}
	err := e.step(v, statemachine.Attached{Disk: v.restored, PeerDisk: statemachine.Disk(a.got.Peer)}, "attached")
	if err != nil {
		a.fail(e, err)
		return
	}
	if v.peer.known {
		if err := e.agreeSize(v); err != nil {
			e.refuse(err)
		}
	}
	e.writeSuper(v, changedPages, func(e *Engine, err Errno) {
		if err != OK {
			e.reply_(a.id, &DiskError{Vol: v.number, What: "metadata cannot be written", Errno: err})
			return
		}
		e.reply_(a.id, nil)
	})
	e.commandsAdvance()
}

// staleError says why a disk is not taken into use below the applications of a Primary.
func (v *volume) staleError() error {
	if v.elsewhere >= goneOn {
		return fmt.Errorf("this node is Primary on data that the peer alone may have, this disk has %016X: connect first", v.uuids.Current)
	}
	return fmt.Errorf("this node is Primary on data %016X, the disk has %016X: connect first, the peer has the data", v.exposed, v.uuids.Current)
}

// takeSize gives the device the size that the metadata tells of, unless it has one that is in use: then the disk is
// taken for that, and what it has not heard of is out of sync.
func (a *attaching) takeSize(e *Engine) {
	v := a.v
	if !v.sizeInUse() {
		e.resizeVolume(v, a.size)
		return
	}
	v.super.LastAgreedSize = v.size // without this disk
	if v.bm.Size() != v.size {
		v.bm.Resize(v.size, true)
	}
}

// fail leaves the volume without a disk, as it was.
func (a *attaching) fail(e *Engine, err error) {
	v := a.v
	v.attach, v.attached = nil, false
	v.resetDisk()
	v.cache = cacheState{} // nothing was written
	e.step(v, statemachine.AttachFailed{}, "attach")
	v.leaving = leavingWritten
	e.diskIdle(v)
	e.reply_(a.id, err)
	if v.peer.known && e.conn.up() {
		e.check(DataSock, e.disklessSize(v))
	}
	e.commandsAdvance()
}

// givenUp is the answer to an attach whose disk has been given up, by an order or because it does not answer.
func (a *attaching) givenUp() error { return &GivenUpError{a.v.number} }
