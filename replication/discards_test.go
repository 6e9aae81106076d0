package replication

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/urbd/urbd/replication/engine"
)

// TestChunked: the pieces of a range follow each other to its end, what is freed is whole chunks, and no whole chunk of it
// is written.
func TestChunked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chunk := 512 * rapid.SampledFrom([]int64{8, 128, 384, 2048}).Draw(t, "chunk")
		off := 512 * rapid.Int64Range(0, 5000).Draw(t, "off")
		length := 512 * rapid.Int64Range(1, 20000).Draw(t, "len")
		var freed int64
		for at := off; at < off+length; {
			n, free := chunked(at, off+length-at, chunk)
			switch {
			case n <= 0 || at+n > off+length:
				t.Fatalf("a piece of %d bytes at %d", n, at)
			case free && (at%chunk != 0 || n%chunk != 0):
				t.Fatalf("%d bytes at %d are freed, which are no whole chunks", n, at)
			case !free && at%chunk+n > chunk:
				t.Fatalf("%d bytes at %d are written, more than one chunk", n, at)
			case free:
				freed += n
			}
			at += n
		}
		first, end := (off+chunk-1)/chunk*chunk, (off+length)/chunk*chunk
		if freed != max(end-first, 0) {
			t.Fatalf("%d bytes are freed, and %d to %d are whole chunks", freed, first, end)
		}
	})
}

// TestDiscardFreesTheFile: what is discarded leaves a hole in the backing file of either node.
func TestDiscardFreesTheFile(t *testing.T) {
	nodes := connectedPair(t)
	const size = 8 << 20
	for off := int64(0); off < size; off += 1 << 20 {
		nodes[0].io(engine.Request{Op: engine.OpWrite, Off: off, Len: 1 << 20, Data: page(t, 1<<20)})
	}
	nodes[0].io(engine.Request{Op: engine.OpFlush})
	var before [2]int64
	for i, n := range nodes {
		before[i] = blocksOf(t, n)
	}
	nodes[0].io(engine.Request{Op: engine.OpDiscard, Off: 512, Len: size - 1024})
	for i, n := range nodes {
		if after := blocksOf(t, n); after > before[i]-size+2*4096 {
			t.Errorf("node %d: %d bytes of the file are allocated after the discard, %d before", i, after, before[i])
		}
	}
	nodes[0].must(engine.Demote{})
	sameDisks(t, nodes)
}

