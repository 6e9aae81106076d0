package disktest

import "github.com/urbd/urbd/replication/engine"

// A Rule makes I/Os fail. It looks at those of its operation that touch its
// range; of these it lets Skip pass, and fails the next Count, each with the
// chance Chance.
type Rule struct {
	Op       engine.DiskOp
	Off, Len int64 // range in bytes; Len 0: the whole disk. Of no meaning for a flush
	Skip     int
	Count    int     // 0: all
	Chance   float64 // 0: always
	Errno    engine.Errno
	Torn     bool // a write that fails leaves a random part of its sectors

	Hits int // I/Os that it made fail
}

// Fail adds a rule. Rules are asked in the order in which they were added.
func (d *Disk) Fail(r *Rule) { d.rules = append(d.rules, r) }

// Heal removes all rules.
func (d *Disk) Heal() { d.rules = nil }

func (d *Disk) verdict(io engine.DiskIO) (err engine.Errno, torn bool) {
	for _, r := range d.rules {
		if r.applies(io) && r.fires(d) {
			return r.Errno, r.Torn
		}
	}
	return engine.OK, false
}

func (r *Rule) applies(io engine.DiskIO) bool {
	if r.Op != io.Op {
		return false
	}
	return r.Len == 0 || io.Op == engine.DiskFlush || io.Off < r.Off+r.Len && r.Off < io.Off+io.Len
}

func (r *Rule) fires(d *Disk) bool {
	if r.Skip > 0 {
		r.Skip--
		return false
	}
	if r.Count > 0 && r.Hits >= r.Count || r.Chance > 0 && d.rng.Float64() >= r.Chance {
		return false
	}
	r.Hits++
	return true
}

// Spoilt reports whether a rule may still make an I/O fail.
func (d *Disk) Spoilt() bool {
	for _, r := range d.rules {
		if r.Count == 0 || r.Hits < r.Count {
			return true
		}
	}
	return false
}
