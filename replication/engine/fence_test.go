package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// A pause while the Target waits for the last answer of the Source does not keep
// the resync from ending afterwards.
func TestFencePaused(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.settle(time.Second)
	p.write(p.a, 1<<20, bytes.Repeat([]byte{1}, 64<<10))
	p.b.mute[MetaSock] = true // the answer to the last ping is under way
	p.b.e.Command(p.now, 100, Connect{})
	p.settle(300 * time.Millisecond) // less than a ping may take
	if !p.b.e.vols[0].resync.fencing {
		t.Fatalf("the Target does not wait for the Source\n%s", p.story())
	}
	p.b.e.Command(p.now, 101, PauseSync{On: true})
	p.settle(0)
	p.b.mute[MetaSock] = false
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary PausedSyncT Inconsistent/UpToDate user_isp")
	p.must(p.b, PauseSync{On: false})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
}

// What a former resync waited for, in the same connection, does not end the next one:
// the flush of that one is not done yet.
func TestFenceOfFormerResync(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.settle(time.Second)
	p.write(p.a, 1<<20, bytes.Repeat([]byte{1}, 64<<10))
	p.b.mute[MetaSock] = true
	p.b.e.Command(p.now, 100, Connect{})
	p.settle(200 * time.Millisecond)
	p.b.e.Command(p.now, 101, Detach{Force: true})
	p.settle(0)
	p.b.e.Command(p.now, 102, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20, Flush: true})
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskFlush && p.b.e.vols[0].resync.fencing }
	p.settle(0)
	p.want(p.b, "Secondary/Primary SyncTarget Inconsistent/UpToDate")
	if len(p.b.held) != 1 {
		t.Fatalf("%d flushes are held\n%s", len(p.b.held), p.story())
	}
	p.b.mute[MetaSock] = false
	p.settle(0)
	p.want(p.b, "Secondary/Primary SyncTarget Inconsistent/UpToDate")
	p.b.release()
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	p.equal()
}

// A ping that was under way before does not open a fence: what it says of is older than what is waited for.
func TestFenceBehindAPing(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.a.mute[MetaSock] = true
	e := p.a.e
	e.ping()
	e.fence(lifeFence, e.vols[0], 0)
	if e.pingAck(); len(e.conn.fences) != 1 {
		t.Fatal("the answer to the ping before opens the fence")
	}
	if e.pingAck(); len(e.conn.fences) != 0 {
		t.Fatal("the answer to its own ping does not open the fence")
	}
}

// A block that is marked while the Target waits for the last answer of the Source is copied before the disk is good.
func TestBlockMarkedBehindTheFence(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.settle(time.Second)
	p.write(p.a, 1<<20, bytes.Repeat([]byte{1}, 64<<10))
	p.b.mute[MetaSock] = true
	p.b.e.Command(p.now, 100, Connect{})
	p.settle(300 * time.Millisecond)
	v := p.b.e.vols[0]
	if !v.resync.fencing {
		t.Fatalf("the Target does not wait for the Source\n%s", p.story())
	}
	p.b.e.Receive(p.now, DataSock, framed(wire.CmdOutOfSync, wire.BlockDesc{Sector: 8, Size: 4096}.Append(nil), 0))
	p.b.mute[MetaSock] = false
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary Connected UpToDate/UpToDate")
	if v.bm.Count() != 0 {
		t.Errorf("%d bits are left", v.bm.Count())
	}
}
