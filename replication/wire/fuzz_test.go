package wire

import (
	"bytes"
	"testing"

	"github.com/urbd/urbd/scripts/fuzztest"
)

// Bytes that decode encode to the same bytes, but for pads, which come back as
// zero; whatever the bytes, nothing panics. One target per layout; the golden
// bytes of all packets are the seeds.

func FuzzBlockData(f *testing.F)     { fuzzPacket(f, CmdData) }
func FuzzTrimBlock(f *testing.F)     { fuzzPacket(f, CmdTrim) }
func FuzzBlockReq(f *testing.F)      { fuzzPacket(f, CmdRSDataRequest) }
func FuzzBlockAck(f *testing.F)      { fuzzPacket(f, CmdWriteAck) }
func FuzzBlockDesc(f *testing.F)     { fuzzPacket(f, CmdOutOfSync) }
func FuzzBarrier(f *testing.F)       { fuzzPacket(f, CmdBarrier) }
func FuzzBarrierAck(f *testing.F)    { fuzzPacket(f, CmdBarrierAck) }
func FuzzState(f *testing.F)         { fuzzPacket(f, CmdState) }
func FuzzStateChgReq(f *testing.F)   { fuzzPacket(f, CmdStateChgReq) }
func FuzzStateChgReply(f *testing.F) { fuzzPacket(f, CmdStateChgReply) }
func FuzzUUIDs(f *testing.F)         { fuzzPacket(f, CmdUUIDs) }
func FuzzSyncUUID(f *testing.F)      { fuzzPacket(f, CmdSyncUUID) }
func FuzzProtocol(f *testing.F)      { fuzzPacket(f, CmdProtocol) }
func FuzzSyncParam89(f *testing.F)   { fuzzPacket(f, CmdSyncParam89) }
func FuzzSizes(f *testing.F)         { fuzzPacket(f, CmdSizes) }
func FuzzFeatures(f *testing.F)      { fuzzPacket(f, CmdConnectionFeatures) }
func FuzzDelayProbe(f *testing.F)    { fuzzPacket(f, CmdDelayProbe) }

func fuzzPacket(f *testing.F, c Cmd) {
	fuzztest.Begin(f)
	for _, g := range golden {
		if g.body != nil {
			f.Add(g.body.Append(nil))
		}
	}
	f.Add(Sizes{}.AppendShort(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		kept := bytes.Clone(b)
		text := Format(c, b)
		got, want, err := recode(c, b)
		if !bytes.Equal(b, kept) {
			t.Fatalf("decoding changed its input")
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%x\ncomes back as\n%x (%s)", want, got, text)
		}
	})
}

func FuzzHeader(f *testing.F) {
	fuzztest.Begin(f)
	for _, g := range golden {
		f.Add(unhex(f, g.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := DecodeHeader80(b); err == nil {
			if back := AppendHeader80(nil, h); !bytes.Equal(back, b[:HeaderLen80]) {
				t.Fatalf("%x comes back as %x", b, back)
			}
			checkRead(t, h)
		}
		if h, err := DecodeHeader100(b); err == nil {
			if back := AppendHeader100(nil, h); !bytes.Equal(back, b[:HeaderLen100]) {
				t.Fatalf("%x comes back as %x", b, back)
			}
			checkRead(t, h)
		}
	})
}

// checkRead is what a receiver relies on once a header has passed.
func checkRead(t *testing.T, h Header) {
	for _, sock := range []Socket{DataSock, MetaSock} {
		if CheckLength(sock, h) != nil {
			continue
		}
		if h.Length > lenBlockData+MaxDigest+MaxRequest {
			t.Fatalf("%v passes", h)
		}
		if n := h.DecodeLen(); n < 0 || n > int(h.Length) || n > lenSyncParam {
			t.Fatalf("%v has %d bytes to decode", h, n)
		}
	}
	for d := NoDigest; d <= SHA512; d++ {
		if n, err := BlockLen(h, d.Size()); err == nil && (n < 0 || n > MaxRequest || n%SectorSize != 0) {
			t.Fatalf("%v has a block of %d bytes", h, n)
		}
	}
}

// Any number with any bytes has a text.
func FuzzFormat(f *testing.F) {
	fuzztest.Begin(f)
	for _, g := range golden {
		f.Add(uint16(g.header.Cmd), unhex(f, g.bytes))
	}
	f.Fuzz(func(t *testing.T, c uint16, b []byte) {
		if Format(Cmd(c), b) == "" {
			t.Fatalf("%v of %x has no text", Cmd(c), b)
		}
	})
}
