package bitmap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/urbd/urbd/scripts/fuzztest"
	"pgregory.net/rapid"
)

// packet is one payload of an exchange.
type packet struct {
	payload    []byte
	compressed bool
}

func send(b *Bitmap, rle bool) (packets []packet) {
	s := NewSender(b, rle)
	dst := make([]byte, MaxPayload)
	for {
		rand.NewChaCha8([32]byte{1}).Read(dst) // a reused buffer holds anything
		n, compressed, done := s.Next(dst)
		packets = append(packets, packet{bytes.Clone(dst[:n]), compressed})
		if done {
			return packets
		}
	}
}

func receive(b *Bitmap, packets []packet) (done bool, err error) {
	m := NewMerger(b)
	for i, p := range packets {
		if p.compressed {
			done, err = m.Compressed(p.payload)
		} else {
			done, err = m.Plain(p.payload)
		}
		if err != nil {
			return done, err
		}
		if done != (i == len(packets)-1) {
			return done, errors.New("done at another packet than the sender")
		}
	}
	return done, nil
}

func equal(a, b *Bitmap) bool {
	if a.Bits() != b.Bits() || a.Count() != b.Count() {
		return false
	}
	var pa, pb [PageSize]byte
	for p := range a.Pages() {
		a.EncodePage(p, pa[:])
		b.EncodePage(p, pb[:])
		if pa != pb {
			return false
		}
	}
	return true
}

// The example of docs/drbd-wire.md 10.5.
func TestWorkedExample(t *testing.T) {
	b := New(1 << 20)
	b.SetRange(3*BlockSize, 4*BlockSize)
	b.SetRange(100*BlockSize, 28*BlockSize)

	got := send(b, true)
	if want := "42e9c7f2d6f704"; len(got) != 1 || !got[0].compressed || hex.EncodeToString(got[0].payload) != want {
		t.Errorf("compressed: %v, want one packet %s", got, want)
	}
	got = send(b, false)
	want := make([]byte, 32)
	copy(want, []byte{0x78})
	copy(want[12:], []byte{0xf0, 0xff, 0xff, 0xff})
	if len(got) != 2 || !bytes.Equal(got[0].payload, want) || got[0].compressed || len(got[1].payload) != 0 || got[1].compressed {
		t.Errorf("plain: %v", got)
	}
}

// The rows of the code table, at their borders.
func TestRunCode(t *testing.T) {
	next := int64(1)
	for _, l := range levels {
		if l.min != next {
			t.Errorf("level of %d bits begins at %d, want %d", l.totalLen, l.min, next)
		}
		if data := l.totalLen - l.prefixLen; l.max-l.min != 1<<data-1 {
			t.Errorf("level of %d bits spans %d", l.totalLen, l.max-l.min)
		}
		next = l.max + 1
		for _, v := range []int64{l.min, l.min + (l.max-l.min)/3, l.max} {
			code, length := encodeRun(v)
			if back, n := decodeRun(code); back != v || n != length || length != l.totalLen {
				t.Errorf("%d: code %#x of %d bits decodes to %d of %d bits", v, code, length, back, n)
			}
		}
	}
}

func TestExchangeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		size := rapid.OneOf(rapid.Int64Range(1, 1<<20), rapid.Int64Range(1, 5*PageBits*BlockSize)).Draw(t, "size")
		theirs := New(size)
		scatter(theirs, rng, rapid.SampledFrom([]int{0, 1, 10, 1000}).Draw(t, "runs"), 5000)
		// A noisy stretch makes the sender fall back to plain packets in between.
		for at, end := rng.Int64N(theirs.Bits()), rng.Int64N(theirs.Bits()); at < end; at++ {
			if rng.Uint32()&1 != 0 {
				theirs.SetRange(at*BlockSize, 1)
			} else {
				theirs.ClearRange(at*BlockSize, BlockSize)
			}
		}
		ours := New(size)
		scatter(ours, rng, 5, 100)
		union := New(size)
		for bit, ok := theirs.NextSet(0); ok; bit, ok = theirs.NextSet(bit + 1) {
			union.SetRange(bit*BlockSize, 1)
		}
		for bit, ok := ours.NextSet(0); ok; bit, ok = ours.NextSet(bit + 1) {
			union.SetRange(bit*BlockSize, 1)
		}
		packets := send(theirs, rapid.Bool().Draw(t, "rle"))
		for i, p := range packets {
			switch last := i == len(packets)-1; {
			case p.compressed && (len(p.payload) < 2 || len(p.payload) > MaxPayload):
				t.Fatalf("compressed packet of %d bytes", len(p.payload))
			case !p.compressed && !last && len(p.payload) == 0:
				t.Fatal("terminator before the end")
			case !p.compressed && last && len(p.payload) != 0:
				t.Fatal("no terminator after a plain packet")
			}
		}
		done, err := receive(ours, packets)
		if err != nil || !done {
			t.Fatalf("done %v, %v", done, err)
		}
		if !equal(ours, union) {
			t.Fatal("the merged bitmap is not the union")
		}
	})
}