func blocksOf(t *testing.T, n *node) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(n.cfg.Local.Volumes[0].Disk, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestDiscardInChunksThatCannotBeFreed treats a file as a thin volume, which cannot be discarded in the way of a block device:
// it is zeroed in the next best way, and not asked again.
func TestDiscardInChunksThatCannotBeFreed(t *testing.T) {
	nodes := connectedPair(t)
	for _, n := range nodes {
		n.res.on(t.Context(), func(l *loop) { l.disks.stores[0].data.chunk = 64 << 10 })
	}
	const off, length = 4096, 900 << 10
	nodes[0].io(engine.Request{Op: engine.OpWrite, Off: 0, Len: 1 << 20, Data: page(t, 1<<20)})
	nodes[0].io(engine.Request{Op: engine.OpDiscard, Off: off, Len: length})
	got := page(t, length)
	nodes[0].io(engine.Request{Op: engine.OpRead, Off: off, Len: length, Data: got})
	if !bytes.Equal(got, make([]byte, length)) {
		t.Error("discarded bytes do not read as zeroes")
	}
	for _, n := range nodes {
		n.res.on(t.Context(), func(l *loop) {
			if l.disks.stores[0].data.chunk != 0 {
				t.Error("a file is taken for a thin volume")
			}
		})
	}
	nodes[0].must(engine.Demote{})
	sameDisks(t, nodes)
}

func TestReadThin(t *testing.T) {
	target := func(s string) dmTarget {
		f := strings.Fields(s)
		return dmTarget{f[0], f[1:]}
	}
	for _, c := range []struct {
		volume, pool string
		want         thin
		ok           bool
	}{
		{"thin 254:0 0", "thin-pool 7:0 253:0 128 0 0", thin{chunk: 64 << 10}, true},
		{"thin 254:0 12", "thin-pool 7:0 253:0 384 32 1 ignore_discard", thin{chunk: 192 << 10}, true},
		{"thin 254:0 0", "thin-pool 7:0 253:0 128 0 2 no_discard_passdown skip_block_zeroing", thin{chunk: 64 << 10, skipsZeroing: true}, true},
		{"thin 254:0 0 253:16", "thin-pool 7:0 253:0 128 0", thin{chunk: 64 << 10, origin: true}, true},
		{"thin 254:0", "thin-pool 7:0 253:0 128 0", thin{}, false},
		{"thin 254:0 0", "thin-pool 7:0 253:0", thin{}, false},
		{"thin 254:0 0", "thin-pool 7:0 253:0 0 0", thin{}, false},
		{"thin 254:0 0", "thin-pool 7:0 253:0 many 0", thin{}, false},
	} {
		if got, ok := readThin(target(c.volume), target(c.pool)); got != c.want || ok != c.ok {
			t.Errorf("%s on %s: %+v, %v", c.volume, c.pool, got, ok)
		}
	}
}

// A thin volume is known below linear maps, and where they begin within its chunks. What changes the data is not looked through.
func TestThinBelow(t *testing.T) {
	tables := map[string]string{ // by device
		"253:0": "thin-pool 7:0 252:0 128 0 0", "253:1": "thin 253:0 7", "253:2": "thin 253:0 8 253:9",
		"253:10": "linear 253:1 2048", "253:11": "linear 253:10 128", "253:12": "linear 253:1 100", "253:13": "linear 253:12 28",
		"253:14": "linear 253:2 0", "253:15": "linear 8:16 2048", "253:16": "crypt aes-xts-plain64 :64:logon:x 0 253:1 0 1 allow_discards",
		"253:17": "linear 253:16 0", "253:18": "linear 253:18 0", "253:19": "linear 253:1 -128", "253:20": "linear 253:1 many", "253:21": "linear 253:1",
		"253:30": "thin-pool 7:0 252:0 128 0 1 skip_block_zeroing", "253:31": "thin 253:30 1", "253:32": "linear 253:31 1",
		"253:40": "thin 252:0 1", "253:41": "linear nothing 0",
	}
	table := mapper(func(dev uint64) ([]dmTarget, error) {
		text, ok := tables[fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))]
		if !ok {
			return nil, unix.ENXIO
		}
		f := strings.Fields(text)
		return []dmTarget{{f[0], f[1:]}}, nil
	})
	const chunk = 64 << 10
	for minor, want := range map[uint32]thin{
		1: {chunk: chunk}, 2: {chunk: chunk, origin: true},
		10: {chunk: chunk}, 11: {chunk: chunk}, 12: {chunk: chunk, ragged: true}, 13: {chunk: chunk}, 14: {chunk: chunk, origin: true},
		31: {chunk: chunk, skipsZeroing: true}, 32: {chunk: chunk, skipsZeroing: true, ragged: true},
		0: {}, 15: {}, 16: {}, 17: {}, 18: {}, 19: {}, 20: {}, 21: {}, 40: {}, 41: {}, 99: {},
	} {
		if got, ok := table.thinBelow(unix.Mkdev(253, minor)); got != want || ok != (want.chunk > 0) {
			t.Errorf("253:%d: %+v, %v, want %+v", minor, got, ok, want)
		}
	}
	two := mapper(func(uint64) ([]dmTarget, error) {
		return []dmTarget{{"linear", []string{"253:1", "0"}}, {"linear", []string{"253:1", "2048"}}}, nil
	})
	if got, ok := two.thinBelow(unix.Mkdev(253, 0)); ok {
		t.Errorf("a device of two parts is %+v", got)
	}
}

func TestReadTargets(t *testing.T) {
	record := func(kind, args string, next uint32) []byte {
		spec := dmSpec{Next: next}
		copy(spec.Kind[:], kind)
		var b bytes.Buffer
		binary.Write(&b, binary.NativeEndian, &spec)
		return append(b.Bytes(), args...)
	}
	one := record("thin", "254:0 7\x00junk", 0)
	if got, err := readTargets(one, 1); err != nil || !reflect.DeepEqual(got, []dmTarget{{"thin", []string{"254:0", "7"}}}) {
		t.Errorf("%v, %v", got, err)
	}
	first := record("linear", "8:1 0\x00\x00\x00", 48)
	if got, err := readTargets(slices.Concat(first, one), 2); err != nil || len(got) != 2 || got[1].kind != "thin" {
		t.Errorf("two targets: %v, %v", got, err)
	}
	for name, bad := range map[string][]byte{"nothing": nil, "half a record": one[:20], "beyond the end": record("thin", "", 1<<31)} {
		if got, err := readTargets(bad, 2); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if _, err := dmTable(0); err == nil {
		t.Error("device 0:0 has a table")
	}
}
