package writelog

import (
	"math/rand/v2"
	"slices"
)

// A Replay goes through a log: what its disk was at each moment, and what a power cut then could have left of it.
type Replay struct {
	log     *Log
	next    int
	durable []byte  // what no cut takes away
	pending []Entry // what was completed since the last FLUSH, in order
}

// Replay begins with a disk of zeroes.
func (l *Log) Replay(size int64) *Replay { return &Replay{log: l, durable: make([]byte, size)} }

// Step goes on by one entry and returns it; ok is false at the end.
func (r *Replay) Step() (e Entry, ok bool, err error) {
	if r.next == len(r.log.Entries) {
		return Entry{}, false, nil
	}
	e = r.log.Entries[r.next]
	r.next++
	if e.Is(Flush) {
		if err := r.settle(); err != nil {
			return e, false, err
		}
	}
	switch {
	case e.Is(Mark) || e.Len == 0:
	case e.Is(FUA) && !r.overlaps(e):
		err = r.log.Apply(r.durable, e)
	case e.Is(FUA): // after what it overwrites
		r.pending = append(r.pending, e)
		err = r.settle()
	default:
		r.pending = append(r.pending, e)
	}
	return e, err == nil, err
}

func (r *Replay) overlaps(e Entry) bool {
	return slices.ContainsFunc(r.pending, func(p Entry) bool { return p.Off < e.Off+e.Len && e.Off < p.Off+p.Len })
}

// settle makes all durable that is pending.
func (r *Replay) settle() error {
	for _, e := range r.pending {
		if err := r.log.Apply(r.durable, e); err != nil {
			return err
		}
	}
	r.pending = r.pending[:0]
	return nil
}

// Durable is the part of the disk that no cut takes away. It changes with the next Step.
func (r *Replay) Durable() []byte { return r.durable }

// Cut is a disk as a power cut could leave it now: of what is not durable all, some or nothing is there.
func (r *Replay) Cut(rnd *rand.Rand) ([]byte, error) {
	disk := slices.Clone(r.durable)
	odds := []float64{0, 0.5, 0.9, 1}[rnd.IntN(4)]
	for _, e := range r.pending {
		if rnd.Float64() < odds {
			if err := r.log.Apply(disk, e); err != nil {
				return nil, err
			}
		}
	}
	return disk, nil
}
