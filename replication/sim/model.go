package sim

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/urbd/urbd/replication/disktest"
)

const sectorSize = disktest.SectorSize

// write is one request of the application that changes content, for as long as
// a read may return what it wrote.
type write struct {
	id      uint64 // content of its sectors; 0: zeroes
	begun   uint64 // turn
	over    uint64 // turn when it was answered or lost, 0: it is under way
	acked   uint64 // turn of a successful answer, 0: none, or void because of a loss that is allowed
	durable bool   // a flush or FUA promised that it stays
	was     uint64 // acked, before that was void
	by      Fault  // why it is
}

// entry is a write in the history of one sector.
type entry struct {
	w    *write
	seen uint64 // turn when a read returned it
}

// register is the history of one sector: every version that a read may return
// now, and older ones that a loss may bring back.
type register []entry

// certain is when the version became the one to read, 0: it is not.
func (en entry) certain() uint64 {
	if en.w.acked != 0 && (en.seen == 0 || en.w.acked < en.seen) {
		return en.w.acked
	}
	return en.seen
}

// model is what the application may see of a volume: one register for each sector of 512 bytes.
type model struct {
	base    func(sector int64) uint64 // content before the first write
	sectors map[int64]register
	first   *write // stands for base
	writes  []*write
	nextID  uint64
	void    Fault // why it is not promised which version is there, until both disks are the same again; unpardoned: it is
}

// firstID is below the content that the application writes. What the disks had before is below it.
const firstID = 100

func newModel(base func(int64) uint64) *model {
	return &model{base: base, sectors: map[int64]register{}, first: &write{over: 1, acked: 1, durable: true}, nextID: firstID}
}

// add begins a write of a range.
func (m *model) add(w *write, off, n int64) {
	m.writes = append(m.writes, w)
	for s := off / sectorSize; s < (off+n)/sectorSize; s++ {
		r := m.sectors[s]
		if r == nil {
			r = register{{w: m.first}}
		}
		m.sectors[s] = append(r, entry{w: w})
	}
}

// again begins once more what was given up. What came of it the first time stays one of the versions.
func (m *model) again(w *write, off, n int64, turn uint64) *write {
	next := &write{id: w.id, begun: turn}
	m.add(next, off, n)
	return next
}

// prune forgets the versions of a range that nothing can bring back: a durable
// write came after them, and no read that began before is under way.
func (m *model) prune(off, n int64, oldestRead uint64) {
	for s := off / sectorSize; s < (off+n)/sectorSize; s++ {
		r := m.sectors[s]
		keep, last := r[:0], uint64(0) // when the last write of that kind was begun: there may be thousands that have failed since
		for _, by := range r {
			if by.w.durable && by.w.acked != 0 && by.w.acked < oldestRead {
				last = max(last, by.w.begun)
			}
		}
		for _, en := range r {
			if en.w.over == 0 || en.w.over >= last {
				keep = append(keep, en)
			}
		}
		clear(r[len(keep):])
		m.sectors[s] = keep
	}
}

// allows reports whether a read that began at a turn may return content id of a sector, and which pardon that needs.
func (m *model) allows(sector int64, id, begun uint64) (ok bool, by Fault) {
	r := m.sectors[sector]
	if r == nil {
		return id == m.base(sector), unpardoned
	}
	for i := range r {
		if m.id(sector, r[i].w) != id || r.outdated(i, begun) {
			continue
		}
		if by = r.pardon(i, begun); by == unpardoned {
			return true, unpardoned
		}
		ok = true
	}
	if !ok && m.void != unpardoned { // any version that there ever was; neither garbage nor what no application wrote
		return id == 0 || id == m.base(sector) || firstID < id && id <= m.nextID, m.void
	}
	return ok, by
}

func (m *model) id(sector int64, w *write) uint64 {
	if w == m.first {
		return m.base(sector)
	}
	return w.id
}

// outdated reports whether version i was replaced for certain before a turn.
func (r register) outdated(i int, turn uint64) bool {
	v := r[i].w
	for j := range r {
		if at := r[j].certain(); j != i && at != 0 && at < turn && v.over != 0 && v.over < r[j].w.begun {
			return true
		}
	}
	return false
}

// pardon is why version i may be there although it was replaced before a turn.
func (r register) pardon(i int, turn uint64) Fault {
	v := r[i].w
	for j := range r {
		if by := r[j].w; j != i && by.acked == 0 && by.was != 0 && by.was < turn && v.over != 0 && v.over < by.begun {
			return by.by
		}
	}
	return unpardoned
}

// saw notes that a read returned id: older versions may not come back.
func (m *model) saw(sector int64, id, turn uint64) {
	r := m.sectors[sector]
	hit := -1
	for i := range r {
		if m.id(sector, r[i].w) == id {
			if hit >= 0 {
				return // zeroes of two writes: either
			}
			hit = i
		}
	}
	if hit >= 0 && r[hit].seen == 0 {
		r[hit].seen = turn
	}
}

