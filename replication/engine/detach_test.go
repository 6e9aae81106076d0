package engine

import (
	"testing"
	"time"

	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/replication/wire"
)

// A disk that is let go in order is what it was: that it has become UpToDate may be on its way to the metadata, behind the bitmap.
func TestDetachWaitsForTheMetadata(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.up()
	p.b.hold = func(io DiskIO) bool { return io.Meta }
	p.must(p.a, NewCurrentUUID{ClearBitmap: true})
	p.want(p.b, "Secondary/Secondary Connected UpToDate/UpToDate")
	p.must(p.a, Disconnect{Force: true})
	p.b.e.Command(p.now, 100, Detach{})
	p.settle(0)
	if len(p.b.held) == 0 {
		t.Fatalf("nothing is on its way\n%s", p.story())
	}
	if _, ok := p.b.reply[100]; ok {
		t.Fatalf("answered, and the metadata is not written\n%s", p.story())
	}
	p.b.hold = nil
	for _, io := range p.b.held {
		if io.Op == DiskWrite {
			copy(p.b.disk[io.Off:], io.Data[:io.Len])
		}
		p.b.e.DiskDone(p.now, io.Token, OK)
	}
	p.settle(0)
	if err, ok := p.b.reply[100]; !ok || err != nil {
		t.Fatalf("detach: answered %v, %v\n%s", ok, err, p.story())
	}
	p.must(p.b, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.want(p.b, "Secondary/Unknown WFConnection UpToDate/DUnknown")
}

// What cannot be is refused at once.
func TestDetachIsRefusedWhileTheMetadataIsWritten(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.a.hold = func(io DiskIO) bool { return io.Meta }
	p.a.e.Command(p.now, 100, Promote{Force: true})
	p.settle(0)
	p.want(p.a, "Primary/Unknown StandAlone UpToDate/DUnknown")
	p.a.e.Command(p.now, 101, Detach{})
	p.settle(0)
	if _, promoted := p.a.reply[100]; promoted || p.a.reply[101] == nil {
		t.Fatalf("the last good disk is let go: %v\n%s", p.a.reply, p.story())
	}
}

// The Target of a resync asks to detach, and the last of the resync comes before the peer's consent: a disk that the peer writes without by then does not
// become UpToDate.
func TestResyncDoesNotEndWhileTheDetachIsAsked(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.b, Disconnect{Force: true})
	p.write(p.a, 0, filled(1, 4096))
	p.b.hold = func(io DiskIO) bool { return io.Op == DiskWrite && !io.Meta }
	p.b.e.Command(p.now, 99, Connect{})
	p.settle(time.Second)
	p.want(p.b, "Secondary/Primary SyncTarget Inconsistent/UpToDate")
	p.b.mute[MetaSock] = true
	p.releaseWrites(p.b) // the ping before the end of the resync is answered
	p.b.e.Command(p.now, 100, Detach{})
	p.settle(0)
	p.want(p.a, "Primary/Secondary Connected UpToDate/Failed")
	meta := p.b.wire[MetaSock]
	consent := len(meta) - wire.HeaderLen100 - 4
	p.b.e.Receive(p.now, MetaSock, meta[:consent])
	p.want(p.b, "Secondary/Primary SyncTarget Inconsistent/UpToDate")
	p.b.wire[MetaSock], p.b.mute[MetaSock] = meta[consent:], false
	p.settle(0)
	p.succeeded(p.b, 100)
	if got := p.onDisk(p.b); got != metadata.DiskInconsistent {
		t.Errorf("the disk is %v\n%s", got, p.story())
	}
}
