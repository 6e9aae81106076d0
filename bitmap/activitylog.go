package bitmap

import "fmt"

const (
	// ExtentSize is the number of device bytes of one activity-log extent.
	ExtentSize = 4 << 20

	// MaxUpdates is the number of changes that one transaction carries, and so
	// also the largest span of one request. Fixed by the disk.
	MaxUpdates = 64

	// ContextSlots is the number of slots whose old content one transaction
	// repeats. Fixed by the disk.
	ContextSlots = 919

	// NoExtent stands for a free slot.
	NoExtent = ^uint32(0)
)

// StageResult says what became of a request for extents.
type StageResult int

const (
	Full       StageResult = iota // no room in this transaction, or one is being written: again after Commit
	Starved                       // too few free or unreferenced slots: again after Put
	Staged                        // referenced; valid after Commit
	AlreadyHot                    // referenced; all were hot, as TryGet would have said
)

func (r StageResult) String() string {
	switch r {
	case Full:
		return "Full"
	case Starved:
		return "Starved"
	case Staged:
		return "Staged"
	case AlreadyHot:
		return "AlreadyHot"
	}
	return fmt.Sprintf("StageResult(%d)", int(r))
}

// An Update is one change of the slot table.
type Update struct {
	Slot    uint16
	Extent  uint32 // new content
	Evicted uint32 // old content, NoExtent if the slot was free
}

// A Transaction is one block of the on-disk log before it has a number. Its
// memory is the ActivityLog's and valid until Commit.
type Transaction struct {
	Updates      []Update // at most MaxUpdates
	ContextStart uint16   // first slot of Context
	Context      []uint32 // content before Updates, at most ContextSlots
	Slots        int      // size of the whole table
	Written      uint64   // the latest count that Put was given for an extent which Updates evict, 0 if none is
}

// An ActivityLog is the set of extents that a Primary may write to now: a
// table of slots, least recently used out first. An extent with a reference
// cannot leave it.
//
// An extent is cold, staged (in the next transaction) or hot (in the log on
// disk). One that a transaction evicts is cold from the moment it is staged
// out. One transaction is on its way at a time:
//
//	Stage, Stage, ... -> Begin -> changed bitmap pages of every Evicted extent,
//	then the block, durable -> Commit
//
// One goroutine owns it; after NewActivityLog nothing but Hot allocates.
// Source: docs/drbd-metadata.md 4.
type ActivityLog struct {
	slots []slot
	index []int32 // hash of an extent -> first slot of its chain, or none
	shift int     // bits that the hash drops
	free  []int32 // free slots, the next one last
	idle  ring    // slots without a reference, hot only; least recent first

	updates []Update
	context []uint32
	written uint64 // of the extents that updates evict
	start   int    // first slot of the next transaction's context
	writing bool
	hot     int
}

const none = int32(-1)

type slot struct {
	extent     uint32 // NoExtent if free
	refs       int32
	wrote      uint64 // as Put was told last
	staged     bool   // part of the transaction that is not committed yet
	chain      int32  // next slot with the same hash
	prev, next int32  // neighbours in idle, or none
}

// NewActivityLog makes an empty log of 1 to 65534 slots; DRBD's own bounds are
// tighter (docs/drbd-metadata.md 4.4). Another number is a bug of the caller.
func NewActivityLog(slots int) *ActivityLog {
	if slots < 1 || slots > 65534 {
		panic(fmt.Sprintf("bitmap: activity log of %d slots", slots))
	}
	a := &ActivityLog{
		slots:   make([]slot, slots),
		free:    make([]int32, 0, slots),
		updates: make([]Update, 0, MaxUpdates),
		context: make([]uint32, 0, ContextSlots),
		shift:   31,
	}
	for 1<<(32-a.shift) < slots {
		a.shift--
	}
	a.index = make([]int32, 1<<(32-a.shift))
	a.Reset()
	return a
}

// Reset empties the log: nothing is hot, staged or referenced. The context
// starts at slot 0 again.
func (a *ActivityLog) Reset() {
	for i := range a.index {
		a.index[i] = none
	}
	a.free = a.free[:0]
	for i := range a.slots {
		a.slots[i] = slot{extent: NoExtent, chain: none, prev: none, next: none}
		a.free = append(a.free, int32(i))
	}
	a.idle = ring{first: none, last: none}
	a.updates, a.context = a.updates[:0], a.context[:0]
	a.start, a.writing, a.hot, a.written = 0, false, 0, 0
}

// TryGet takes one reference on each extent of [first, last] if all of them are
// hot; otherwise it changes nothing.
func (a *ActivityLog) TryGet(first, last uint32) bool {
	checkSpan(first, last)
	for e := first; ; e++ {
		if i := a.find(e); i == none || a.slots[i].staged {
			return false
		}
		if e == last {
			break
		}
	}
	a.reference(first, last)
	return true
}