// A transfer that mixes both packets exercises the restart at a word.
func TestMixedTransferHasBothPackets(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	b := New(4 * PageBits * BlockSize)
	b.SetRange(BlockSize, 50*BlockSize)
	for at := int64(40000); at < 100000; at++ {
		if rng.Uint32()&1 != 0 {
			b.SetRange(at*BlockSize, 1)
		}
	}
	kinds := map[bool]int{}
	packets := send(b, true)
	for _, p := range packets {
		kinds[p.compressed]++
	}
	if kinds[true] == 0 || kinds[false] == 0 || !packets[len(packets)-1].compressed {
		t.Fatalf("packets: %v", kinds)
	}
	got := New(b.Size())
	if done, err := receive(got, packets); !done || err != nil || !equal(got, b) {
		t.Fatalf("done %v, %v", done, err)
	}
}

func TestMergerRefuses(t *testing.T) {
	type step struct {
		compressed bool
		hex        string
	}
	plain := step{false, "0000000000000000000000000000000000000000000000000000000000000000"}
	for name, steps := range map[string][]step{
		"plain too short":          {{false, "00"}},
		"plain too long":           {{false, plain.hex + "0000000000000000"}},
		"empty before the end":     {{false, ""}},
		"plain after the end":      {plain, {false, ""}, {false, ""}},
		"compressed after the end": {plain, {false, ""}, {true, "0200"}},
		"compressed behind plain":  {plain, {true, "0200"}},
		"compressed empty":         {{true, ""}},
		"compressed without code":  {{true, "02"}},
		"compressed too long":      {{true, "02" + hex.EncodeToString(make([]byte, MaxPayload))}},
		"unknown code":             {{true, "0100"}},
		"cut-off run":              {{true, "62ff"}},
		"cut-off short run":        {{true, "5203"}},
		"set run beyond the end":   {{true, "82" + "3f0000" + "00"}},
		"clear run beyond the end": {{true, "02" + "ffffffffffffffff"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMerger(New(1 << 20))
			var err error
			for i, s := range steps {
				p, bad := hex.DecodeString(s.hex)
				if bad != nil {
					t.Fatal(bad)
				}
				if s.compressed {
					_, err = m.Compressed(p)
				} else {
					_, err = m.Plain(p)
				}
				if err != nil && i < len(steps)-1 {
					t.Fatalf("refused early: %v", err)
				}
			}
			var de *DecodeError
			if !errors.As(err, &de) || de.Reason == "" || de.Packet == "" {
				t.Fatalf("error %v, want a *DecodeError", err)
			}
		})
	}
}

// A device that is resized in the middle of a transfer ends it.
func TestMergerOfResized(t *testing.T) {
	for _, size := range []int64{4096, 2 << 20} {
		b := New(1 << 20)
		m := NewMerger(b)
		b.Resize(size, false)
		for _, step := range []func([]byte) (bool, error){m.Plain, m.Compressed} {
			var de *DecodeError
			if _, err := step(append([]byte{2}, make([]byte, 31)...)); !errors.As(err, &de) {
				t.Fatalf("resized to %d: error %v, want a *DecodeError", size, err)
			}
		}
	}
}

// Bits that come from the peer have to be written to the disk, whatever packet brings them.
func TestMergedBitsAreUnwritten(t *testing.T) {
	theirs := New(4 << 30)
	theirs.SetRange(1<<30, 5*BlockSize)
	for at := int64(0); at < 400; at++ {
		theirs.SetRange(3<<30+at*at*BlockSize, BlockSize)
	}
	for _, rle := range []bool{false, true} {
		ours := New(theirs.Size())
		for p := range ours.Pages() {
			ours.MarkWritten(p)
		}
		if done, err := receive(ours, send(theirs, rle)); !done || err != nil {
			t.Fatalf("done %v, %v", done, err)
		}
		for p := range ours.Pages() {
			off := int64(p) * PageBits * BlockSize
			if want := theirs.AnySet(off, PageBits*BlockSize); ours.Unwritten(p, false) != want {
				t.Errorf("compressed %v: page %d: unwritten %v, want %v", rle, p, !want, want)
			}
		}
	}
}

