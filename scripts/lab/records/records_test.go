package records

import (
	"bytes"
	"strings"
	"testing"
)

// written is an area after the writes of runs, in their order.
func written(p Plan, runs ...Run) []byte {
	area := make([]byte, p.Blocks*BlockSize)
	for _, r := range runs {
		for w := r.First; w <= r.Last; w++ {
			at := p.Block(r.Worker, w) * BlockSize
			p.Fill(area[at:at+BlockSize], r.Worker, w)
		}
	}
	return area
}

func TestWorkersKeepApart(t *testing.T) {
	for _, sequential := range []bool{false, true} {
		p := Plan{Seed: 3, Workers: 4, Blocks: 64, Sequential: sequential}
		seen := map[int64]bool{}
		for worker := range p.Workers {
			for w := uint64(1); w < 500; w++ {
				at := p.Block(worker, w)
				if at < 0 || at >= p.Blocks || at%4 != int64(worker) {
					t.Fatalf("write %d of worker %d goes to block %d", w, worker, at)
				}
				seen[at] = true
			}
		}
		if len(seen) != int(p.Blocks) {
			t.Errorf("sequential %v: %d of %d blocks are written", sequential, len(seen), p.Blocks)
		}
	}
}

func TestFloor(t *testing.T) {
	p := Plan{Seed: 9, Workers: 2, Blocks: 150} // two pieces and a part
	runs := []Run{{0, 1, 600}, {1, 1, 480}, {0, 1001, 1050}}
	floor := Floor{}
	for _, r := range runs {
		floor.Raise(p, r)
	}
	whole := written(p, runs...)
	later := written(p, append(runs, Run{1, 481, 720})...) // what was written and not confirmed
	for _, c := range []struct {
		name string
		area []byte
		want string // in the complaint; "" is none
	}{
		{"as written", whole, ""},
		{"unconfirmed writes are there", later, ""},
		{"torn between two writes", torn(whole, later), ""},
		{"a confirmed write is lost", written(p, runs[0], runs[1]), "had been confirmed"},
		{"a sector is zeroes", wiped(whole, p.Block(0, 1050)*BlockSize+SectorSize), "holds write 0"},
		{"a bit is wrong", flipped(whole, p.Block(1, 480)*BlockSize+200), "holds no record"},
		{"a bit at the end is wrong", flipped(whole, 150*BlockSize-1), "block 149, sector 7 holds no record"},
		{"blocks are exchanged", exchanged(whole), "belongs to block"},
		{"another run's", written(Plan{Seed: 8, Workers: 2, Blocks: 150}, runs...), "another run"},
	} {
		err := floor.Check(p, bytes.NewReader(c.area))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// torn has every other sector of b.
func torn(a, b []byte) []byte {
	out := bytes.Clone(a)
	for off := 0; off < len(a); off += 2 * SectorSize {
		copy(out[off:off+SectorSize], b[off:])
	}
	return out
}

func wiped(a []byte, off int64) []byte {
	out := bytes.Clone(a)
	clear(out[off : off+SectorSize])
	return out
}

func flipped(a []byte, off int64) []byte {
	out := bytes.Clone(a)
	out[off] ^= 1
	return out
}

func exchanged(a []byte) []byte {
	out := bytes.Clone(a)
	copy(out[:BlockSize], a[2*BlockSize:])
	copy(out[2*BlockSize:3*BlockSize], a)
	return out
}

func TestProgressLine(t *testing.T) {
	want := Progress{Answered: 812, Synced: 808}
	worker, got, err := ParseProgress(strings.TrimSpace(want.Line(3)))
	if worker != 3 || got != want || err != nil {
		t.Errorf("%d %+v %v", worker, got, err)
	}
	for _, line := range []string{"", "worker 1 2", "worker x 1 2", "other 1 2 3", "worker 1 2 -3"} {
		if _, _, err := ParseProgress(line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}
