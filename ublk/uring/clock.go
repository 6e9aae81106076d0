package uring

import "time"

// standstill is what a thread may be late by, in its turn or after a wait, before that is no longer its own work and the kernel's
// timers, but a thread that has got no processor.
const standstill = 50 * time.Millisecond

// clock is the ring's own time. It advances while the owner waits, and while it works; not while its thread stands still. A time
// limit that is measured by it gives whoever is waited for its whole time, and the owner the time to hear the answer.
type clock struct {
	now  time.Time // by this clock
	real time.Time // the same moment for everybody else
}

func newClock(real time.Time) clock { return clock{now: real, real: real} }

// worked counts a turn that ends now: what was prepared in it, the kernel gets only now.
func (c *clock) worked(real time.Time) {
	c.now = c.now.Add(min(real.Sub(c.real), standstill))
	c.real = real
}

// waited counts a wait that was to last left (less than 0: without end) and ends now. Of one that ended late it is not known since when the
// thread has stood still, and what takes several steps of its owner has not gone on meanwhile: half of it counts. Short ones do in full, so
// that a thread that is always late gets on.
func (c *clock) waited(left time.Duration, real time.Time) {
	d := real.Sub(c.real)
	if left >= 0 && d > left+standstill {
		if d = left; left > standstill {
			d = left / 2
		}
	}
	c.now = c.now.Add(d)
	c.real = real
}

// Now is the ring's clock: the moment when the last Wait ended its waiting; before the first one, when the ring was made. It is
// behind the clock of the system by the times for which its thread has stood still. What the kernel had posted by then has been delivered when Wait
// returns, and if the deadline has passed by then, so has everything else that had ended: it does not pass unnoticed by an answer that was there.
func (r *Ring) Now() time.Time { return r.clock.now }
