package lab

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/urbd/urbd/bitmap"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/scripts/vm/writelog"
)

// logOf is the log of log-writes after some writes; every one is followed by a FLUSH if its name says so.
type logOf struct {
	bytes.Buffer
	entries uint64
}

func (l *logOf) add(off int64, data []byte, flags uint64) {
	head := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint64(head, uint64(off/512))
	le.PutUint64(head[8:], uint64(len(data)/512))
	le.PutUint64(head[16:], flags)
	l.Write(head)
	l.Write(data)
	l.entries++
}

func (l *logOf) read(t *testing.T) *writelog.Log {
	head := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint64(head, 0x6a736677736872)
	le.PutUint64(head[8:], 1)
	le.PutUint64(head[16:], l.entries)
	le.PutUint32(head[24:], 512)
	log, err := writelog.Read(bytes.NewReader(append(head, l.Bytes()...)))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// TestMomentsCovered writes data before, and after, the transaction that names its extent is durable.
func TestMomentsCovered(t *testing.T) {
	const size = 64 << 20
	layout, err := metadata.Place(metadata.Internal, 0, size, size)
	if err != nil {
		t.Fatal(err)
	}
	sb := metadata.New(layout, 1)
	sb.Flags |= metadata.PrimaryInd
	block := make([]byte, metadata.BlockSize)
	sb.Encode(block)
	transaction := make([]byte, metadata.BlockSize)
	metadata.EncodeTransaction(transaction, 0, bitmap.Transaction{Updates: []bitmap.Update{{Slot: 0, Extent: 2}}, Slots: 1})
	ring := make([]byte, int64(layout.ALBlocks())*metadata.BlockSize)
	for at := 0; at < len(ring); at += metadata.BlockSize {
		metadata.EncodeInit(ring[at:][:metadata.BlockSize])
	}
	data := make([]byte, 8192)
	for _, c := range []struct {
		name string
		off  int64
		when uint64 // how the transaction is written
		want string
	}{
		{"in the extent, after a FUA", 8 << 20, writelog.FUA, ""},
		{"in the extent, before the FLUSH", 8 << 20, 0, "extent 2 was not in the durable"},
		{"in another extent", 20 << 20, writelog.FUA, "extent 5 was not"},
		{"across its end", 12<<20 - 4096, writelog.FUA, "extent 3 was not"},
	} {
		l := &logOf{}
		l.add(layout.Superblock, block, writelog.FUA)
		l.add(layout.AL, ring, writelog.FUA)
		l.add(layout.ALBlockOffset(0), transaction, c.when)
		l.add(c.off, data, 0)
		m, err := NewMoments(l.read(t), size)
		if err != nil {
			t.Fatal(err)
		}
		for ok := true; ok && err == nil; {
			ok, err = m.Step()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