// lose says that what was not promised to be durable may be gone.
func (m *model) lose(by Fault) {
	for _, w := range m.writes {
		if !w.durable && w.acked != 0 {
			w.was, w.by, w.acked = w.acked, by, 0
		}
	}
	m.forgetSeen()
}

// forgetSeen says that what reads returned before counts no longer: what they
// saw of unanswered writes died with the node that they read from.
func (m *model) forgetSeen() {
	for _, r := range m.sectors {
		for i := range r {
			r[i].seen = 0
		}
	}
}

// unsee says that a write has failed: what reads saw of it may go again.
func (m *model) unsee(w *write, off, n int64) {
	for s := off / sectorSize; s < (off+n)/sectorSize; s++ {
		r := m.sectors[s]
		for i := range r {
			if r[i].w == w {
				r[i].seen = 0
			}
		}
	}
}

// flushed says that everything answered before a turn is durable.
func (m *model) flushed(turn uint64) {
	keep := m.writes[:0]
	for _, w := range m.writes {
		if w.acked != 0 && w.acked < turn {
			w.durable = true
		}
		if !w.durable {
			keep = append(keep, w)
		}
	}
	clear(m.writes[len(keep):])
	m.writes = keep
}

// adopt takes a disk's content for the truth, as far as each sector has
// something that was written there at some time. Writes under way may still come, and
// older versions too: what the disk has may be in its cache only. used is called where that needs a pardon, with the one that was given before.
func (m *model) adopt(d *disktest.Disk, turn uint64, used func(has Fault)) (bad int64) {
	b := make([]byte, sectorSize)
	truth := map[uint64]*write{}
	m.writes = slices.DeleteFunc(m.writes, func(w *write) bool { return w.over != 0 })
	for s, r := range m.sectors {
		d.ReadAt(b, s*sectorSize)
		id := contentID(b, s)
		if ok, by := m.allows(s, id, turn); !ok || by != unpardoned {
			used(by)
		}
		older, known := m.older(s, r, id)
		if !known && id > m.nextID {
			return s
		}
		if truth[id] == nil {
			truth[id] = &write{id: id, begun: turn, over: turn, acked: turn}
			m.writes = append(m.writes, truth[id])
		}
		m.sectors[s] = append(older, entry{w: truth[id]})
	}
	m.void = unpardoned
	return -1
}

// older is a sector's history without anything that is promised, and without the
// versions that have content id; known reports whether there was one.
func (m *model) older(sector int64, r register, id uint64) (_ register, known bool) {
	seen := map[uint64]bool{id: true}
	known = id == m.base(sector)
	var older register
	for _, en := range r {
		was := m.id(sector, en.w)
		known = known || was == id
		switch {
		case en.w.over == 0:
			older = append(older, en)
		case !seen[was]:
			seen[was] = true
			older = append(older, entry{w: &write{id: was, begun: en.w.begun, over: en.w.over}})
		}
	}
	return older, known
}

// clone is a model of its own: the data parts.
func (m *model) clone() *model {
	c := *m
	own := map[*write]*write{m.first: m.first}
	take := func(w *write) *write {
		if own[w] == nil {
			copied := *w
			own[w] = &copied
		}
		return own[w]
	}
	c.sectors, c.writes = make(map[int64]register, len(m.sectors)), nil
	for _, w := range m.writes {
		c.writes = append(c.writes, take(w))
	}
	for s, r := range m.sectors {
		mine := make(register, len(r))
		for i, en := range r {
			mine[i] = entry{take(en.w), en.seen}
		}
		c.sectors[s] = mine
	}
	return &c
}

// stamp fills one sector with content that says whose and where it is.
func stamp(b []byte, id uint64, sector int64) {
	if id == 0 {
		clear(b[:sectorSize])
		return
	}
	le := binary.LittleEndian
	for i := 0; i < sectorSize; i += 8 {
		le.PutUint64(b[i:], id^uint64(i)<<32)
	}
	le.PutUint64(b[8:], uint64(sector))
}

const broken = ^uint64(0) // content that nobody wrote

// contentID is whose content a sector is.
func contentID(b []byte, sector int64) uint64 {
	le := binary.LittleEndian
	id := le.Uint64(b)
	want := [sectorSize]byte{}
	if stamp(want[:], id, sector); string(want[:]) != string(b[:sectorSize]) {
		return broken
	}
	return id
}

// describe lists the history of a sector, for a violation.
func (m *model) describe(sector int64) string {
	s := ""
	for _, en := range m.sectors[sector] {
		s += fmt.Sprintf("[%d begun %d over %d acked %d seen %d durable %v] ", m.id(sector, en.w), en.w.begun, en.w.over, en.w.acked, en.seen, en.w.durable)
	}
	return s
}
