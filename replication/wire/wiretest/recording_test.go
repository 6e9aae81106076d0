package wiretest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/scripts/fuzztest"
)

// tape writes a recording.
type tape struct {
	file []byte
	at   time.Duration
}

func newTape() *tape {
	head := make([]byte, pcapHeaderLen)
	binary.LittleEndian.PutUint32(head, pcapMagic)
	binary.LittleEndian.PutUint32(head[20:], pcapEthernet)
	return &tape{file: head, at: 100 * time.Second}
}

func (p *tape) frame(b []byte) {
	p.at += time.Millisecond
	rec := make([]byte, pcapRecordLen)
	binary.LittleEndian.PutUint32(rec, uint32(p.at/time.Second))
	binary.LittleEndian.PutUint32(rec[4:], uint32(p.at%time.Second/time.Microsecond))
	binary.LittleEndian.PutUint32(rec[8:], uint32(len(b)))
	binary.LittleEndian.PutUint32(rec[12:], uint32(len(b)))
	p.file = append(append(p.file, rec...), b...)
}

func (p *tape) ip(proto byte, payload []byte) {
	b := make([]byte, etherLen+20)
	binary.BigEndian.PutUint16(b[12:], etherIPv4)
	b[14], b[23] = 0x45, proto
	binary.BigEndian.PutUint16(b[16:], uint16(20+len(payload)))
	copy(b[26:], []byte{127, 0, 0, 1, 127, 0, 0, 2})
	p.frame(append(b, payload...))
}

func (p *tape) mark(text string) {
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b[2:], portMark)
	p.ip(ipUDP, append(b, text...))
}

const (
	flagFIN, flagSYN, flagRST, flagACK = 1, 2, 4, 16
)

// tcp sends between a port that dials and one that listens; dialer tells which
// of the two is the sender.
func (p *tape) tcp(dialing, listening uint16, dialer bool, seq uint32, flags byte, data []byte) {
	b := make([]byte, 20)
	src, dst := dialing, listening
	if !dialer {
		src, dst = dst, src
	}
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint32(b[4:], seq)
	b[12], b[13] = 5<<4, flags
	head := make([]byte, etherLen+20)
	binary.BigEndian.PutUint16(head[12:], etherIPv4)
	head[14], head[23] = 0x45, ipTCP
	binary.BigEndian.PutUint16(head[16:], uint16(40+len(data)))
	from, to := []byte{127, 0, 0, 1}, []byte{127, 0, 0, 2}
	if !dialer {
		from, to = to, from
	}
	copy(head[26:], append(from, to...))
	p.frame(append(append(head, b...), data...))
}

func (p *tape) connect(dialing, listening uint16) {
	p.tcp(dialing, listening, true, 999, flagSYN, nil)
	p.tcp(dialing, listening, false, 1999, flagSYN|flagACK, nil)
}

func short(c wire.Cmd, body []byte) []byte {
	return append(wire.AppendHeader80(nil, wire.Header{Cmd: c, Length: uint32(len(body))}), body...)
}

func long(c wire.Cmd, body []byte) []byte {
	return append(wire.AppendHeader100(nil, wire.Header{Cmd: c, Length: uint32(len(body))}), body...)
}

func story(rec *Recording) string {
	var b strings.Builder
	for _, ev := range rec.Events {
		switch ev.Kind {
		case Mark:
			fmt.Fprintf(&b, "mark %s\n", ev.Text)
		case Opened:
			fmt.Fprintf(&b, "%d: %v opens\n", ev.Conn, ev.From)
		case Closed:
			fmt.Fprintf(&b, "%d: %v closes\n", ev.Conn, ev.From)
		case Packet:
			fmt.Fprintf(&b, "%d: %v %v\n", ev.Conn, ev.From, ev.Header.Cmd)
		}
	}
	return b.String()
}

