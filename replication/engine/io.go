package engine

// ioOwner is told when a disk I/O that it started has ended.
type ioOwner interface{ ioDone(e *Engine, err Errno) }

// ioTable ties the tokens of the disk I/Os in flight to their owners. A token
// is index and generation, so that a completion is delivered at most once.
type ioTable struct {
	slots []ioSlot
	free  []uint32
	busy  int
}

type ioSlot struct {
	owner      ioOwner
	vol        *volume
	gen        uint32
	since      Instant
	prev, next uint32 // in the list of the volume: index + 1, 0 is none
}

// ioList are the disk I/Os of a volume that somebody waits for, the oldest first.
type ioList struct{ first, last uint32 } // index + 1, 0 is none

func (t *ioTable) open(v *volume, owner ioOwner, now Instant) Token {
	if len(t.free) == 0 {
		t.slots = append(t.slots, ioSlot{gen: 1})
		t.free = append(t.free, uint32(len(t.slots)-1))
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	s := &t.slots[i]
	s.owner, s.vol, s.since = owner, v, now
	t.link(&v.ios, i)
	t.busy++
	return t.token(i)
}

func (t *ioTable) token(i uint32) Token { return Token(uint64(t.slots[i].gen)<<32 | uint64(i)) }

func (t *ioTable) close(tok Token) (ioOwner, *volume) {
	i := uint32(tok)
	if int(i) >= len(t.slots) || t.slots[i].owner == nil || t.slots[i].gen != uint32(tok>>32) {
		panic("engine: completion of a disk I/O that is not in flight")
	}
	s := &t.slots[i]
	owner, v := s.owner, s.vol
	t.unlink(&v.ios, i)
	s.owner, s.vol = nil, nil
	s.gen++
	t.free = append(t.free, i)
	t.busy--
	return owner, v
}

func (t *ioTable) link(l *ioList, i uint32) {
	s := &t.slots[i]
	if s.prev, s.next = l.last, 0; l.last != 0 {
		t.slots[l.last-1].next = i + 1
	} else {
		l.first = i + 1
	}
	l.last = i + 1
}

// unlink takes an I/O out of its list. One that was given up is in none.
func (t *ioTable) unlink(l *ioList, i uint32) {
	s := &t.slots[i]
	if s.prev == 0 && l.first != i+1 {
		return
	}
	if s.prev != 0 {
		t.slots[s.prev-1].next = s.next
	} else {
		l.first = s.next
	}
	if s.next != 0 {
		t.slots[s.next-1].prev = s.prev
	} else {
		l.last = s.prev
	}
	s.prev, s.next = 0, 0
}

// oldest is since when the oldest I/O that somebody waits for has been in flight, Never if there is none.
func (t *ioTable) oldest(v *volume) Instant {
	if v.ios.first == 0 {
		return Never
	}
	return t.slots[v.ios.first-1].since
}

// startIO issues io on a disk of v; owner.ioDone follows.
func (e *Engine) startIO(v *volume, io DiskIO, owner ioOwner) {
	io.Token, io.Vol = e.ios.open(v, owner, e.now), v.number
	v.diskPending++
	e.out.Disk = append(e.out.Disk, io)
}

// DiskDone reports that the I/O with token tok has ended. err is 0 or an errno.
func (e *Engine) DiskDone(now Instant, tok Token, err Errno) {
	e.at(now)
	owner, v := e.ios.close(tok)
	v.diskPending--
	owner.ioDone(e, err)
	e.proofAdvances(v)
	if v.diskPending == 0 {
		e.diskIdle(v)
	}
}
