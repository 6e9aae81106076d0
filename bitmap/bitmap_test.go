package bitmap

import (
	"bytes"
	"math"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// pair drives a Bitmap and its model alike.
type pair struct {
	b *Bitmap
	m *model
}

func (s *pair) span(t *rapid.T) (off, n int64) {
	off = rapid.Int64Range(-2*BlockSize, s.m.size+2*BlockSize).Draw(t, "off")
	if rapid.Bool().Draw(t, "aligned") {
		off -= off % BlockSize
	}
	n = rapid.OneOf(
		rapid.Int64Range(0, 3*BlockSize),
		rapid.Int64Range(0, s.m.size+BlockSize),
		rapid.SampledFrom([]int64{-1, math.MinInt64, math.MaxInt64, PageBits * BlockSize}),
	).Draw(t, "n")
	return off, n
}

// reach is the part of the span that lies on the device.
func (s *pair) reach(off, n int64) (start, end int64) {
	if n <= 0 {
		return 0, 0
	}
	end = s.m.size
	if n < math.MaxInt64/2 {
		end = min(end, off+n)
	}
	return max(off, 0), max(end, 0)
}

func (s *pair) SetRange(t *rapid.T) {
	off, n := s.span(t)
	start, end := s.reach(off, n)
	var want int64
	if start < end {
		want = s.m.assign(start/BlockSize, (end+BlockSize-1)/BlockSize, true)
	}
	if got := s.b.SetRange(off, n); got != want {
		t.Fatalf("SetRange(%d, %d) = %d, want %d", off, n, got, want)
	}
}

func (s *pair) ClearRange(t *rapid.T) {
	off, n := s.span(t)
	start, end := s.reach(off, n)
	var want int64
	if start < end {
		last := end / BlockSize
		if end == s.m.size {
			last = int64(len(s.m.set))
		}
		want = s.m.assign((start+BlockSize-1)/BlockSize, last, false)
	}
	if got := s.b.ClearRange(off, n); got != want {
		t.Fatalf("ClearRange(%d, %d) = %d, want %d", off, n, got, want)
	}
}

func (s *pair) Everything(t *rapid.T) {
	v := rapid.Bool().Draw(t, "set")
	s.m.assign(0, int64(len(s.m.set)), v)
	if v {
		s.b.SetAll()
	} else {
		s.b.ClearAll()
	}
	for p := range s.b.Pages() {
		if !s.b.Unwritten(p, !v) {
			t.Fatalf("page %d counts as written after all bits were made %v", p, v)
		}
	}
}

func (s *pair) Count(t *rapid.T) {
	off, n := s.span(t)
	start, end := s.reach(off, n)
	var want int64
	if start < end {
		want = s.m.count(start/BlockSize, (end+BlockSize-1)/BlockSize)
	}
	if got := s.b.CountRange(off, n); got != want {
		t.Fatalf("CountRange(%d, %d) = %d, want %d", off, n, got, want)
	}
	if got := s.b.AnySet(off, n); got != (want > 0) {
		t.Fatalf("AnySet(%d, %d) = %v with %d set", off, n, got, want)
	}
}

func (s *pair) Scan(t *rapid.T) {
	from := rapid.Int64Range(-2, int64(len(s.m.set))+2).Draw(t, "from")
	set, ok := s.m.next(from, true)
	if got, gotOK := s.b.NextSet(from); got != set || gotOK != ok {
		t.Fatalf("NextSet(%d) = %d, %v, want %d, %v", from, got, gotOK, set, ok)
	}
	free, ok := s.m.next(from, false)
	if got, gotOK := s.b.NextClear(from); got != free || gotOK != ok {
		t.Fatalf("NextClear(%d) = %d, %v, want %d, %v", from, got, gotOK, free, ok)
	}
	limit := rapid.Int64Range(-1, 100000).Draw(t, "limit")
	var want int64
	for i := from; want < limit && i >= 0 && i < int64(len(s.m.set)) && s.m.set[i]; i++ {
		want++
	}
	if got := s.b.Run(from, limit); got != want {
		t.Fatalf("Run(%d, %d) = %d, want %d", from, limit, got, want)
	}
}

func (s *pair) Resize(t *rapid.T) {
	size := rapid.Int64Range(0, 3*PageBits*BlockSize).Draw(t, "size")
	set := rapid.Bool().Draw(t, "set")
	bits := blocks(size)
	grown := make([]bool, bits)
	for i := copy(grown, s.m.set); i < len(grown); i++ {
		grown[i] = set
	}
	if set && size > s.m.size && s.m.size%BlockSize != 0 {
		grown[s.m.size/BlockSize] = true
	}
	saved := newModel(size).saved
	for p := copy(saved, s.m.saved); p < len(saved); p++ {
		saved[p] = bytes.Repeat([]byte{0xa5}, PageSize) // a new place on disk holds anything
	}
	s.m.set, s.m.size, s.m.saved = grown, size, saved
	s.b.Resize(size, set)
}

// Write brings changed pages to the model's disk, like the owner does.
func (s *pair) Write(t *rapid.T) {
	lazy := rapid.Bool().Draw(t, "lazy")
	for p, ok := s.b.NextUnwritten(0, lazy); ok; p, ok = s.b.NextUnwritten(p+1, lazy) {
		if !s.b.Unwritten(p, lazy) {
			t.Fatalf("page %d is next unwritten and written", p)
		}
		s.b.EncodePage(p, s.m.saved[p])
		s.b.MarkWritten(p)
	}
	for p := range s.b.Pages() {
		want := s.m.page(p)
		for i, on := range s.m.saved[p] {
			if lazy && on != want[i] || want[i]&^on != 0 {
				t.Fatalf("page %d byte %d on disk %#x, in memory %#x, after a write with lazy=%v", p, i, on, want[i], lazy)
			}
		}
	}
}

// Load replaces a page by what is on the model's disk, plus noise in the tail.
func (s *pair) Load(t *rapid.T) {
	if s.b.Pages() == 0 {
		return
	}
	p := rapid.IntRange(0, s.b.Pages()-1).Draw(t, "page")
	s.b.LoadPage(p, s.m.saved[p])
	for i := range PageBits {
		if n := p*PageBits + i; n < len(s.m.set) {
			s.m.set[n] = s.m.saved[p][i/8]>>(i%8)&1 != 0
		}
	}
	s.m.saved[p] = s.m.page(p)
	if s.b.Unwritten(p, true) {
		t.Fatalf("page %d unwritten after it was loaded", p)
	}
}

func (s *pair) check(t *rapid.T) {
	if got, want := s.b.Count(), s.m.count(0, int64(len(s.m.set))); got != want {
		t.Fatalf("Count() = %d, want %d", got, want)
	}
	if s.b.Bits() != int64(len(s.m.set)) || s.b.Pages() != len(s.m.saved) || s.b.Size() != s.m.size {
		t.Fatalf("%d bytes, %d bits, %d pages; want %d, %d, %d",
			s.b.Size(), s.b.Bits(), s.b.Pages(), s.m.size, len(s.m.set), len(s.m.saved))
	}
	var buf [PageSize]byte
	for p := range s.b.Pages() {
		s.b.EncodePage(p, buf[:])
		want := s.m.page(p)
		if !bytes.Equal(buf[:], want) {
			t.Fatalf("page %d differs from the model", p)
		}
		if !bytes.Equal(want, s.m.saved[p]) && !s.b.Unwritten(p, true) {
			t.Fatalf("page %d differs from the disk and counts as written", p)
		}
		uniform := s.b.count[p] == 0 && s.b.pages[p] == nil || s.b.count[p] == PageBits && s.b.pages[p] == allSet
		if pg := s.b.pages[p]; (pg == nil || pg == allSet) != uniform {
			t.Fatalf("page %d with %d bits is held as %p", p, s.b.count[p], pg)
		}
	}
}

func TestBitmapAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(0, 3*PageBits*BlockSize).Draw(t, "size")
		s := &pair{New(size), newModel(size)}
		t.Repeat(map[string]func(*rapid.T){
			"set": s.SetRange, "clear": s.ClearRange, "all": s.Everything, "count": s.Count, "scan": s.Scan,
			"resize": s.Resize, "write": s.Write, "load": s.Load, "": s.check,
		})
	})
	if *allSet != func() (pg page) {
		for i := range pg {
			pg[i] = ^uint64(0)
		}
		return pg
	}() {
		t.Fatal("the shared page of set bits was written to")
	}
}

