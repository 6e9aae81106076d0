package bitmap

import "fmt"

// ring is a list of slots through their prev and next, oldest first.
type ring struct {
	first, last int32
	len         int
}

// push adds slot i as the youngest.
func (r *ring) push(slots []slot, i int32) {
	slots[i].prev, slots[i].next = r.last, none
	if r.last == none {
		r.first = i
	} else {
		slots[r.last].next = i
	}
	r.last = i
	r.len++
}

// remove takes slot i out.
func (r *ring) remove(slots []slot, i int32) {
	s := &slots[i]
	if s.prev == none {
		r.first = s.next
	} else {
		slots[s.prev].next = s.next
	}
	if s.next == none {
		r.last = s.prev
	} else {
		slots[s.next].prev = s.prev
	}
	s.prev, s.next = none, none
	r.len--
}

func checkSpan(first, last uint32) {
	if last < first || last-first >= MaxUpdates || last == NoExtent {
		panic(fmt.Sprintf("bitmap: activity-log span %d..%d, at most %d extents", first, last, MaxUpdates))
	}
}

// bucket spreads neighbouring extents over the index.
func (a *ActivityLog) bucket(extent uint32) *int32 {
	return &a.index[extent*0x9e3779b1>>a.shift]
}

// find is the slot that holds extent, hot or staged, or none.
func (a *ActivityLog) find(extent uint32) int32 {
	i := *a.bucket(extent)
	for i != none && a.slots[i].extent != extent {
		i = a.slots[i].chain
	}
	return i
}

// reference takes a reference on those extents of [first, last] that are in the
// table.
func (a *ActivityLog) reference(first, last uint32) {
	for e := first; ; e++ {
		if i := a.find(e); i != none {
			s := &a.slots[i]
			if s.refs == 0 && !s.staged {
				a.idle.remove(a.slots, i)
			}
			s.refs++
		}
		if e == last {
			return
		}
	}
}

// plan gives extent a slot, with one reference, in the next transaction. The
// caller has checked that there is one.
func (a *ActivityLog) plan(extent uint32) {
	var i int32
	if n := len(a.free); n > 0 {
		i, a.free = a.free[n-1], a.free[:n-1]
	} else {
		i = a.idle.first
		a.idle.remove(a.slots, i)
		a.unhash(i)
		a.hot--
	}
	s := &a.slots[i]
	a.updates = append(a.updates, Update{Slot: uint16(i), Extent: extent, Evicted: s.extent})
	a.written = max(a.written, s.wrote)
	head := a.bucket(extent)
	s.extent, s.refs, s.wrote, s.staged, s.chain = extent, 1, 0, true, *head
	*head = i
}

// unhash removes slot i from the chain of its extent.
func (a *ActivityLog) unhash(i int32) {
	at := a.bucket(a.slots[i].extent)
	for *at != i {
		at = &a.slots[*at].chain
	}
	*at = a.slots[i].chain
}
