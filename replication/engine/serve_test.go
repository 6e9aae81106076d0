package engine

import (
	"bytes"
	"testing"
)

// The first write of a Primary whose disk has failed waits until the superblock of the other disk says that the activity
// log counts, also when its extent is in that log since long ago.
func TestHotWriteWaitsForSuperblock(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.inSync()
	p.must(p.a, Demote{})
	p.must(p.b, Promote{})
	p.write(p.b, 0, bytes.Repeat([]byte{1}, 4096))
	p.must(p.b, Demote{})
	p.must(p.a, Promote{})
	super := p.b.e.vols[0].layout.Superblock
	p.b.hold = func(io DiskIO) bool { return io.Meta && io.Op == DiskWrite && io.Off == super }
	p.a.fail = func(io DiskIO) Errno { return EIO }
	p.read(p.a, 0)
	p.settle(0)
	p.want(p.a, "Primary/Secondary Connected Diskless/UpToDate")
	r := &Request{Op: OpWrite, Len: 4096, Data: bytes.Repeat([]byte{2}, 4096)}
	p.a.e.Submit(p.now, r)
	p.settle(0)
	if p.b.disk[0] != 1 || p.a.done[r] || len(p.b.held) != 1 {
		t.Fatalf("the disk has %d, answered %v, %d superblocks are held\n%s", p.b.disk[0], p.a.done[r], len(p.b.held), p.story())
	}
	p.releaseWrites(p.b)
	if p.b.disk[0] != 2 || !p.a.done[r] || r.Err != OK {
		t.Fatalf("the disk has %d, answered %v, errno %d\n%s", p.b.disk[0], p.a.done[r], r.Err, p.story())
	}
}

// What a Primary without a disk has written is on the peer's disk alone, in a generation of which it may not have heard:
// the answer to the write is on meta, the generation on data. Its own disk is old from then on.
func TestGenerationNeverHeardOf(t *testing.T) {
	p := newPair(t, 8<<20, NetOptions{})
	p.servedUnwritten()
	p.a.mute[DataSock] = true
	p.write(p.a, 0, bytes.Repeat([]byte{1}, 4096))
	p.a.wire[DataSock], p.a.mute[DataSock] = nil, false
	p.must(p.b, Disconnect{Force: true})
	p.want(p.a, "Primary/Unknown WFConnection Diskless/DUnknown")
	if err := p.do(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20}); err == nil {
		t.Fatalf("a disk without the last write is in use\n%s", p.story())
	}
	p.must(p.a, Demote{})
	p.must(p.a, Attach{BackingSize: 8 << 20, MetaSize: 8 << 20})
	p.must(p.b, Connect{})
	p.inSyncAgain()
	if p.a.disk[0] != 1 {
		t.Fatalf("the write is lost\n%s", p.story())
	}
}
