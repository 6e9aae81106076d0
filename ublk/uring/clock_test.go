package uring

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClock(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name               string
		worked             time.Duration // the turn
		left, waited, want time.Duration // what the wait was to last at most, how long it did, and what counts of both
	}{
		{"an answer in time", 1 * ms, 1000 * ms, 300 * ms, 301 * ms},
		{"the deadline", 1 * ms, 1000 * ms, 1000 * ms, 1001 * ms},
		{"a timer that is late", 1 * ms, 1000 * ms, 1040 * ms, 1041 * ms},
		{"no deadline", 1 * ms, -1, 9000 * ms, 9001 * ms},
		{"a thread that stood still in its turn", 5000 * ms, 1000 * ms, 300 * ms, 350 * ms},
		{"or at its end, in the system call", 1 * ms, 0, 5000 * ms, 1 * ms},
		{"or in its wait, nobody knows since when", 1 * ms, 1000 * ms, 5000 * ms, 501 * ms},
		{"or in a short one", 1 * ms, 40 * ms, 5000 * ms, 41 * ms},
	} {
		began := time.Now()
		k := newClock(began)
		k.worked(began.Add(c.worked))
		k.waited(c.left, began.Add(c.worked+c.waited))
		if got := k.now.Sub(began); got != c.want {
			t.Errorf("%s: %v count, want %v", c.name, got, c.want)
		}
	}
}

// A thread that is late each time it waits for a deadline comes to it all the same.
func TestClockOfALateThread(t *testing.T) {
	real := time.Now()
	k := newClock(real)
	end := real.Add(10 * time.Minute)
	rounds := 0
	for ; k.now.Before(end); rounds++ {
		left := end.Sub(k.now)
		real = real.Add(left + time.Second)
		k.waited(left, real)
	}
	if rounds > 20 {
		t.Errorf("the deadline of ten minutes has passed after %d waits", rounds)
	}
}

// What had ended when a deadline passed is delivered with it, however much it is.
func TestDeadlineDeliversEverything(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		const n = 200
		var got [n]result
		var in [n]int
		for i := range n {
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(p[0])
			defer unix.Close(p[1])
			in[i] = p[1]
			r.Prep(Read(FD(p[0]), make([]byte, 1), 0), &got[i], 0)
		}
		if k, err := r.Wait(r.Now()); k != 0 || err != nil {
			t.Fatal(k, err)
		}
		for i := range in {
			unix.Write(in[i], []byte{1})
		}
		if k, err := r.Wait(r.Now()); k != n || err != nil {
			t.Errorf("%d of %d are delivered, %v", k, n, err)
		}
		await(t, r, func() bool { return r.InFlight() == 0 })
	})
}

// What is prepared in a turn that stands still is given its whole time.
func TestTurnThatStandsStill(t *testing.T) {
	each(t, Config{}, func(t *testing.T, r *Ring) {
		limit := r.Now().Add(300 * time.Millisecond)
		var got result
		r.Prep(Timeout(100*time.Millisecond), &got, 0)
		<-time.After(600 * time.Millisecond)
		if k, err := r.Wait(limit); k != 1 || err != nil || !r.Now().Before(limit) {
			t.Errorf("%d, %v, %v before the limit", k, err, limit.Sub(r.Now()))
		}
	})
}
