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
	owner ioOwner
	vol   *volume
	gen   uint32
}

func (t *ioTable) open(v *volume, owner ioOwner) Token {
	if len(t.free) == 0 {
		t.slots = append(t.slots, ioSlot{gen: 1})
		t.free = append(t.free, uint32(len(t.slots)-1))
	}
	i := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	s := &t.slots[i]
	s.owner, s.vol = owner, v
	t.busy++
	return Token(uint64(s.gen)<<32 | uint64(i))
}

func (t *ioTable) close(tok Token) (ioOwner, *volume) {
	i := uint32(tok)
	if int(i) >= len(t.slots) || t.slots[i].owner == nil || t.slots[i].gen != uint32(tok>>32) {
		panic("engine: completion of a disk I/O that is not in flight")
	}
	s := &t.slots[i]
	owner, v := s.owner, s.vol
	s.owner, s.vol = nil, nil
	s.gen++
	t.free = append(t.free, i)
	t.busy--
	return owner, v
}

// startIO issues io on a disk of v; owner.ioDone follows.
func (e *Engine) startIO(v *volume, io DiskIO, owner ioOwner) {
	io.Token, io.Vol = e.ios.open(v, owner), v.number
	v.diskPending++
	e.out.Disk = append(e.out.Disk, io)
}

// DiskDone reports that the I/O with token tok has ended. err is 0 or an errno.
func (e *Engine) DiskDone(now Instant, tok Token, err Errno) {
	e.at(now)
	owner, v := e.ios.close(tok)
	v.diskPending--
	owner.ioDone(e, err)
	if v.diskPending == 0 {
		e.diskIdle(v)
	}
}
