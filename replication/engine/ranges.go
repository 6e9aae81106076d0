package engine

// rangeKind says what a range is held for, and so what it must wait for.
type rangeKind uint8

const (
	ownWrite    rangeKind = iota // a write of this node's application
	peerWrite                    // a write of the peer, applied here
	resyncWrite                  // a resync block on its way to this disk
	resyncRead                   // a block read for the peer, until its reply is queued
	resyncAsk                    // a block asked of the peer, until it is written
	peerReading                  // a read of the peer's application, until it is answered
	kinds
)

// blocks[x][y] tells that a range of kind y waits for an earlier, overlapping
// range of kind x.
//
// Writes wait for writes, so that their order is the same on both disks. A
// resync read excludes writes until its reply is in the stream: the peer gets
// blocks in the order of their content (wire 12.7). What this node has asked for
// may overwrite its disk at any time, so its application waits; the peer's writes
// do not, they are ordered against the answer by the stream. The peer reads what it
// has written, also what it was told was received only.
var blocks = [kinds][kinds]bool{
	ownWrite:    {ownWrite: true, peerWrite: true, resyncRead: true, peerReading: true},
	peerWrite:   {ownWrite: true, peerWrite: true, resyncWrite: true, resyncRead: true, peerReading: true},
	resyncWrite: {peerWrite: true, resyncWrite: true, peerReading: true},
	resyncRead:  {ownWrite: true, peerWrite: true},
	resyncAsk:   {ownWrite: true},
}

// A held range is part of the request that it orders.
type heldRange struct {
	start, end int64 // bytes
	order      uint64
	kind       rangeKind
	waitsFor   int32 // earlier ranges that block this one
	at         int32 // index in rangeSet.list
	owner      rangeOwner
}

// rangeOwner is told when nothing blocks its range any more.
type rangeOwner interface{ rangeFree(e *Engine) }

// rangeSet orders what touches the same blocks of one volume. The list is
// short (requests in flight), so it is searched from end to end.
type rangeSet struct {
	list  []*heldRange
	order uint64
	freed []*heldRange // scratch of remove
}

// add enters r and reports whether nothing blocks it now; if something does,
// owner.rangeFree is called by the remove that frees it.
func (s *rangeSet) add(r *heldRange, kind rangeKind, start, end int64, owner rangeOwner) bool {
	s.order++
	*r = heldRange{start: start, end: end, kind: kind, order: s.order, at: int32(len(s.list)), owner: owner}
	for _, x := range s.list {
		if x.start < end && start < x.end && blocks[x.kind][kind] {
			r.waitsFor++
		}
	}
	s.list = append(s.list, r)
	return r.waitsFor == 0
}

// remove takes r out and tells those that waited for it alone.
func (s *rangeSet) remove(e *Engine, r *heldRange) {
	last := s.list[len(s.list)-1]
	s.list[r.at], last.at = last, r.at
	s.list = s.list[:len(s.list)-1]
	base := len(s.freed)
	for _, x := range s.list {
		if x.waitsFor > 0 && x.order > r.order && x.start < r.end && r.start < x.end && blocks[r.kind][x.kind] {
			if x.waitsFor--; x.waitsFor == 0 {
				s.freed = append(s.freed, x)
			}
		}
	}
	r.owner = nil
	sortByOrder(s.freed[base:])
	for i := base; i < len(s.freed); i++ {
		s.freed[i].owner.rangeFree(e)
	}
	s.freed = s.freed[:base]
}

// overlaps reports whether a range of kind k overlaps [start, end).
func (s *rangeSet) overlaps(k rangeKind, start, end int64) bool {
	for _, x := range s.list {
		if x.kind == k && x.start < end && start < x.end {
			return true
		}
	}
	return false
}

func sortByOrder(l []*heldRange) {
	for i := 1; i < len(l); i++ {
		for j := i; j > 0 && l[j].order < l[j-1].order; j-- {
			l[j], l[j-1] = l[j-1], l[j]
		}
	}
}