// A refused connect, a pair of connections, packets in pieces and out of order,
// a second use of a port, frames that do not matter.
func TestRead(t *testing.T) {
	features := short(wire.CmdConnectionFeatures, wire.Offer().Append(nil))
	protocol := long(wire.CmdProtocol, wire.Protocol{Protocol: wire.ProtC}.Append(nil))
	p := newTape()
	p.mark("cmd connect a")
	p.tcp(40000, portB, true, 5, flagSYN, nil)
	p.tcp(40000, portB, false, 0, flagRST|flagACK, nil)
	p.connect(40000, portB) // the same port again
	p.tcp(40000, portB, true, 1000, flagACK, short(wire.CmdInitialData, nil))
	p.connect(50000, portA)
	p.tcp(50000, portA, true, 1000, flagACK, short(wire.CmdInitialMeta, nil))
	p.frame(make([]byte, etherLen)) // some other protocol
	p.tcp(40000, portB, true, 1008, flagACK, features[:10])
	p.tcp(40000, portB, true, 1008+80, flagACK, protocol) // before the rest of the features
	p.tcp(40000, portB, false, 2000, flagACK, append(bytes.Clone(features), protocol[:20]...))
	p.tcp(40000, portB, true, 1018, flagACK, features[10:])
	p.tcp(50000, portA, false, 2000, flagACK, long(wire.CmdPing, nil))
	p.tcp(50000, portA, false, 2000, flagACK, long(wire.CmdPing, nil)) // sent again
	p.tcp(50000, portA, true, 1008, flagACK|flagFIN, long(wire.CmdPingAck, nil))
	p.tcp(40000, portB, false, 2200, flagACK, []byte{1}) // bytes are missing before it
	p.tcp(40000, portB, false, 2200, flagRST, nil)
	p.mark("rc 0")

	const want = `mark cmd connect a
0: A opens
0: A P_INITIAL_DATA
1: B opens
1: B P_INITIAL_META
0: B P_CONNECTION_FEATURES
0: A P_CONNECTION_FEATURES
0: A P_PROTOCOL
1: A P_PING
1: B P_PING_ACK
1: B closes
0: B closes
mark rc 0
`
	rec, err := Read(p.file)
	if err != nil {
		t.Fatal(err)
	}
	if got := story(rec); got != want {
		t.Errorf("got\n%s", got)
	}
	if len(rec.Sessions) != 1 || rec.Sessions[0] != (Session{Data: 0, Meta: 1}) {
		t.Errorf("sessions %+v", rec.Sessions)
	}
	data, meta := rec.Conns[0], rec.Conns[1]
	if data.Dialer != NodeA || data.Sock != wire.DataSock || meta.Dialer != NodeB || meta.Sock != wire.MetaSock {
		t.Errorf("connections %+v, %+v", data, meta)
	}
	if data.Left[NodeB] != 20 || !data.Gap[NodeB] || data.Left[NodeA] != 0 || data.Gap[NodeA] || meta.Gap[NodeA] {
		t.Errorf("left over: %+v, %+v", data, meta)
	}
	all := append(append(short(wire.CmdInitialData, nil), features...), protocol...)
	if got := rec.Bytes(0, NodeA); !bytes.Equal(got, all) {
		t.Errorf("A sent %x", got)
	}
	if rec.Events[0].At != 0 || rec.Events[1].At != 4*time.Millisecond {
		t.Errorf("times %v, %v", rec.Events[0].At, rec.Events[1].At)
	}

	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(p.file)
	w.Close()
	if rec, err := Read(z.Bytes()); err != nil || story(rec) != want {
		t.Errorf("gzipped: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	dialled := func(first []byte, more ...[]byte) []byte {
		p := newTape()
		p.connect(40000, portB)
		p.tcp(40000, portB, true, 1000, flagACK, first)
		seq := uint32(1000 + len(first))
		for _, b := range more {
			p.tcp(40000, portB, true, seq, flagACK, b)
			seq += uint32(len(b))
		}
		return p.file
	}
	whole := dialled(short(wire.CmdInitialData, nil))
	cutShort := bytes.Clone(whole)
	cutShort[pcapHeaderLen+12]++ // the frame was one byte longer than what was kept
	elsewhere := newTape()
	elsewhere.tcp(40000, 80, true, 1, flagSYN, nil)
	for name, file := range map[string][]byte{
		"nothing":                nil,
		"another magic":          make([]byte, 100),
		"a broken archive":       {0x1f, 0x8b, 0},
		"end in a record":        whole[:len(whole)-1],
		"end in a record header": whole[:pcapHeaderLen+3],
		"a frame cut short":      cutShort,
		"another port":           elsewhere.file,
		"garbage first":          dialled([]byte("GET / HTTP/1.1\r\n")),
		"a block first":          dialled(short(wire.CmdData, make([]byte, 24))),
		"meta packet on data":    dialled(short(wire.CmdInitialData, nil), short(wire.CmdPing, nil)),
		"short header too late": dialled(short(wire.CmdInitialData, nil),
			short(wire.CmdConnectionFeatures, wire.Offer().Append(nil)), short(wire.CmdUUIDs, make([]byte, 48))),
		"long header too early": dialled(short(wire.CmdInitialData, nil), long(wire.CmdState, make([]byte, 4))),
	} {
		if rec, err := Read(file); err == nil {
			t.Errorf("%s is read as\n%s", name, story(rec))
		}
	}
	if _, err := Read(whole); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

// Frames of other protocols are passed over, broken ones are refused.
func TestParseFrame(t *testing.T) {
	p := newTape()
	p.tcp(40000, portB, true, 7, flagSYN, []byte("x"))
	recs, err := records(p.file)
	if err != nil {
		t.Fatal(err)
	}
	good := recs[0].frame
	s, ok, err := parseFrame(good)
	if !ok || err != nil || !s.syn || s.seq != 7 || s.src.Port() != 40000 || s.dst.Port() != portB || string(s.data) != "x" {
		t.Fatalf("%+v, %v, %v", s, ok, err)
	}
	for name, tc := range map[string]struct {
		at     int
		v      byte
		ok     bool
		refuse bool
	}{
		"no total length":       {17, 0, true, false},
		"IPv6":                  {12, 0x86, false, false},
		"ICMP":                  {23, 1, false, false},
		"version":               {14, 0x65, false, true},
		"short header":          {14, 0x44, false, true},
		"long header":           {14, 0x4f, false, true},
		"longer than the frame": {17, 200, false, true},
		"a fragment":            {20, 0x20, false, true},
		"TCP header too short":  {46, 4 << 4, false, true},
		"TCP header too long":   {46, 15 << 4, false, true},
	} {
		b := bytes.Clone(good)
		b[tc.at] = tc.v
		if _, ok, err := parseFrame(b); ok != tc.ok || (err != nil) != tc.refuse {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	for n := range good {
		if _, ok, _ := parseFrame(good[:n]); ok {
			t.Errorf("%d bytes pass", n)
		}
	}
}

// The connections of a session carry what both nodes say; those that lost
// against a crossing one, or were thrown away, carry at most their first packet
// and features.
func TestSessionsOfRecordings(t *testing.T) {
	for name, want := range map[string]struct{ conns, sessions int }{
		"02-writes-C": {2, 1}, "04-disconnect-graceful": {10, 5}, "26-crossing-connects": {30, 6},
		"24-read-errors-source": {8, 4}, "13-split-brain": {6, 3},
	} {
		b, err := os.ReadFile("../testdata/" + name + ".pcap.gz")
		if err != nil {
			t.Fatal(err)
		}
		rec, err := Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(rec.Conns) != want.conns || len(rec.Sessions) != want.sessions {
			t.Errorf("%s: %d connections, %d sessions", name, len(rec.Conns), len(rec.Sessions))
		}
		for i, s := range rec.Sessions {
			data, meta := rec.Conns[s.Data], rec.Conns[s.Meta]
			if data.Session != i || meta.Session != i || data.Sock != wire.DataSock || meta.Sock != wire.MetaSock {
				t.Errorf("%s: session %d is %+v and %+v", name, i, data, meta)
			}
		}
		for _, ev := range rec.Events {
			if ev.Kind == Packet && rec.Conns[ev.Conn].Session < 0 && !ev.Header.Cmd.Handshake() {
				t.Errorf("%s: %v on connection %d, which is in no session", name, ev.Header, ev.Conn)
			}
		}
	}
}

// Bytes that are no recording, or a damaged one, are refused or read; they do
// not bring the reader down.
func FuzzRead(f *testing.F) {
	fuzztest.Begin(f)
	p := newTape()
	p.mark("cmd")
	p.connect(40000, portB)
	p.tcp(40000, portB, true, 1000, flagACK, short(wire.CmdInitialData, nil))
	p.tcp(40000, portB, false, 2000, flagACK|flagFIN, short(wire.CmdConnectionFeatures, wire.Offer().Append(nil)))
	f.Add(p.file)
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := Read(b)
		if (rec == nil) == (err == nil) {
			t.Fatalf("recording %v, error %v", rec, err)
		}
	})
}
