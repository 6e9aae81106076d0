package wiretest

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/urbd/urbd/replication/wire"
)

// Node is a side of the recorded pair.
type Node byte

const (
	NodeA Node = 'A' // listens on port 7001
	NodeB Node = 'B' // listens on port 7002
)

func (n Node) String() string { return string(n) }

// Peer is the other node.
func (n Node) Peer() Node {
	if n == NodeA {
		return NodeB
	}
	return NodeA
}

const (
	portA    = 7001
	portB    = 7002
	portMark = 7999
)

// Kind says what an Event is.
type Kind uint8

const (
	Mark   Kind = iota // Text of the recording script
	Opened             // From has connected Conn; the peer accepted it
	Packet             // From sent Header and Body on Conn
	Closed             // From closed or reset its direction of Conn
)

// Event is one thing that was recorded. Header, Body and Raw are those of a
// packet; the bytes belong to the recording.
type Event struct {
	At     time.Duration // since the first frame
	Kind   Kind
	From   Node
	Conn   int // index in Recording.Conns; -1 for a mark
	Text   string
	Header wire.Header
	Body   []byte // Header.Length bytes
	Raw    []byte // the bytes of the header, then Body
}

// Conn is one TCP connection that the nodes used.
type Conn struct {
	Dialer  Node
	Sock    wire.Socket // 0 if it ended before its first packet
	Session int         // index in Recording.Sessions; -1 if it was thrown away
	Opened  time.Duration
	// Left is what came, by sender, after the last whole packet; a connection
	// that was cut inside a packet leaves some.
	Left map[Node]int
	// Gap is set, by sender, when later bytes came but earlier ones did not.
	Gap map[Node]bool
}

// Session is a data and a meta connection that were used together.
type Session struct {
	Data, Meta int // indexes in Recording.Conns
}

// Recording is a conversation, in the order of capture.
type Recording struct {
	Events   []Event
	Conns    []Conn
	Sessions []Session
}

// Read takes the bytes of a pcap file apart, which may be gzipped. Every byte of
// every connection is read with package wire; the error names the first that it
// refuses.
func Read(file []byte) (*Recording, error) {
	file, err := unzip(file)
	if err != nil {
		return nil, err
	}
	recs, err := records(file)
	if err != nil {
		return nil, err
	}
	r := reader{open: map[ends]*flow{}}
	for i, rec := range recs {
		s, ok, err := parseFrame(rec.frame)
		if err == nil && ok {
			err = r.add(rec.at-recs[0].at, s)
		}
		if err != nil {
			return nil, fmt.Errorf("frame %d: %w", i+1, err)
		}
	}
	return r.finish(), nil
}

// ends identifies a connection, dialling side first.
type ends struct{ dialer, listener netip.AddrPort }

// flow is a TCP connection that is being read.
type flow struct {
	index int // in Recording.Conns; -1 until it is established
	dials Node
	out   [2]half // the dialer's direction, the listener's
}

type half struct {
	stream
	splitter
	closed bool
}

type reader struct {
	rec   Recording
	open  map[ends]*flow
	flows []*flow // by index in Conns
}

func (r *reader) add(at time.Duration, s segment) error {
	if s.udp {
		if s.dst.Port() == portMark {
			r.rec.Events = append(r.rec.Events, Event{At: at, Kind: Mark, Conn: -1, Text: string(s.data)})
		}
		return nil
	}
	if s.syn && !s.ack {
		return r.dial(at, s)
	}
	f, side := r.find(s)
	if f == nil {
		return nil // the end of a connection from before the recording
	}
	if s.syn {
		f.out[side].start(s.seq)
		r.establish(at, f)
		return nil
	}
	return r.deliver(at, f, side, s)
}

// dial opens a flow; a SYN that comes again belongs to the same one.
func (r *reader) dial(at time.Duration, s segment) error {
	dials, ok := map[uint16]Node{portA: NodeB, portB: NodeA}[s.dst.Port()]
	if !ok {
		return fmt.Errorf("a connection to port %d", s.dst.Port())
	}
	key := ends{s.src, s.dst}
	if f := r.open[key]; f != nil && f.out[0].syn == s.seq {
		return nil
	}
	f := &flow{index: -1, dials: dials}
	f.out[0].start(s.seq)
	r.open[key] = f
	return nil
}

// find gives the flow of a segment and which of its directions it is.
func (r *reader) find(s segment) (*flow, int) {
	if f := r.open[ends{s.src, s.dst}]; f != nil {
		return f, 0
	}
	return r.open[ends{s.dst, s.src}], 1
}

func (r *reader) establish(at time.Duration, f *flow) {
	if f.index >= 0 {
		return
	}
	f.index = len(r.rec.Conns)
	r.flows = append(r.flows, f)
	r.rec.Conns = append(r.rec.Conns, Conn{
		Dialer: f.dials, Session: -1, Opened: at, Left: map[Node]int{}, Gap: map[Node]bool{},
	})
	r.rec.Events = append(r.rec.Events, Event{At: at, Kind: Opened, From: f.dials, Conn: f.index})
}

// deliver adds a segment to its stream and the packets that are whole now to
// the recording.
func (r *reader) deliver(at time.Duration, f *flow, side int, s segment) error {
	if f.index < 0 {
		return nil // refused
	}
	h := &f.out[side]
	from := f.dials
	if side == 1 {
		from = f.dials.Peer()
	}
	conn := &r.rec.Conns[f.index]
	h.push(h.add(s.seq, s.data, s.fin))
	for {
		if side == 0 && conn.Sock == 0 {
			conn.Sock = h.purpose()
		}
		p, err := h.pop(conn.Sock, side == 0)
		if err != nil {
			return fmt.Errorf("%v on connection %d: %w", from, f.index, err)
		}
		if p.raw == nil {
			break
		}
		r.rec.Events = append(r.rec.Events, Event{
			At: at, Kind: Packet, From: from, Conn: f.index, Header: p.header, Body: p.body, Raw: p.raw,
		})
	}
	if (h.fin || s.rst) && !h.closed {
		h.closed = true
		r.rec.Events = append(r.rec.Events, Event{At: at, Kind: Closed, From: from, Conn: f.index})
	}
	return nil
}

// finish notes what was left over and which connections belong together.
func (r *reader) finish() *Recording {
	for i, f := range r.flows {
		c := &r.rec.Conns[i]
		for side, from := range []Node{f.dials, f.dials.Peer()} {
			c.Left[from] = len(f.out[side].buf)
			c.Gap[from] = f.out[side].gap()
		}
	}
	r.rec.pair()
	return &r.rec
}

// Bytes is everything that from sent on a connection, without Left.
func (r *Recording) Bytes(conn int, from Node) []byte {
	var b []byte
	for _, ev := range r.Events {
		if ev.Kind == Packet && ev.Conn == conn && ev.From == from {
			b = append(b, ev.Raw...)
		}
	}
	return b
}
