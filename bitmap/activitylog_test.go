package bitmap

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// logModel is an activity log in maps. The slots that the real one chose are
// taken from its transactions and checked for being allowed.
type logModel struct {
	a       *ActivityLog
	table   map[uint16]uint32 // what a reader of the committed transactions knows
	hot     map[uint32]int    // extent -> references
	staged  map[uint32]int
	idle    []uint32 // hot without reference, least recent first
	tx      *Transaction
	start   int
	updates []Update          // of tx, copied
	puts    uint64            // so far: what Put is told was written
	wrote   map[uint32]uint64 // extent -> what its last Put was told
	written uint64            // the latest of those that the next transaction evicts
}

func (m *logModel) span(t *rapid.T) (first, last uint32) {
	first = rapid.Uint32Range(0, 40).Draw(t, "first")
	n := rapid.OneOf(rapid.Uint32Range(0, 3), rapid.Uint32Range(0, MaxUpdates-1)).Draw(t, "more")
	return first, first + n
}

func (m *logModel) take(first, last uint32) {
	for e := first; e <= last; e++ {
		if n, ok := m.hot[e]; ok {
			if n == 0 {
				m.idle = slices.DeleteFunc(m.idle, func(x uint32) bool { return x == e })
			}
			m.hot[e]++
		} else if _, ok := m.staged[e]; ok {
			m.staged[e]++
		}
	}
}

func (m *logModel) allHot(first, last uint32) bool {
	for e := first; e <= last; e++ {
		if _, ok := m.hot[e]; !ok {
			return false
		}
	}
	return true
}

func (m *logModel) TryGet(t *rapid.T) {
	first, last := m.span(t)
	want := m.allHot(first, last)
	if got := m.a.TryGet(first, last); got != want {
		t.Fatalf("TryGet(%d, %d) = %v", first, last, got)
	}
	if want {
		m.take(first, last)
	}
}

func (m *logModel) Stage(t *rapid.T) {
	first, last := m.span(t)
	missing, idle := []uint32{}, len(m.idle)
	for e := first; e <= last; e++ {
		n, hot := m.hot[e]
		if _, staged := m.staged[e]; !hot && !staged {
			missing = append(missing, e)
		}
		if hot && n == 0 {
			idle--
		}
	}
	free := m.a.Slots() - len(m.hot) - len(m.staged)
	want := Staged
	switch {
	case m.allHot(first, last):
		want = AlreadyHot
	case m.tx != nil || len(m.staged)+len(missing) > MaxUpdates:
		want = Full
	case len(missing) > free+idle:
		want = Starved
	}
	if got := m.a.Stage(first, last); got != want {
		t.Fatalf("Stage(%d, %d) = %v, want %v", first, last, got, want)
	}
	if want == Full || want == Starved {
		return
	}
	m.take(first, last)
	for _, e := range missing {
		if free > 0 {
			free--
		} else {
			m.written = max(m.written, m.wrote[m.idle[0]])
			delete(m.wrote, m.idle[0])
			delete(m.hot, m.idle[0])
			m.idle = m.idle[1:]
		}
		m.staged[e] = 1
	}
}

func (m *logModel) Put(t *rapid.T) {
	var held []uint32
	for _, set := range []map[uint32]int{m.hot, m.staged} {
		for e, n := range set {
			if n > 0 {
				held = append(held, e)
			}
		}
	}
	if len(held) == 0 {
		return
	}
	slices.Sort(held)
	e := rapid.SampledFrom(held).Draw(t, "extent")
	m.puts++
	m.wrote[e] = m.puts
	m.a.Put(e, e, m.puts)
	if _, staged := m.staged[e]; staged {
		m.staged[e]--
		return
	}
	if m.hot[e]--; m.hot[e] == 0 {
		m.idle = append(m.idle, e)
	}
}

func (m *logModel) Begin(t *rapid.T) {
	want := m.tx == nil && len(m.staged) > 0
	tx, ok := m.a.Begin()
	if ok != want {
		t.Fatalf("Begin() = %v with %d staged", ok, len(m.staged))
	}
	if ok {
		m.begun(t, tx)
	}
}

func (m *logModel) BeginContext(t *rapid.T) {
	if m.tx == nil {
		m.begun(t, m.a.BeginContext())
	}
}

// begun checks a transaction against what a reader knows so far.
func (m *logModel) begun(t *rapid.T, tx Transaction) {
	m.tx, m.updates = &tx, slices.Clone(tx.Updates)
	if tx.Written != m.written {
		t.Fatalf("evicts what was written up to %d, want %d", tx.Written, m.written)
	}
	if len(tx.Updates) != len(m.staged) || tx.Slots != m.a.Slots() || int(tx.ContextStart) != m.start {
		t.Fatalf("%d updates for %d staged, %d slots, context at %d, want %d", len(tx.Updates), len(m.staged), tx.Slots, tx.ContextStart, m.start)
	}
	if want := min(ContextSlots, tx.Slots-m.start); len(tx.Context) != want {
		t.Fatalf("context of %d slots, want %d", len(tx.Context), want)
	}
	old := func(slot uint16) uint32 {
		if e, ok := m.table[slot]; ok {
			return e
		}
		return NoExtent
	}
	for i, e := range tx.Context {
		if want := old(tx.ContextStart + uint16(i)); e != want {
			t.Fatalf("context of slot %d is %d, want the old %d", i, e, want)
		}
	}
	seen := map[uint16]bool{}
	for _, u := range tx.Updates {
		if _, ok := m.staged[u.Extent]; !ok || u.Evicted != old(u.Slot) || seen[u.Slot] {
			t.Fatalf("update %+v, slot held %d", u, old(u.Slot))
		}
		seen[u.Slot] = true
	}
}

