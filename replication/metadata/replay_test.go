package metadata

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/scripts/fuzztest"
	"pgregory.net/rapid"
)

// initRing is an empty ring.
func initRing(s Stripes) []byte {
	ring := make([]byte, s.Blocks()*BlockSize)
	for at := 0; at < len(ring); at += BlockSize {
		EncodeInit(ring[at:])
	}
	return ring
}

func put(ring []byte, s Stripes, tr uint32, t bitmap.Transaction) {
	EncodeTransaction(ring[s.Position(tr)*BlockSize:], tr, t)
}

func goldenRing() []byte {
	ring, tx := initRing(Stripes{}), goldenTransactions()
	put(ring, Stripes{}, 100, tx[0])
	put(ring, Stripes{}, 101, tx[1])
	return ring
}

// The log of docs/drbd-metadata.md annex A.2, on the sizes where drbdmeta 9.34
// forgets the last extent (TRAP 7) too.
func TestGoldenReplay(t *testing.T) {
	hot, next, verdict := Replay(goldenRing(), Stripes{})
	if !slices.Equal(hot, []uint32{7, 31, 63}) || next != 102 || verdict != Replayed {
		t.Fatalf("hot %v, next %d, %v", hot, next, verdict)
	}
	for _, size := range []int64{524288 * sector, 600000 * sector} {
		b := bitmap.New(size)
		MarkHot(b, hot)
		page := make([]byte, 3*bitmap.PageSize)
		for p := range b.Pages() {
			b.EncodePage(p, page[p*bitmap.PageSize:])
		}
		want := make([]byte, len(page))
		for _, extent := range []int{7, 31, 63} {
			for i := range 128 {
				want[128*extent+i] = 0xFF
			}
		}
		if !bytes.Equal(page, want) {
			t.Errorf("bitmap of %d bytes is not FF at extents 7, 31 and 63 alone; %d bits", size, b.Count())
		}
	}
	b := bitmap.New(130992 * sector) // 16 extents: the others lie beyond the end
	MarkHot(b, append(hot, 15))
	if b.Count() != 1024+1014 {
		t.Errorf("%d bits, want extent 7 and what there is of extent 15", b.Count())
	}
}

// What docs/drbd-metadata.md 4.6 says of rings without a usable update.
func TestReplayVerdicts(t *testing.T) {
	damage := func(ring []byte, blocks ...int) []byte {
		for _, i := range blocks {
			ring[i*BlockSize+100] ^= 1
		}
		return ring
	}
	empty := func() []byte { return initRing(Stripes{}) }
	old := make([]byte, 8*BlockSize)
	binary.BigEndian.PutUint32(old[3*sector:], magicOldAL)
	for _, c := range []struct {
		name    string
		ring    []byte
		verdict Verdict
		hot     []uint32
		trusted bool
	}{
		{"all INIT", empty(), NothingHot, nil, true},
		{"first transaction torn", damage(empty(), 0), NothingHot, nil, true},
		{"another INIT block bad", damage(empty(), 1), Unreadable, nil, false},
		{"several bad", damage(empty(), 0, 3), Unreadable, nil, false},
		{"no block valid", make([]byte, 8*BlockSize), Unreadable, nil, false},
		{"old format", old, OldFormat, nil, false},
		{"shorter than the ring", empty()[1:], Unreadable, nil, false},
		{"newest torn", damage(goldenRing(), 5), Replayed, []uint32{5, 31}, true},
		{"oldest gone, repeated later", damage(goldenRing(), 4), Replayed, []uint32{7, 31, 63}, true},
		{"behind the newest bad", damage(goldenRing(), 6), Replayed, []uint32{7, 31, 63}, true},
		{"newest damaged, and the one behind it", damage(goldenRing(), 5, 6), Incomplete, []uint32{5, 31}, false},
		{"others behind the newest bad", damage(goldenRing(), 7, 0), Replayed, []uint32{7, 31, 63}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			hot, _, verdict := Replay(c.ring, Stripes{})
			if verdict != c.verdict || !slices.Equal(hot, c.hot) || verdict.Trusted() != c.trusted {
				t.Errorf("%v, hot %v", verdict, hot)
			}
		})
	}
	if _, _, verdict := Replay(nil, Stripes{0, 5}); verdict != Unreadable {
		t.Errorf("impossible geometry: %v", verdict)
	}
}

// A block missing in the middle is fatal exactly while its updates have not
// been repeated by a context.
func TestReplayGap(t *testing.T) {
	a, ring := bitmap.NewActivityLog(2*bitmap.ContextSlots), initRing(Stripes{})
	for tr := range uint32(5) {
		a.Stage(tr, tr)
		tx, _ := a.Begin()
		put(ring, Stripes{}, tr, tx)
		a.Commit()
		a.Put(tr, tr, 0)
	}
	for lost, want := range []Verdict{Replayed, Replayed, Replayed, Incomplete} {
		torn := bytes.Clone(ring)
		torn[lost*BlockSize+20] ^= 1
		if _, _, verdict := Replay(torn, Stripes{}); verdict != want {
			t.Errorf("block %d of 0..4 lost: %v, want %v", lost, verdict, want)
		}
	}
}

