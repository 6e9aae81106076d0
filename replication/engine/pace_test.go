package engine

import (
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// TestBucketCountsFractions: a bucket that is looked at every microsecond fills as fast as its rate says.
func TestBucketCountsFractions(t *testing.T) {
	const rate = 250 << 10
	var b bucket
	b.refill(1, rate, 2*rate)
	b.tokens = 0
	for now := time.Duration(1); now <= time.Second; now += time.Microsecond {
		b.refill(now, rate, 2*rate)
	}
	if b.tokens < rate*99/100 || b.tokens > rate*101/100 {
		t.Errorf("%d bytes after a second, want %d", b.tokens, rate)
	}
	if b.refill(time.Minute, rate, 2*rate); b.tokens != 2*rate {
		t.Errorf("%d bytes after a minute, want the limit of %d", b.tokens, 2*rate)
	}
}

// slowSource is a pair where the Primary a has what b lacks, blocks that do not touch, and
// whose disk does not answer the resync's reads. The resync has begun.
func slowSource(t *testing.T, minRate int64, blocks int64) *pair {
	t.Helper()
	p := newPair(t, 64<<20, NetOptions{})
	p.a.e.vols[0].cfg.Disk.MinRate = minRate
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.settle(time.Second)
	for i := range blocks {
		p.write(p.a, i*2*4096, make([]byte, 4096))
	}
	p.settle(time.Second)
	p.a.hold = func(io DiskIO) bool { return io.Op == DiskRead && !io.Meta && io.Off < 2*4096*blocks }
	return p
}

// connect brings the pair together; an application uses the disk meanwhile.
func (p *pair) connectBusy(app func()) {
	p.t.Helper()
	p.b.e.Command(p.now, 600, Connect{})
	for range 400 {
		app()
		p.settle(5 * time.Millisecond)
		if p.a.e.State(0).Conn == sm.SyncSource && len(p.a.held) > 0 {
			break
		}
	}
	for range 20 {
		app()
		p.settle(5 * time.Millisecond)
	}
	if st := p.a.e.State(0); st.Conn != sm.SyncSource || p.a.e.vols[0].pace.wanted.len() == 0 {
		p.t.Fatalf("%v, %d blocks wait\n%s", st, p.a.e.vols[0].pace.wanted.len(), p.story())
	}
}

// finishHeld ends the reads that are held now.
func (p *pair) finishHeld() {
	held := p.a.held
	p.a.held = nil
	for _, io := range held {
		copy(io.Data, p.a.disk[io.Off:io.Off+io.Len])
		p.a.e.DiskDone(p.now, io.Token, OK)
	}
}

// TestResyncYields: while an application uses the Source's disk, blocks are served one
// at a time, but for what c-min-rate allows; without c-min-rate all at once, as without an application.
func TestResyncYields(t *testing.T) {
	const slow = 1 << 10 // a rate that lets no second block through here
	far := int64(60 << 20)
	writes := func(p *pair) {
		p.a.e.Submit(p.now, &Request{Op: OpWrite, Off: far, Len: 4096, Data: make([]byte, 4096)})
	}
	reads := func(p *pair) {
		p.a.e.Submit(p.now, &Request{Op: OpRead, Off: far, Len: 4096, Data: make([]byte, 4096)})
	}
	for _, tc := range []struct {
		name string
		rate int64
		app  func(p *pair)
		many bool
	}{
		{"writes", slow, writes, false},
		{"reads", slow, reads, false},
		{"idle", slow, func(*pair) {}, true},
		{"no c-min-rate", -1, writes, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := slowSource(t, tc.rate, 100)
			if tc.many {
				p.b.e.Command(p.now, 600, Connect{})
				for range 400 {
					tc.app(p)
					p.settle(5 * time.Millisecond)
				}
			} else {
				p.connectBusy(func() { tc.app(p) })
			}
			if n := len(p.a.held); tc.many && n < 50 || !tc.many && (n < 1 || n > 2) {
				t.Fatalf("%d blocks are read at once, many: %v\n%s", n, tc.many, p.story())
			}
		})
	}
}

// TestResyncYieldsToPeersApplication: the application may also be on the Target.
func TestResyncYieldsToPeersApplication(t *testing.T) {
	p := slowSource(t, 1<<10, 100)
	p.must(p.a, Demote{})
	p.b.e.Command(p.now, 599, Connect{})
	p.settle(2 * time.Second)
	p.must(p.b, Promote{})
	v := p.a.e.vols[0]
	for name, r := range map[string]*Request{
		"write":                 {Op: OpWrite, Off: 60 << 20, Len: 4096, Data: make([]byte, 4096)},
		"read of what it lacks": {Op: OpRead, Off: 99 * 8192, Len: 4096, Data: make([]byte, 4096)},
		"discard":               {Op: OpDiscard, Off: 60 << 20, Len: 4096},
	} {
		v.pace.appAt = 0
		p.b.e.Submit(p.now, r)
		p.settle(0)
		if v.pace.appAt == 0 {
			t.Errorf("a %s of the peer's application does not count\n%s", name, p.story())
		}
	}
}

// TestMinRate: scattered blocks of 4 KiB from a disk that takes 50 ms for a read, under
// an application that writes all the time, come with c-min-rate.
func TestMinRate(t *testing.T) {
	const rate = 250 << 10
	p := slowSource(t, rate, 2000)
	app := func() { p.a.e.Submit(p.now, &Request{Op: OpWrite, Off: 60 << 20, Len: 4096, Data: make([]byte, 4096)}) }
	p.connectBusy(app)
	v := p.a.e.vols[0]
	left := v.bm.Count()
	for range 100 { // 5 s
		for range 5 {
			app()
			p.settle(10 * time.Millisecond)
		}
		p.finishHeld()
	}
	p.settle(0)
	if got := (left - v.bm.Count()) * 4096 / 5; got < rate*9/10 || got > rate*3/2 {
		t.Fatalf("%d KiB/s while the application works, c-min-rate is %d", got>>10, rate>>10)
	}
}

// TestMinRateNeedsNoEvent: the next block has its turn when it is time, also if nothing else happens.
func TestMinRateNeedsNoEvent(t *testing.T) {
	p := slowSource(t, 1<<10, 100)
	p.connectBusy(func() { p.a.e.Submit(p.now, &Request{Op: OpWrite, Off: 60 << 20, Len: 4096, Data: make([]byte, 4096)}) })
	p.settle(2 * yieldTime) // the application has stopped
	if n := len(p.a.held); n < 50 {
		t.Fatalf("%d blocks are read, and the application does nothing\n%s", n, p.story())
	}
}

// TestReadsPassBlocks: a read of the peer's application does not wait behind blocks of
// the resync that have not their turn.
func TestReadsPassBlocks(t *testing.T) {
	p := slowSource(t, 1<<10, 100)
	p.connectBusy(func() { p.a.e.Submit(p.now, &Request{Op: OpWrite, Off: 60 << 20, Len: 4096, Data: make([]byte, 4096)}) })
	e := p.a.e
	before := len(p.a.held)
	if err := e.peerRead(e.vols[0], take, serveRead, wire.BlockReq{Sector: wire.SectorOf(99 * 8192), BlockID: 1, Size: 4096}); err != nil {
		t.Fatal(err)
	}
	p.work(p.a)
	if len(p.a.held) != before+1 || p.a.held[before].Off != 99*8192 {
		t.Fatalf("%d reads are under way, want %d with that of the application", len(p.a.held), before+1)
	}
}