func (m *logModel) Commit(*rapid.T) {
	if m.tx == nil {
		return
	}
	m.a.Commit()
	for _, u := range m.updates {
		m.table[u.Slot] = u.Extent
		m.hot[u.Extent] = m.staged[u.Extent]
		if m.hot[u.Extent] == 0 {
			m.idle = append(m.idle, u.Extent)
		}
		delete(m.staged, u.Extent)
	}
	if m.start += ContextSlots; m.start >= m.a.Slots() {
		m.start = 0
	}
	m.tx, m.written = nil, 0
}

func (m *logModel) check(t *rapid.T) {
	want := slices.Sorted(maps.Keys(m.hot))
	got := m.a.Hot()
	slices.Sort(got)
	if !slices.Equal(got, want) || m.a.Len() != len(want) {
		t.Fatalf("hot %v (Len %d), want %v", got, m.a.Len(), want)
	}
	if m.a.Pending() != (len(m.staged) > 0) || m.a.Writing() != (m.tx != nil) {
		t.Fatalf("Pending() = %v with %d staged, Writing() = %v", m.a.Pending(), len(m.staged), m.a.Writing())
	}
	for e := uint32(0); e < 50; e++ {
		if got := m.a.InUse(e, e); got != (m.hot[e] > 0 || m.staged[e] > 0) {
			t.Fatalf("InUse(%d) = %v", e, got)
		}
	}
	reader := slices.Sorted(maps.Values(m.table))
	for _, e := range want { // whatever may be written to stands in the log on disk
		if !slices.Contains(reader, e) {
			t.Fatalf("extent %d is hot and not in the log", e)
		}
	}
}

func TestActivityLogAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := rapid.SampledFrom([]int{1, 2, 7, 67, 100, 1237}).Draw(t, "slots")
		m := &logModel{a: NewActivityLog(slots), table: map[uint16]uint32{}, hot: map[uint32]int{}, staged: map[uint32]int{}, wrote: map[uint32]uint64{}}
		t.Repeat(map[string]func(*rapid.T){
			"get": m.TryGet, "stage": m.Stage, "put": m.Put, "begin": m.Begin, "context": m.BeginContext, "commit": m.Commit, "": m.check,
		})
	})
}

// An extent that two writes have used, and one still uses, is not evicted.
func TestActivityLogKeepsWhatIsInUse(t *testing.T) {
	a := NewActivityLog(1)
	if got := a.Stage(1, 1); got != Staged {
		t.Fatal(got)
	}
	a.Begin()
	a.Commit()
	if !a.TryGet(1, 1) {
		t.Fatal("not hot")
	}
	a.Put(1, 1, 1)
	if got := a.Stage(2, 2); got != Starved {
		t.Fatalf("another extent in the only slot: %v", got)
	}
	a.Put(1, 1, 2)
	if got := a.Stage(2, 2); got != Staged {
		t.Fatalf("the slot is unused: %v", got)
	}
}

func TestActivityLogFirstSlotIsHighest(t *testing.T) {
	a := NewActivityLog(1237)
	if got := a.Stage(0, 0); got != Staged {
		t.Fatal(got)
	}
	tx, ok := a.Begin()
	if want := (Update{Slot: 1236, Extent: 0, Evicted: NoExtent}); !ok || len(tx.Updates) != 1 || tx.Updates[0] != want {
		t.Fatalf("%v %+v, want %+v as the driver does", ok, tx.Updates, want)
	}
	if a.TryGet(0, 0) {
		t.Error("hot before the transaction is durable")
	}
	a.Commit()
	if !a.TryGet(0, 0) {
		t.Error("cold after commit")
	}
	a.Reset()
	if a.TryGet(0, 0) || a.Len() != 0 || a.Pending() {
		t.Error("something is left after Reset")
	}
}

func TestActivityLogBugsPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"put without reference": func() { NewActivityLog(67).Put(3, 3, 0) },
		"commit without begin":  func() { NewActivityLog(67).Commit() },
		"span too wide":         func() { NewActivityLog(67).Stage(0, MaxUpdates) },
		"span backwards":        func() { NewActivityLog(67).TryGet(1, 0) },
		"no slots":              func() { NewActivityLog(0) },
		"two at once":           func() { a := NewActivityLog(67); a.BeginContext(); a.BeginContext() },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

func BenchmarkActivityLog(b *testing.B) {
	a := NewActivityLog(1237)
	for e := uint32(0); e < 1237; e += MaxUpdates {
		last := min(e+MaxUpdates, 1237) - 1
		a.Stage(e, last)
		a.Begin()
		a.Commit()
		a.Put(e, last, 0)
	}
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint32(0); b.Loop(); i++ {
			if e := i * 7 % 1237; a.TryGet(e, e) {
				a.Put(e, e, 0)
			}
		}
	})
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint32(0); b.Loop(); i++ {
			e := i*7919%1000000 + 2000
			if r := a.Stage(e, e); r == Staged {
				a.Begin()
				a.Commit()
			} else if r != AlreadyHot {
				b.Fatal(fmt.Sprint(r))
			}
			a.Put(e, e, 0)
		}
	})
}

// A transaction takes as many changes as a block of the log holds, and not one more.
func TestTransactionIsFull(t *testing.T) {
	a := NewActivityLog(3 * MaxUpdates)
	for e := range uint32(MaxUpdates) {
		if r := a.Stage(2*e, 2*e); r != Staged {
			t.Fatalf("extent %d: %v", e, r)
		}
	}
	if r := a.Stage(1, 1); r != Full {
		t.Fatalf("one more than fits: %v", r)
	}
	tx, ok := a.Begin()
	if !ok || len(tx.Updates) != MaxUpdates {
		t.Fatalf("%d updates", len(tx.Updates))
	}
}
