package writelog

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// made is a log as the kernel writes it.
func made(entries ...happened) []byte {
	head := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint64(head, magic)
	le.PutUint64(head[8:], version)
	le.PutUint64(head[16:], uint64(len(entries)))
	le.PutUint32(head[24:], 512)
	log := head
	for _, e := range entries {
		b := make([]byte, 512)
		le.PutUint64(b, e.sector)
		le.PutUint64(b[8:], e.sectors)
		le.PutUint64(b[16:], e.flags)
		if e.flags&Mark != 0 {
			le.PutUint64(b[24:], uint64(len(e.name)))
			copy(b[32:], e.name)
		}
		log = append(log, b...)
		if e.flags&(Mark|Discard) == 0 {
			log = append(log, bytes.Repeat([]byte{e.fill}, int(e.sectors)*512)...)
		}
	}
	return log
}

type happened struct {
	sector, sectors, flags uint64
	fill                   byte
	name                   string
}

// first is the first byte of each sector.
func first(disk []byte) string {
	var out []byte
	for off := 0; off < len(disk); off += 512 {
		if disk[off] == 0 {
			out = append(out, '.')
		} else {
			out = append(out, disk[off])
		}
	}
	return string(out)
}

func TestReplay(t *testing.T) {
	log, err := Read(bytes.NewReader(made(
		happened{sector: 0, sectors: 2, fill: 'a'},
		happened{sector: 3, sectors: 1, flags: FUA, fill: 'f'},
		happened{flags: Mark, name: "before"},
		happened{flags: Flush},
		happened{sector: 1, sectors: 1, fill: 'b'},
		happened{sector: 1, sectors: 2, flags: FUA, fill: 'g'},
		happened{sector: 0, sectors: 4, flags: Discard},
		happened{sector: 2, sectors: 1, flags: Flush | Metadata, fill: 'c'},
	)))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ durable, all string }{
		{"....", "aa.."}, {"...f", "aa.f"}, {"...f", "aa.f"}, {"aa.f", "aa.f"}, {"aa.f", "ab.f"}, {"aggf", "aggf"}, {"aggf", "...."}, {"....", "..c."},
	}
	r := log.Replay(2048)
	rnd := rand.New(rand.NewPCG(1, 1))
	for i, w := range want {
		e, ok, err := r.Step()
		if !ok || err != nil {
			t.Fatal(i, err)
		}
		if i == 2 && e.Name != "before" {
			t.Errorf("the mark is %q", e.Name)
		}
		if got := first(r.Durable()); got != w.durable {
			t.Errorf("entry %d: durable is %s, want %s", i, got, w.durable)
		}
		seen := map[string]bool{}
		for range 100 {
			disk, err := r.Cut(rnd)
			if err != nil {
				t.Fatal(err)
			}
			seen[first(disk)] = true
		}
		if !seen[w.durable] || !seen[w.all] {
			t.Errorf("entry %d: cuts leave %v, want %s and %s among them", i, seen, w.durable, w.all)
		}
	}
	if _, ok, err := r.Step(); ok || err != nil {
		t.Error("the log does not end", err)
	}
}

func TestReadRefuses(t *testing.T) {
	good := made(happened{sector: 0, sectors: 2, fill: 'a'}, happened{flags: Mark, name: "m"})
	for name, bad := range map[string][]byte{
		"empty":       {},
		"no log":      make([]byte, 4096),
		"cut short":   good[:1500],
		"a huge one":  func() []byte { b := bytes.Clone(good); b[512+8+3] = 1; return b }(),
		"a long mark": func() []byte { b := bytes.Clone(good); b[512+512+1024+24] = 255; b[512+512+1024+25] = 255; return b }(),
	} {
		if _, err := Read(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	log, err := Read(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := log.Replay(512).Step(); err != nil {
		t.Error(err) // only noted
	}
	if err := log.Apply(make([]byte, 512), log.Entries[0]); err == nil {
		t.Error("a write past the end of the disk is applied")
	}
}