// Whatever a log has done, a replay of the ring knows every extent that may
// have been written to: those of the last durable transaction, also if the next
// one is torn at any sector, over the wrap of the number.
func TestReplayAgainstLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom([]Stripes{{}, {4, 16}, {2, 4}, {1, 9}, {3, 3}}).Draw(t, "stripes")
		slots := rapid.SampledFrom([]int{67, 919, 920, 1237, 6433}).Draw(t, "slots")
		a, ring := bitmap.NewActivityLog(slots), initRing(s)
		tr := rapid.Uint32Range(0, 30).Draw(t, "first tr")
		if n := s.Blocks(); n&(n-1) == 0 {
			tr -= 15 // the numbers wrap in time where the ring can
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		hot := map[uint32]bool{}
		for range rapid.IntRange(0, 25).Draw(t, "transactions") {
			var held []uint32
			for range 1 + rng.IntN(bitmap.MaxUpdates) {
				e := rng.Uint32N(uint32(slots) * 2)
				if r := a.Stage(e, e); r == bitmap.Staged || r == bitmap.AlreadyHot {
					held = append(held, e)
				}
			}
			tx := a.BeginContext()
			torn := bytes.Clone(ring)
			block := make([]byte, BlockSize)
			EncodeTransaction(block, tr, tx)
			copy(torn[s.Position(tr)*BlockSize:], block[:512*rng.IntN(8)])
			put(ring, s, tr, tx)
			if !bytes.Equal(torn, ring) { // else only fillers were missing
				check(t, torn, s, hot)
			}
			for _, u := range tx.Updates {
				delete(hot, u.Evicted)
				hot[u.Extent] = true
			}
			a.Commit()
			for _, e := range held {
				a.Put(e, e, 0)
			}
			if next := check(t, ring, s, hot); next != tr+1 {
				t.Fatalf("next transaction %d, want %d", next, tr+1)
			}
			tr++
		}
	})
}

func check(t *rapid.T, ring []byte, s Stripes, hot map[uint32]bool) (next uint32) {
	got, next, verdict := Replay(ring, s)
	want := slices.Sorted(maps.Keys(hot))
	if !slices.Equal(got, want) {
		t.Fatalf("%v: hot %v\nwant %v", verdict, got, want)
	}
	if !verdict.Trusted() && !(len(want) == 0 && verdict == Unreadable) {
		t.Fatalf("%v", verdict)
	}
	return next
}

// FuzzReplay: any ring has an answer. The input is a list of patches to a ring, so that it stays small: what covers
// something new is minimised before anything else is tried, which takes as long as the square of its length.
//
//	0  the block, modulo 8; the top bit leaves its checksum wrong, the next one stands for an empty ring to begin with
//	1  where in the block, 2 bytes
//	3  how many bytes follow
func FuzzReplay(f *testing.F) {
	fuzztest.Begin(f)
	block := goldenRing()[4*BlockSize:]
	f.Add([]byte{0x80, 0, 0, 0})
	f.Add(append([]byte{3, 0, 0, 40}, block[:40]...))
	f.Add(append([]byte{0x45, 0, 0, 20}, block[:20]...))
	f.Add([]byte{0x84, 0, 9, 1, 0xff, 5, 0, 15, 1, 3})
	for place := range byte(8) { // another number of the transaction
		f.Add([]byte{place, 0, 4, 4, 0, 0, 0, 96 + place, 4, 0, 4, 4, 0xff, 0xff, 0xff, 0xfe})
	}
	golden, empty := goldenRing(), initRing(Stripes{})
	ring := make([]byte, len(golden))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 128 {
			t.Skip()
		}
		copy(ring, golden)
		if len(data) > 0 && data[0]&0x40 != 0 {
			copy(ring, empty)
		}
		for len(data) >= 4 {
			b := ring[int(data[0]%8)*BlockSize:][:BlockSize]
			n := min(int(data[3]), len(data)-4)
			copy(b[int(binary.BigEndian.Uint16(data[1:]))%BlockSize:], data[4:4+n])
			if data[0]&0x80 == 0 {
				binary.BigEndian.PutUint32(b[8:], blockCRC(b))
			}
			data = data[4+n:]
		}
		hot, _, verdict := Replay(ring, Stripes{})
		if len(hot) > 0 && verdict != Replayed && verdict != Incomplete {
			t.Fatalf("%v with %d hot extents", verdict, len(hot))
		}
		b := bitmap.New(1 << 30)
		MarkHot(b, hot)
		for _, extent := range hot {
			if off := int64(extent) * bitmap.ExtentSize; off < b.Size() && !b.AnySet(off, 1) {
				t.Fatalf("extent %d is hot and not marked", extent)
			}
		}
	})
}
