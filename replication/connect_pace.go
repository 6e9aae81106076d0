package replication

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Pauses before an attempt to connect.
const (
	restart    = 1 * time.Second        // after an attempt that failed with the peer there (docs/drbd-wire.md 4.3)
	firstPause = 100 * time.Millisecond // after a connection that did not last
)

// meeting is how far the last connection came.
type meeting uint8

const (
	noMeeting  meeting = iota
	introduced         // the sockets were handed over, and the handshake has begun
	agreed             // the handshake of a volume has ended well
)

// pace is how long to wait before the next attempt to connect:
//
//	the last connection lasted for a second         not at all
//	it ended sooner after the handshake             0.1 s, doubling up to 1 s
//	it ended in the handshake                       0.1 s, doubling up to connect-int
//	the peer is there and does not know the secret  1 s, doubling up to connect-int
//
// So whoever comes to the peer's address with the wrong words costs little, and the right ones are heard in a bounded
// time. It is safe from any goroutine.
type pace struct {
	most time.Duration // connect-int, or restart if that is more

	mu    sync.Mutex
	pause time.Duration // the last one
	met   meeting
	at    time.Time // of agreed
}

func newPace(connectInterval time.Duration) *pace { return &pace{most: max(connectInterval, restart)} }

// begin ends the story of the last connection; it returns the pause before the search for the next one, and whether the
// last one was one to be suspicious of.
func (p *pace) begin() (pause time.Duration, suspicious bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	met := p.met
	p.met = noMeeting
	switch {
	case met == introduced:
		return p.grow(firstPause, p.most), true
	case met == agreed && time.Since(p.at) < restart: // a peer whose daemon was killed is back at once: it must not find nobody
		return p.grow(firstPause, restart), false
	}
	p.pause = 0
	return 0, false
}

// failed is the pause after an attempt that the peer has spoilt.
func (p *pace) failed() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.grow(restart, p.most)
}

func (p *pace) grow(least, most time.Duration) time.Duration {
	p.pause = min(max(2*p.pause, least), most)
	return p.pause
}

// meet says how far a connection has come.
func (p *pace) meet(m meeting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.met = m
	if m == agreed {
		p.at = time.Now()
	}
}

// reset begins anew: somebody has ordered it.
func (p *pace) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause, p.met = 0, noMeeting
}

// jitter spreads d by a seventh up and down, so that two nodes that start together drift apart (docs/drbd-wire.md 4.3).
func jitter(d time.Duration) time.Duration {
	return d - d/7 + rand.N(2*d/7+1)
}