// FuzzMerger feeds anything as a series of packets: no panic, no bit outside
// the device, and a transfer that ends was consistent to its end.
func FuzzMerger(f *testing.F) {
	fuzztest.Begin(f)
	f.Add(int64(1<<20), []byte{1, 7, 0, 0x42, 0xe9, 0xc7, 0xf2, 0xd6, 0xf7, 0x04})
	f.Add(int64(1<<20), append([]byte{0, 32, 0}, make([]byte, 35)...))
	f.Add(int64(1), []byte{1, 2, 0, 0x72, 0})
	f.Fuzz(func(t *testing.T, size int64, data []byte) {
		if size < 0 || size > 1<<36 {
			t.Skip()
		}
		b := New(size)
		m := NewMerger(b)
		for len(data) >= 3 {
			n := min(int(data[1])|int(data[2])<<8, len(data)-3)
			payload := data[3 : 3+n]
			before := b.Count()
			step := m.Plain
			if data[0]&1 != 0 {
				step = m.Compressed
			}
			if _, err := step(payload); err != nil {
				return
			}
			if b.Count() < before || b.Count() > b.Bits() {
				t.Fatalf("%d bits set of %d, %d before", b.Count(), b.Bits(), before)
			}
			data = data[3+n:]
		}
	})
}

// FuzzExchange sends a bitmap both ways. The bytes are a list of runs and not the bits themselves, so that an input stays
// small: what covers something new is minimised before anything else is tried, which takes as long as the square
// of its length.
//
//	0  what: clear, set, every other bit set, noise; and how long a unit is: 1, 8, 64 or 512 bits
//	1  units
func FuzzExchange(f *testing.F) {
	fuzztest.Begin(f)
	f.Add(uint16(0), true, []byte{1, 8, 0, 8, 2, 4})
	f.Add(uint16(511), false, []byte{14, 100, 15, 20, 4, 3, 13, 90})
	f.Add(uint16(9), true, []byte{13, 255, 12, 255, 15, 8, 1, 1, 0, 1, 1, 63})
	f.Fuzz(func(t *testing.T, less uint16, rle bool, data []byte) {
		if len(data) > 64 {
			t.Skip()
		}
		var bits int64
		for i := 0; i+1 < len(data); i += 2 {
			bits += int64(data[i+1]) << (3 * (data[i] >> 2 & 3))
		}
		b := New(max(min(bits, 2*PageBits+99)*BlockSize-int64(less), 0))
		at, noise := int64(0), rand.New(rand.NewPCG(1, uint64(less)))
		for i := 0; i+1 < len(data) && at < b.Bits(); i += 2 {
			n := min(int64(data[i+1])<<(3*(data[i]>>2&3)), b.Bits()-at)
			switch data[i] & 3 {
			case 1:
				b.SetRange(at*BlockSize, n*BlockSize)
			case 2:
				for bit := at; bit < at+n; bit += 2 {
					b.SetRange(bit*BlockSize, BlockSize)
				}
			case 3:
				for bit := at; bit < at+n; bit += 1 + noise.Int64N(4) {
					b.SetRange(bit*BlockSize, BlockSize)
				}
			}
			at += n
		}
		got := New(b.Size())
		if done, err := receive(got, send(b, rle)); !done || err != nil || !equal(got, b) {
			t.Fatalf("done %v, %v", done, err)
		}
	})
}

func BenchmarkSenderSparseRLE(b *testing.B)  { benchmarkSender(b, 1000, true) }
func BenchmarkSenderNoisyRLE(b *testing.B)   { benchmarkSender(b, 4000000, true) }
func BenchmarkSenderNoisyPlain(b *testing.B) { benchmarkSender(b, 4000000, false) }

func benchmarkSender(b *testing.B, runs int, rle bool) {
	m := New(64 << 30)
	scatter(m, rand.New(rand.NewPCG(1, 2)), runs, 4)
	dst := make([]byte, MaxPayload)
	b.SetBytes(m.Bits() / 8)
	b.ReportAllocs()
	for b.Loop() {
		s := NewSender(m, rle)
		for done := false; !done; {
			_, _, done = s.Next(dst)
		}
	}
}

func BenchmarkMergerPlain(b *testing.B) { benchmarkMerger(b, 4000000, false) }
func BenchmarkMergerRLE(b *testing.B)   { benchmarkMerger(b, 100000, true) }

func benchmarkMerger(b *testing.B, runs int, rle bool) {
	m := New(64 << 30)
	scatter(m, rand.New(rand.NewPCG(1, 2)), runs, 4)
	packets := send(m, rle)
	got := New(m.Size())
	b.SetBytes(m.Bits() / 8)
	b.ReportAllocs()
	for b.Loop() {
		if done, err := receive(got, packets); !done || err != nil {
			b.Fatal(done, err)
		}
	}
}

// A device without blocks has an exchange of the terminator alone.
func TestExchangeOfNothing(t *testing.T) {
	packets := send(New(0), true)
	if len(packets) != 1 || packets[0].compressed || len(packets[0].payload) != 0 {
		t.Fatalf("%v", packets)
	}
	if done, err := receive(New(0), packets); !done || err != nil {
		t.Fatalf("done %v, %v", done, err)
	}
}
