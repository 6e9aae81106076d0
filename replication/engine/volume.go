package engine

import (
	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/statemachine"
)

// volume is one replicated device of the resource.
type volume struct {
	number int
	cfg    VolumeConfig
	state  statemachine.State
	rules  statemachine.Rules

	uuids     statemachine.UUIDs
	begun     begunGeneration // that is not on the own disk yet
	takenBack begunGeneration // the last one that could not be written there
	missedEnd uint64          // bitmap UUID of a resync that has ended, as the last handshake found: see statemachine.Decision
	peerUUIDs statemachine.PeerUUIDs
	peerKnown bool              // peerUUIDs were received in this connection, and since the disk was attached
	restored  statemachine.Disk // what the metadata made of the disk at attach
	lastUse   LastUse           // before this engine, as the first superblock that was read says
	users     Users             // of the device, and where the data is that they work on
	exposed   uint64            // generation that a Primary without a good disk works on
	elsewhere elsewhere         // whether that goes on without the own disk
	syncUUID  uint64            // of the resync under way
	earlyUUID uint64            // P_SYNC_UUID that came before its time
	peerConn  statemachine.Conn // as the peer said last
	peerGone  bool              // its disk is gone, as the peer says itself; state.PeerDisk runs ahead by what was granted
	since     Instant           // when the connection state changed last
	turned    Instant           // when that or the disk state did
	crashed   bool              // this node was a Primary that crashed
	peer      peerSizes

	size      int64 // bytes exported, 0: not decided yet
	block     int64 // logical block size of the disk in use, bytes; 512 without one
	dataBlock int64 // logical block size that its data is written in, bytes; 0: there is none, or it is not known
	exported  int64 // logical block size that the users of the device know, bytes; set by a promotion
	bm        *bitmap.Bitmap
	bits      bitsWorth // what is set there
	al        *bitmap.ActivityLog
	layout    metadata.Layout
	super     metadata.Superblock
	attach    *attaching
	leaving   leaving // how far the disk is on its way out of use
	ios       ioList  // I/Os in flight that somebody waits for
	late      int     // I/Os in flight of a disk that was given up: see abandon
	lateSince Instant // when the oldest of them was started
	meta      metaWriter
	proof     proof   // that the disk answers
	reserve   reserve // buffers that no other volume can use up
	flush     bool    // the backing store has a volatile cache
	cache     cacheState
	wroteAt   int64 // offset of what was written last, bytes
	attached  bool  // backing store and metadata are in use

	effects            fifo[queuedEffect] // at most maxEffects, and those of one more event
	running            bool               // runEffects is at work
	aloneWrites        int                // of a peer without a disk, under way
	lazyGeneration     bool               // one for a Primary without a disk may wait for its first write
	startingGeneration bool               // for a Primary without a disk; its writes wait
	parked             fifo[*peerReq]     // they, and those that wait for a superblock of another cause
	tidy               bool               // bits were cleared for good: generations that say so are written after them
	committing         int                // superblock writes that a change waits for
	superWritten       bool               // the superblock on disk is of this attach
	fullSync           bool               // every block is marked, and the bitmap on disk does not say so yet
	fullSyncing        bool
	promotedBy         uint64       // command
	unheard            uint64       // consent to be the source of a resync that the peer may not have heard, 0: none
	request            *request     // of this node to the peer, answer outstanding
	replies            due          // answers to requests for a change of this volume
	asked              peerAsk      // the request of the peer that is open
	grant              grant        // of the peer, to be Primary
	waiting            fifo[*write] // until a change of the volume is known to the peer, or is made

	ranges       rangeSet
	activeWrites int // own writes that are not answered
	activeReads  int
	diskPending  int // disk I/Os in flight
	upper        int // requests of the application not answered

	heldWrites, heldReads fifo[*Request] // by the gate
	gated                 fifo[*Request] // answered once a new generation is durable
	ackGate               int            // superblock writes that answers wait for
	owed                  fifo[*Request] // answered once it is sure that the own disk, which lacks them, is not copied from
	owedSince             Instant        // the first of them
	refusedAt             Instant        // the first write that the peer's disk has refused, which is good still as far as it has said; 0: none
	answeredAlone         bool           // since both disks were good, something was answered that the peer's lacks

	staged     fifo[logUser] // in the transaction that is being collected or written
	logQueue   fifo[logUser] // wait for room in the activity log
	logStarved Instant       // since when every slot of the log has been in use against the first of them, 0: not

	seq      uint32 // of this node's packets (wire 11.3)
	exchange exchange
	resync   resync
	pace     pace

	read, written, sent, received int64
	alWrites, bmWrites            int64
	unacked                       int
	peerDirty                     bool // writes of the peer that may be in the disk's volatile cache
}

// usable reports whether there is a disk that reads and writes go to.
func (v *volume) usable() bool { return v.attached && v.state.WritesLocally() }

// generations are the own identifiers, as the next resync or generation takes them: with the end of a resync made up for that was missed.
func (v *volume) generations() statemachine.UUIDs { return v.uuids.CatchUp(v.missedEnd) }

// setOutOfSync marks every block that the range touches.
func (v *volume) setOutOfSync(off, n int64) {
	if v.bm != nil && n > 0 {
		v.bm.SetRange(off, n)
	}
}

// clearOutOfSync marks every block that lies whole in the range as equal.
func (v *volume) clearOutOfSync(e *Engine, off, n int64) {
	if v.bm == nil || n == 0 {
		return
	}
	if v.bm.ClearRange(off, n) > 0 {
		e.resyncProgress(v)
	}
}

// volume returns the volume with a number, or nil.
func (e *Engine) volume(n int) *volume {
	for _, v := range e.vols {
		if v.number == n {
			return v
		}
	}
	return nil
}