// Stage takes one reference on each extent of [first, last] and plans those
// that are cold into the next transaction. Unless it answers Staged or
// AlreadyHot nothing has changed. A span of more than MaxUpdates extents fits
// no transaction: to ask for one is a bug.
func (a *ActivityLog) Stage(first, last uint32) StageResult {
	checkSpan(first, last)
	missing, staged, idleHits := 0, 0, 0
	for e := first; ; e++ {
		switch i := a.find(e); {
		case i == none:
			missing++
		case a.slots[i].staged:
			staged++
		case a.slots[i].refs == 0:
			idleHits++
		}
		if e == last {
			break
		}
	}
	switch {
	case missing+staged == 0:
		a.reference(first, last)
		return AlreadyHot
	case a.writing || len(a.updates)+missing > MaxUpdates:
		return Full
	case missing > len(a.free)+a.idle.len-idleHits:
		return Starved
	}
	a.reference(first, last) // first those present, so that they are not evicted
	for e := first; missing > 0; e++ {
		if a.find(e) == none {
			a.plan(e)
			missing--
		}
	}
	return Staged
}

// Put drops one reference on each extent of [first, last]. The extents stay
// hot. written is the caller's count of the writes that have ended, which grows: a
// transaction tells up to where they have to be durable before the extents are
// forgotten. To drop a reference that was not taken is a bug.
func (a *ActivityLog) Put(first, last uint32, written uint64) {
	for e := first; ; e++ {
		i := a.find(e)
		if i == none || a.slots[i].refs == 0 {
			panic(fmt.Sprintf("bitmap: extent %d put without a reference", e))
		}
		s := &a.slots[i]
		s.wrote = written
		if s.refs--; s.refs == 0 && !s.staged {
			a.idle.push(a.slots, i)
		}
		if e == last {
			return
		}
	}
}

// Begin freezes what is staged as the transaction to write; false if nothing is
// staged or a transaction is already being written. Until Commit nothing more
// can be staged.
func (a *ActivityLog) Begin() (Transaction, bool) {
	if len(a.updates) == 0 || a.writing {
		return Transaction{}, false
	}
	return a.BeginContext(), true
}

// BeginContext is Begin also when nothing is staged: a transaction that only
// repeats a part of the table. Slots/ContextSlots of them, rounded up, write
// the whole table to a fresh ring.
func (a *ActivityLog) BeginContext() Transaction {
	if a.writing {
		panic("bitmap: two activity-log transactions at once")
	}
	a.writing = true
	end := min(a.start+ContextSlots, len(a.slots))
	a.context = a.context[:0]
	for i := a.start; i < end; i++ {
		a.context = append(a.context, a.slots[i].extent)
	}
	for _, u := range a.updates {
		if i := int(u.Slot) - a.start; i >= 0 && i < len(a.context) {
			a.context[i] = u.Evicted
		}
	}
	return Transaction{Updates: a.updates, ContextStart: uint16(a.start), Context: a.context, Slots: len(a.slots), Written: a.written}
}

// Commit notes that the transaction of Begin is durable: its extents are hot.
func (a *ActivityLog) Commit() {
	if !a.writing {
		panic("bitmap: activity-log commit without a transaction")
	}
	for _, u := range a.updates {
		i := int32(u.Slot)
		a.slots[i].staged = false
		a.hot++
		if a.slots[i].refs == 0 {
			a.idle.push(a.slots, i)
		}
	}
	a.updates, a.written = a.updates[:0], 0
	a.writing = false
	if a.start += ContextSlots; a.start >= len(a.slots) {
		a.start = 0
	}
}

// Hot lists the hot extents, by slot.
func (a *ActivityLog) Hot() []uint32 {
	hot := make([]uint32, 0, a.hot)
	for i := range a.slots {
		if s := &a.slots[i]; s.extent != NoExtent && !s.staged {
			hot = append(hot, s.extent)
		}
	}
	return hot
}

// Len is the number of hot extents.
func (a *ActivityLog) Len() int { return a.hot }

// Slots is the size of the table.
func (a *ActivityLog) Slots() int { return len(a.slots) }

// Pending reports whether something is staged and not committed.
func (a *ActivityLog) Pending() bool { return len(a.updates) > 0 }

// Writing reports whether a transaction has begun and is not committed.
func (a *ActivityLog) Writing() bool { return a.writing }

// InUse reports whether an extent of [first, last] has a reference.
func (a *ActivityLog) InUse(first, last uint32) bool {
	for e := first; ; e++ {
		if i := a.find(e); i != none && a.slots[i].refs > 0 {
			return true
		}
		if e == last {
			return false
		}
	}
}
