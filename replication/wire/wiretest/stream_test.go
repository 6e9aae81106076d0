package wiretest

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// However the bytes are cut, whatever comes twice and in whatever order: what
// comes out is what went in, and the first byte that is missing stops it.
func TestStreamGivesBytesInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "sent")
		syn := rapid.SampledFrom([]uint32{0, 1000, 1<<32 - 100, 1<<32 - 1}).Draw(t, "syn")
		type cut struct{ from, to int }
		var cuts []cut
		for at := 0; at < len(sent); {
			to := rapid.IntRange(at+1, len(sent)).Draw(t, "to")
			cuts = append(cuts, cut{rapid.IntRange(0, at).Draw(t, "from"), to})
			at = to
		}
		for range rapid.IntRange(0, 5).Draw(t, "again") {
			cuts = append(cuts, rapid.SampledFrom(cuts).Draw(t, "repeated"))
		}
		cuts = rapid.Permutation(cuts).Draw(t, "order")
		var s stream
		s.start(syn)
		s.start(syn) // a SYN that is sent again
		have := make([]bool, len(sent))
		var got []byte
		for _, c := range cuts {
			got = append(got, s.add(syn+1+uint32(c.from), sent[c.from:c.to], c.to == len(sent))...)
			for i := c.from; i < c.to; i++ {
				have[i] = true
			}
			whole := bytes.IndexByte(bools(have), 0)
			if whole < 0 {
				whole = len(sent)
			}
			if !bytes.Equal(got, sent[:whole]) {
				t.Fatalf("%d bytes are out, %d are whole", len(got), whole)
			}
			if s.gap() != bytes.ContainsRune(bools(have[whole:]), 1) {
				t.Fatalf("gap %v with %v", s.gap(), have)
			}
		}
		if !s.fin {
			t.Fatal("the end was not seen")
		}
	})
}

func bools(v []bool) []byte {
	out := make([]byte, len(v))
	for i, b := range v {
		if b {
			out[i] = 1
		}
	}
	return out
}

// Without its SYN the place of a segment is not known.
func TestStreamWithoutStart(t *testing.T) {
	var s stream
	if got := s.add(1, []byte("x"), false); got != nil || s.gap() {
		t.Errorf("%q, gap %v", got, s.gap())
	}
}
