package wire_test

import (
	"encoding/binary"
	"testing"

	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/replication/wire/wiretest"
)

// Both nodes of these recordings answered the challenge with the right secret,
// or B with a wrong one.
func TestRecordedAuthentication(t *testing.T) {
	right, wrong := []byte("correct-horse"), []byte("wrong-horse")
	for name, tc := range map[string]struct {
		alg     wire.Digest
		secrets map[wiretest.Node][]byte
	}{
		"05-auth-sha1":         {wire.SHA1, map[wiretest.Node][]byte{'A': right, 'B': right}},
		"05-auth-sha256":       {wire.SHA256, map[wiretest.Node][]byte{'A': right, 'B': right}},
		"05-auth-wrong-secret": {wire.SHA1, map[wiretest.Node][]byte{'A': right, 'B': wrong}},
	} {
		rec := read(t, "testdata/"+name+".pcap.gz")
		asked := map[wiretest.Node][]byte{}
		answers := 0
		for _, ev := range packets(rec) {
			switch ev.Header.Cmd {
			case wire.CmdAuthChallenge:
				if err := wire.CheckChallenge(ev.Body, [wire.ChallengeLen]byte{}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				asked[ev.From] = ev.Body
			case wire.CmdAuthResponse:
				answers++
				challenge := asked[ev.From.Peer()]
				if !tc.alg.AuthMatches(ev.Body, tc.secrets[ev.From], challenge) {
					t.Errorf("%s: %v answers %x", name, ev.From, ev.Body)
				}
				if tc.alg.AuthMatches(ev.Body, []byte("another"), challenge) {
					t.Errorf("%s: any secret will do", name)
				}
			}
		}
		if answers < 2 {
			t.Errorf("%s: %d answers", name, answers)
		}
	}
}

// With data-integrity-alg every block has its digest in front, in the byte order
// that this package uses.
func TestRecordedIntegrity(t *testing.T) {
	blocks := map[wire.Cmd]int{}
	for _, name := range []string{"06-integrity-crc32c", "06-integrity-zeroes-drop", "02-writes-C", "23-live-options"} {
		rec := read(t, "testdata/"+name+".pcap.gz")
		alg := map[wiretest.Node]wire.Digest{}
		for _, ev := range packets(rec) {
			switch ev.Header.Cmd {
			case wire.CmdProtocol, wire.CmdProtocolUpdate:
				p, err := wire.DecodeProtocol(ev.Body)
				if err != nil {
					t.Fatal(err)
				}
				d, ok := wire.DigestByName(p.IntegrityAlg)
				if !ok {
					t.Fatalf("%s: %q", name, p.IntegrityAlg)
				}
				alg[ev.From] = d
			case wire.CmdData, wire.CmdDataReply, wire.CmdRSDataReply:
				d := alg[ev.From]
				rest := ev.Body[ev.Header.DecodeLen():]
				n, err := wire.BlockLen(ev.Header, d.Size())
				if err != nil || n != len(rest)-d.Size() {
					t.Fatalf("%s: a block of %d bytes, %v", name, n, err)
				}
				if !d.Matches(rest[:d.Size()], rest[d.Size():]) {
					t.Errorf("%s: %v of %d bytes does not match its %v", name, ev.Header.Cmd, n, d)
				}
				if d != wire.NoDigest {
					blocks[ev.Header.Cmd]++
				}
			}
		}
	}
	for _, c := range []wire.Cmd{wire.CmdData, wire.CmdDataReply, wire.CmdRSDataReply} {
		if blocks[c] == 0 {
			t.Errorf("no %v had a digest", c)
		}
	}
}

// pattern is what the disks of a recording are filled with: 16 byte records of
// the sector's number and a seed.
func pattern(sector uint64, size uint32, seed uint64) []byte {
	b := make([]byte, 0, size)
	for ; uint32(len(b)) < size; sector++ {
		for range 32 {
			b = binary.BigEndian.AppendUint64(b, sector)
			b = binary.BigEndian.AppendUint64(b, seed)
		}
	}
	return b
}

// The verify digests are those of the fill pattern wherever nothing else was
// written, and the results speak of the same blocks.
func TestRecordedVerify(t *testing.T) {
	rec := read(t, "testdata/08-verify.pcap.gz")
	type key struct {
		session int
		sector  uint64
	}
	filled := map[key]bool{} // by block: its digest is that of the fill
	equal, differ := 0, 0
	for _, ev := range packets(rec) {
		session := rec.Conns[ev.Conn].Session
		switch ev.Header.Cmd {
		case wire.CmdOVReply:
			n := ev.Header.DecodeLen()
			p, err := wire.DecodeBlockReq(ev.Body[:n])
			if err != nil {
				t.Fatal(err)
			}
			filled[key{session, p.Sector}] = wire.CRC32C.Matches(ev.Body[n:], pattern(p.Sector, p.Size, 0xa0))
		case wire.CmdOVResult:
			p, err := wire.DecodeBlockAck(ev.Body)
			if err != nil {
				t.Fatal(err)
			}
			fill, asked := filled[key{session, p.Sector}]
			switch {
			case !asked || p.BlockID != wire.IDInSync && p.BlockID != wire.IDOutOfSync:
				t.Errorf("%v", p)
			case p.BlockID == wire.IDOutOfSync:
				differ++
			case fill:
				equal++
			}
		}
	}
	if equal < 1000 || differ != 4 {
		t.Errorf("%d blocks of the fill are equal, %d blocks differ", equal, differ)
	}
}

func packets(rec *wiretest.Recording) []wiretest.Event {
	var out []wiretest.Event
	for _, ev := range rec.Events {
		if ev.Kind == wiretest.Packet {
			out = append(out, ev)
		}
	}
	return out
}