func TestPartialLastBlock(t *testing.T) {
	b := New(10*BlockSize + 512)
	b.SetAll()
	if b.Bits() != 11 || b.Count() != 11 {
		t.Fatalf("%d bits, %d set", b.Bits(), b.Count())
	}
	if n := b.ClearRange(10*BlockSize, 511); n != 0 {
		t.Errorf("a range short of the end cleared the last block")
	}
	if n := b.ClearRange(9*BlockSize+1, BlockSize+511); n != 1 {
		t.Errorf("a range to the end of the device cleared %d blocks, want the last one only", n)
	}
}

// heap is the live memory after f.
func heap(f func() *Bitmap) (b *Bitmap, bytes uint64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b = f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if after.HeapAlloc < before.HeapAlloc {
		return b, 0
	}
	return b, after.HeapAlloc - before.HeapAlloc
}

func TestSixteenTiBStaysSmall(t *testing.T) {
	const size, mib = 16 << 40, 1 << 20
	b, used := heap(func() *Bitmap { return New(size) })
	if used > 2*mib {
		t.Errorf("an empty bitmap of 16 TiB takes %d bytes", used)
	}
	b.SetAll()
	if b.Count() != size/BlockSize {
		t.Errorf("Count() = %d", b.Count())
	}
	b, used = heap(func() *Bitmap { b := New(size); b.SetAll(); return b })
	if used > 2*mib {
		t.Errorf("a full bitmap of 16 TiB takes %d bytes", used)
	}
	if b.ClearRange(0, size-BlockSize); b.Count() != 1 {
		t.Errorf("Count() = %d after all but one block were cleared", b.Count())
	}
	if bit, ok := b.NextSet(0); !ok || bit != size/BlockSize-1 {
		t.Errorf("NextSet(0) = %d, %v", bit, ok)
	}
	b, used = heap(func() *Bitmap {
		b := New(size)
		for off := int64(0); off < size; off += 1 << 30 { // 16384 pages of their own
			b.SetRange(off, 1)
		}
		return b
	})
	if used > (64+4)*mib {
		t.Errorf("16384 scattered blocks take %d bytes", used)
	}
	if b.ClearRange(0, size); b.Count() != 0 {
		t.Errorf("%d bits left", b.Count())
	}
	_, used = heap(func() *Bitmap {
		b := New(1 << 40)
		for p := int64(0); p < 1<<40; p += PageBits * BlockSize {
			b.SetRange(p, 1)
		}
		return b
	})
	if used > 33*mib {
		t.Errorf("1 TiB with every page mixed takes %d bytes", used)
	}
	runtime.KeepAlive(b)
}

func BenchmarkSetClear4K(b *testing.B) {
	m := New(1 << 40)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		off := int64(i) * 7919 * BlockSize % (1 << 40)
		m.SetRange(off, BlockSize)
		m.ClearRange(off, BlockSize)
	}
}

func BenchmarkNextSetAcross16TiB(b *testing.B) {
	m := New(16 << 40)
	m.SetRange(16<<40-1, 1)
	for b.Loop() {
		m.NextSet(0)
	}
}
