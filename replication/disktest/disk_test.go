package disktest

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/urbd/urbd/replication/engine"
)

func newDisk(seed uint64) *Disk { return New(64<<10, rand.New(rand.NewPCG(seed, 1))) }

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

func write(d *Disk, off int64, b []byte, fua bool) {
	d.Start(engine.DiskIO{Op: engine.DiskWrite, Off: off, Len: int64(len(b)), Data: b, FUA: fua}).Finish()
}

func flush(d *Disk) { d.Start(engine.DiskIO{Op: engine.DiskFlush}).Finish() }

func content(d *Disk, off, n int64) []byte {
	b := make([]byte, n)
	d.ReadAt(b, off)
	return b
}

func TestFlushedAndFUASurvive(t *testing.T) {
	for seed := range uint64(50) {
		d := newDisk(seed)
		write(d, 0, fill(4096, 1), false)
		flush(d)
		write(d, 4096, fill(4096, 2), true)
		write(d, 8192, fill(4096, 3), false)
		d.PowerCut()
		if !bytes.Equal(content(d, 0, 4096), fill(4096, 1)) || !bytes.Equal(content(d, 4096, 4096), fill(4096, 2)) {
			t.Fatalf("seed %d: durable content is gone", seed)
		}
	}
}

func TestUnflushedTearsBySector(t *testing.T) {
	lost, kept, torn := 0, 0, 0
	for seed := range uint64(200) {
		d := newDisk(seed)
		write(d, 0, fill(4096, 7), false)
		d.PowerCut()
		sectors := 0
		for at := int64(0); at < 4096; at += SectorSize {
			switch s := content(d, at, SectorSize); {
			case bytes.Equal(s, fill(SectorSize, 7)):
				sectors++
			case !bytes.Equal(s, fill(SectorSize, 0)):
				t.Fatalf("seed %d: a sector was torn inside", seed)
			}
		}
		switch sectors {
		case 0:
			lost++
		case 8:
			kept++
		default:
			torn++
		}
	}
	if lost == 0 || kept == 0 || torn == 0 {
		t.Errorf("lost %d, kept %d, torn %d: each has to happen", lost, kept, torn)
	}
}

func TestFUABeatsOlderCachedWrite(t *testing.T) {
	for seed := range uint64(50) {
		d := newDisk(seed)
		write(d, 0, fill(1024, 1), false)
		write(d, 512, fill(512, 2), true)
		d.PowerCut()
		if !bytes.Equal(content(d, 512, 512), fill(512, 2)) {
			t.Fatalf("seed %d: an older write came back over a durable one", seed)
		}
	}
}

func TestFlushCoversWhatWasFinishedBeforeIt(t *testing.T) {
	kept := 0
	for seed := range uint64(50) {
		d := newDisk(seed)
		f := d.Start(engine.DiskIO{Op: engine.DiskFlush})
		write(d, 0, fill(512, 1), false)
		f.Finish()
		if !d.IsVolatile(0, 512) {
			t.Fatal("a flush covered a write that was finished after its start")
		}
		d.PowerCut()
		if content(d, 0, 1)[0] == 1 {
			kept++
		}
	}
	if kept == 50 {
		t.Error("a write that was never flushed always survived")
	}
}

func TestFlightIsSeenOnlyWhenFinished(t *testing.T) {
	d := newDisk(1)
	b := fill(512, 9)
	f := d.Start(engine.DiskIO{Op: engine.DiskWrite, Len: 512, Data: b})
	if content(d, 0, 1)[0] != 0 {
		t.Error("a reader sees a write in flight")
	}
	f.Own()
	b[0] = 1 // the owner died and its memory is used again
	f.Finish()
	if content(d, 0, 1)[0] != 9 {
		t.Error("the device did not finish the write of a dead owner")
	}
	d.Start(engine.DiskIO{Op: engine.DiskZero, Len: 512}).Drop()
	if content(d, 0, 1)[0] != 9 || d.InFlight() != 0 {
		t.Error("a dropped flight has happened")
	}
}

func TestTouchedMemoryIsABug(t *testing.T) {
	d := newDisk(1)
	b := fill(512, 9)
	f := d.Start(engine.DiskIO{Op: engine.DiskWrite, Len: 512, Data: b})
	b[100] = 1
	defer func() {
		if recover() == nil {
			t.Error("a write whose memory was changed in flight went through")
		}
	}()
	f.Finish()
}

func TestRules(t *testing.T) {
	d := newDisk(1)
	r := &Rule{Op: engine.DiskWrite, Off: 4096, Len: 4096, Skip: 1, Count: 2, Errno: engine.EIO}
	d.Fail(r)
	var got []engine.Errno
	for range 4 {
		got = append(got, d.Start(engine.DiskIO{Op: engine.DiskWrite, Off: 4096, Len: 512, Data: fill(512, 1)}).Finish())
	}
	if got[0] != 0 || got[1] != engine.EIO || got[2] != engine.EIO || got[3] != 0 || r.Hits != 2 {
		t.Errorf("got %v, %d hits; want one pass, two failures, one pass", got, r.Hits)
	}
	if err := d.Start(engine.DiskIO{Op: engine.DiskWrite, Off: 0, Len: 512, Data: fill(512, 1)}).Finish(); err != 0 {
		t.Error("a rule fired outside of its range")
	}
	d.Fail(&Rule{Op: engine.DiskFlush, Errno: engine.ENOSPC})
	if err := d.Start(engine.DiskIO{Op: engine.DiskFlush}).Finish(); err != engine.ENOSPC {
		t.Errorf("flush: %d", err)
	}
	d.Heal()
	if err := d.Start(engine.DiskIO{Op: engine.DiskFlush}).Finish(); err != 0 {
		t.Errorf("flush after Heal: %d", err)
	}
}

// TestModel compares the disk with a list of the versions that each sector may have.
func TestModel(t *testing.T) {
	const sectors = 32
	rapid.Check(t, func(t *rapid.T) {
		d := New(sectors*SectorSize, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2)))
		may := make([][]byte, sectors) // the last one is what a reader sees
		for i := range may {
			may[i] = []byte{0}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				off := rapid.IntRange(0, sectors-1).Draw(t, "off")
				n := rapid.IntRange(1, min(8, sectors-off)).Draw(t, "n")
				v, fua := byte(rapid.IntRange(0, 255).Draw(t, "v")), rapid.Bool().Draw(t, "fua")
				write(d, int64(off)*SectorSize, fill(n*SectorSize, v), fua)
				for i := off; i < off+n; i++ {
					if fua {
						may[i] = nil
					}
					may[i] = append(may[i], v)
				}
			},
			"flush": func(*rapid.T) {
				flush(d)
				for i, m := range may {
					may[i] = m[len(m)-1:]
				}
			},
			"cut": func(t *rapid.T) {
				d.PowerCut()
				for i, m := range may {
					v := content(d, int64(i)*SectorSize, 1)[0]
					if !bytes.Contains(m, []byte{v}) {
						t.Fatalf("sector %d has %d after a power cut, it may have %v", i, v, m)
					}
					may[i] = []byte{v}
				}
			},
			"": func(t *rapid.T) {
				for i, m := range may {
					off := int64(i) * SectorSize
					if v := content(d, off, SectorSize); !bytes.Equal(v, fill(SectorSize, m[len(m)-1])) {
						t.Fatalf("sector %d reads %d, want %d", i, v[0], m[len(m)-1])
					}
					if len(m) > 1 && !d.IsVolatile(off, SectorSize) {
						t.Fatalf("sector %d is not volatile with versions %v", i, m)
					}
				}
			},
		})
	})
}
