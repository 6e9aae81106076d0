package wire

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The packet table of the specification is the other witness: name, socket,
// fixed length, payload and use of the volume field of every number in it.
func TestTableAgreesWithSpecification(t *testing.T) {
	page, err := os.ReadFile("../../docs/drbd-wire.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\| (0x[0-9a-f]+) \| (P_\w+)[^|]*\| ([^|]*) \| [^|]* \| ([^|]*) \| ([^|]*) \|`)
	seen := 0
	for _, m := range line.FindAllStringSubmatch(string(page), -1) {
		no, name, socks, fixed, vol := m[1], m[2], m[3], m[4], m[5]
		n, err := strconv.ParseUint(no, 0, 16)
		if err != nil {
			t.Fatal(err)
		}
		c := Cmd(n)
		if socks == "–" || name == "P_SYNC_PARAM" { // obsolete, or of versions before 89
			if c.Known() {
				t.Errorf("%s %s is known", no, name)
			}
			continue
		}
		seen++
		if c.String() != name {
			t.Errorf("%s: %v in place of %s", no, c, name)
		}
		if want := (Socket(0) | in(socks, "D", DataSock) | in(socks, "M", MetaSock)); c.Socket() != want {
			t.Errorf("%s: on %v in place of %v", name, c.Socket(), want)
		}
		wantFixed, err := strconv.Atoi(regexp.MustCompile(`^\d+`).FindString(fixed))
		if err != nil {
			t.Fatal(err)
		}
		payload := strings.Contains(fixed, "+")
		switch c {
		case CmdSyncParam89: // of one length in this dialect: nothing to follow
			wantFixed, payload = 148, false
		case CmdSizes: // "32; 56 if FF_WSAME"
			payload = true
		}
		if c.Fixed() != wantFixed || c.MayCarryPayload() != payload {
			t.Errorf("%s: fixed %d, payload %v in place of %s", name, c.Fixed(), c.MayCarryPayload(), fixed)
		}
		if c.Volumed() != (vol == "y") {
			t.Errorf("%s: volumed %v in place of %q", name, c.Volumed(), vol)
		}
		if c.Handled(DataSock) != (c != CmdWSame && c.Socket()&DataSock != 0) || c.Handled(MetaSock) != (c.Socket()&MetaSock != 0) {
			t.Errorf("%s: handled on data %v, on meta %v", name, c.Handled(DataSock), c.Handled(MetaSock))
		}
	}
	if seen != len(table) {
		t.Errorf("the page has %d packets, the table %d", seen, len(table))
	}
}

func in(s, sub string, v Socket) Socket {
	if strings.Contains(strings.ReplaceAll(s, "and", ""), sub) {
		return v
	}
	return 0
}

func TestHandshakePackets(t *testing.T) {
	for n := range 1 << 16 {
		c := Cmd(n)
		want := c == CmdInitialData || c == CmdInitialMeta || c == CmdConnectionFeatures ||
			c == CmdAuthChallenge || c == CmdAuthResponse
		if c.Handshake() != want {
			t.Errorf("%v: %v", c, c.Handshake())
		}
	}
}

// Whatever header comes, what may be read after it is bounded.
func TestCheckLengthBounds(t *testing.T) {
	most := map[Cmd]uint32{}
	for _, c := range []Cmd{CmdData, CmdDataReply, CmdRSDataReply} {
		most[c] = 24 + 64 + 1<<20
	}
	for _, c := range []Cmd{CmdBitmap, CmdCompressedBitmap} {
		most[c] = 4080
	}
	for n := range 1 << 16 {
		c := Cmd(n)
		for _, sock := range []Socket{DataSock, MetaSock} {
			bound := most[c]
			if bound == 0 {
				bound = 148
			}
			if !c.Handled(sock) {
				bound = 0
			}
			lengths := []uint32{0, 1<<32 - 1}
			if c.Known() {
				lengths = append(lengths, 1, uint32(c.Fixed()), uint32(c.Fixed())+1, 148, bound, bound+1,
					1<<20+89, 1<<24, 1<<31-1, 1<<31)
			}
			for _, length := range lengths {
				err := CheckLength(sock, Header{Cmd: c, Length: length})
				if err == nil && (!c.Handled(sock) || length > bound || length < uint32(c.Fixed())) {
					t.Fatalf("%v of %d bytes passes on %v", c, length, sock)
				}
				var bad *DecodeError
				if err != nil && (!errors.As(err, &bad) || bad.Packet != c) {
					t.Fatalf("%v: error %#v", c, err)
				}
				exact := !c.MayCarryPayload() && length == uint32(c.Fixed()) || most[c] != 0 && length == bound
				if err != nil && c.Handled(sock) && exact {
					t.Fatalf("%v of %d bytes is refused on %v: %v", c, length, sock, err)
				}
			}
		}
	}
}

// Packets that carry something short have their own bounds.
func TestCheckLengthOfPayloads(t *testing.T) {
	for _, tc := range []struct {
		c        Cmd
		min, max uint32
	}{
		{CmdProtocol, 24, 88}, {CmdProtocolUpdate, 24, 88},
		{CmdSizes, 32, 56}, {CmdAuthChallenge, 0, 128}, {CmdAuthResponse, 0, 64},
		{CmdOVReply, 24, 88}, {CmdCsumRSRequest, 24, 88},
	} {
		for length := range uint32(200) {
			err := CheckLength(DataSock, Header{Cmd: tc.c, Length: length})
			if (err == nil) != (length >= tc.min && length <= tc.max) {
				t.Errorf("%v of %d bytes: %v", tc.c, length, err)
			}
		}
	}
}

func TestHeaderRefusals(t *testing.T) {
	short := AppendHeader80(nil, Header{Cmd: CmdInitialData})
	long := AppendHeader100(nil, Header{Cmd: CmdData, Volume: MaxVolume, Length: 1<<32 - 1})
	for n := range short {
		if _, err := DecodeHeader80(short[:n]); err == nil {
			t.Errorf("%d bytes pass for a short header", n)
		}
	}
	for n := range long {
		if _, err := DecodeHeader100(long[:n]); err == nil {
			t.Errorf("%d bytes pass for a long header", n)
		}
	}
	if _, err := DecodeHeader80(long); err == nil {
		t.Error("a long header passes for a short one")
	}
	if _, err := DecodeHeader100(append(short, make([]byte, 8)...)); err == nil {
		t.Error("a short header passes for a long one")
	}
	for at := range 32 {
		for _, b := range [][]byte{short, long} {
			b[at/8] ^= 1 << (at % 8)
			_, err80 := DecodeHeader80(b)
			_, err100 := DecodeHeader100(b)
			if err80 == nil || err100 == nil {
				t.Errorf("magic with bit %d turned passes", at)
			}
			b[at/8] ^= 1 << (at % 8)
		}
	}
	for at := 12; at < 16; at++ {
		long[at] = 1
		if _, err := DecodeHeader100(long); err == nil {
			t.Errorf("pad byte %d passes", at)
		}
		long[at] = 0
	}
	if h, err := DecodeHeader100(long); err != nil || h.Volume != MaxVolume || h.Length != 1<<32-1 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestBlockLen(t *testing.T) {
	for _, tc := range []struct {
		length uint32
		digest int
		want   int // -1: refused
	}{
		{24, 0, 0}, {24 + 512, 0, 512}, {24 + 4 + 4096, 4, 4096}, {24 + 1<<20, 0, 1 << 20},
		{24 + 64 + 1<<20, 64, 1 << 20},
		{23, 0, -1}, {24, 4, -1}, {24 + 4096, 4, -1}, {24 + 4 + 4096, 0, -1}, {24 + 100, 0, -1},
		{24 + 1<<20 + 512, 0, -1}, {1<<32 - 1, 0, -1}, {0, 64, -1}, {1<<32 - 512 + 24, 0, -1},
	} {
		n, err := BlockLen(Header{Cmd: CmdData, Length: tc.length}, tc.digest)
		if (err != nil) != (tc.want < 0) || err == nil && n != tc.want {
			t.Errorf("length %d, digest %d: %d, %v", tc.length, tc.digest, n, err)
		}
	}
}

func TestSectorOf(t *testing.T) {
	for _, off := range []int64{0, 512, 4096, 1<<63 - 512} {
		if b := (BlockData{Sector: SectorOf(off)}); b.Offset() != off {
			t.Errorf("%d comes back as %d", off, b.Offset())
		}
	}
}
