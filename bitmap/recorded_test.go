package bitmap

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A recording is one bitmap exchange of the kernel's driver.
type recording struct {
	name    string
	bits    int64
	rle     bool
	content string // "bits LIST" or "words LIST", if known
	packets []packet
}

func recordings(t *testing.T) (all []recording) {
	t.Helper()
	file, err := os.Open("testdata/transfers.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		word := strings.Fields(lines.Text())
		if len(word) == 0 || word[0] == "#" {
			continue
		}
		if word[0] == "transfer" {
			bits, err := strconv.ParseInt(word[3], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, recording{word[1] + " " + word[2], bits, word[4] == "rle", strings.Join(word[5:], " "), nil})
			continue
		}
		payload, err := hex.DecodeString(strings.Join(word[1:], ""))
		if err != nil {
			t.Fatal(err)
		}
		last := &all[len(all)-1]
		last.packets = append(last.packets, packet{payload, word[0] == "compressed"})
	}
	return all
}

// described is the bitmap that a recording says it sent: ranges of bits, or
// COUNTxWORD from word 0 on.
func described(t *testing.T, size int64, content string) *Bitmap {
	t.Helper()
	number := func(s string, base int) uint64 {
		n, err := strconv.ParseUint(s, base, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	b, w := New(size), int64(0)
	kind, list, _ := strings.Cut(content, " ")
	for part := range strings.SplitSeq(list, ",") {
		if kind == "bits" {
			first, last, _ := strings.Cut(part, "-")
			if last == "" {
				last = first
			}
			from := int64(number(first, 10))
			b.SetRange(from*BlockSize, (int64(number(last, 10))-from+1)*BlockSize)
			continue
		}
		count, word, _ := strings.Cut(part, "x")
		for range number(count, 10) {
			b.orWord(w, number(word, 16))
			w++
		}
	}
	return b
}

// What the driver sent is understood, means what the recording says, and is
// what we would have sent, byte for byte.
func TestDriversTransfers(t *testing.T) {
	all := recordings(t)
	if len(all) < 20 {
		t.Fatalf("%d recordings", len(all))
	}
	mixed, told := 0, 0
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			got := New(r.bits * BlockSize)
			done, err := receive(got, r.packets)
			if err != nil || !done {
				t.Fatalf("done %v, %v", done, err)
			}
			if r.content != "" {
				told++
				if !equal(got, described(t, got.Size(), r.content)) {
					t.Errorf("%d bits, not %s", got.Count(), r.content)
				}
			}
			kinds := map[bool]int{}
			ours := send(got, r.rle)
			for i, p := range r.packets {
				kinds[p.compressed]++
				if i >= len(ours) || ours[i].compressed != p.compressed || !bytes.Equal(ours[i].payload, p.payload) {
					t.Fatalf("packet %d of %d differs from the driver's", i, len(r.packets))
				}
			}
			if len(ours) != len(r.packets) {
				t.Errorf("%d packets, the driver sent %d", len(ours), len(r.packets))
			}
			if kinds[true] > 0 && kinds[false] > 0 {
				mixed++
			}
		})
	}
	if mixed == 0 || told < 4 {
		t.Errorf("%d mixed transfers and %d with known content among the recordings", mixed, told)
	}
}
