package replication

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// peerLink is a connection, with whoever answers for the peer.
type peerLink struct {
	data, meta net.Conn
	dead       chan struct{} // closed when the node has closed it
	last       chan struct{} // has an element when the last packet on data has been answered
	pongs      atomic.Int64
	metaOut    sync.Mutex

	fits func(wire.Header, []byte) []byte // an answer on meta to what answer has none to; nil: there is none
	ack  atomic.Uint32                    // of the next write, a wire.Cmd; 0: that it is written
}

func fdConn(t *testing.T, fd int) net.Conn {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sockets has the node and the peer find each other; no parameters are exchanged yet.
func (f *floodRun) sockets(t *testing.T) *peerLink {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	got, err := f.other.run(ctx)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return &peerLink{data: fdConn(t, got.data), meta: fdConn(t, got.meta), dead: make(chan struct{}), last: make(chan struct{}, 2)}
}

// A guise is what a peer says of its data to a node that has announced its own: the generations, and the state with its role.
type guise func(node wire.UUIDs, role sm.Role) (wire.UUIDs, sm.State)

func sameData(node wire.UUIDs, role sm.Role) (wire.UUIDs, sm.State) {
	return wire.UUIDs{Current: node.Current, Bitmap: node.Bitmap, History: node.History}, state(role, sm.WFConnection)
}

// connect greets the node as the owner of the same data.
func (f *floodRun) connect(t *testing.T) *peerLink { return f.connectAs(t, sameData, nil) }

// connectAs greets the node. What is to be answered beside writes and pings, fits gives.
func (f *floodRun) connectAs(t *testing.T, as guise, fits func(wire.Header, []byte) []byte) *peerLink {
	l := f.sockets(t)
	l.fits = fits
	var b []byte
	ours := sm.Secondary
	if f.role == sm.Secondary {
		ours = sm.Primary
	}
	var theirs wire.UUIDs
	size := uint64(0)
	for seen := false; !seen; {
		h, body := l.read(t)
		switch h.Cmd {
		case wire.CmdSizes:
			size = must(wire.DecodeSizes(body)).DSize
		case wire.CmdUUIDs:
			theirs = must(wire.DecodeUUIDs(body))
		case wire.CmdState:
			seen = true
		}
	}
	uuids, st := as(theirs, ours)
	b = packet(b, wire.CmdProtocol, wire.Protocol{Protocol: protocols[f.n.cfg.Resource.Net.Protocol]}.Append(nil), 0)
	b = packet(b, wire.CmdSyncParam89, wire.SyncParam89{}.Append(nil), 0)
	b = packet(b, wire.CmdSizes, wire.Sizes{DSize: size, CSize: size, MaxBioSize: wire.MaxRequest}.Append(nil), 0)
	b = packet(b, wire.CmdUUIDs, uuids.Append(nil), 0)
	b = packet(b, wire.CmdState, wire.State{Word: st.Word()}.Append(nil), 0)
	if _, err := l.data.Write(b); err != nil {
		t.Fatal(err)
	}
	l.listen()
	return l
}

var protocols = map[config.Protocol]uint32{config.ProtocolA: wire.ProtA, config.ProtocolB: wire.ProtB, config.ProtocolC: wire.ProtC}

// listen takes everything that the node sends from now on.
func (l *peerLink) listen() {
	go l.answer()
	go l.hear()
}

func (l *peerLink) read(t *testing.T) (wire.Header, []byte) {
	l.data.SetReadDeadline(time.Now().Add(20 * time.Second))
	head := make([]byte, wire.HeaderLen100)
	if _, err := io.ReadFull(l.data, head); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	h := must(wire.DecodeHeader100(head))
	body := make([]byte, h.Length)
	if _, err := io.ReadFull(l.data, body); err != nil {
		t.Fatalf("greeting: %v", err)
	}
	l.data.SetReadDeadline(time.Time{})
	return h, body
}

// answer confirms what the node writes, as a peer does.
func (l *peerLink) answer() {
	defer close(l.dead)
	in := newReader(l.data)
	count := uint32(0)
	for {
		h, body, err := in.next()
		if err != nil {
			return
		}
		var out []byte
		switch h.Cmd {
		case wire.CmdData:
			d, err := wire.DecodeBlockData(body[:24])
			if err != nil {
				return
			}
			count++
			ack := wire.CmdWriteAck
			if other := l.ack.Swap(0); other != 0 {
				ack = wire.Cmd(other)
			}
			out = packet(nil, ack, wire.BlockAck{Sector: d.Sector, BlockID: d.BlockID, Size: h.Length - 24}.Append(nil), 0)
		case wire.CmdBarrier:
			q, err := wire.DecodeBarrier(body)
			if err != nil {
				return
			}
			out = packet(nil, wire.CmdBarrierAck, wire.BarrierAck{Number: q.Number, SetSize: count}.Append(nil), 0)
			count = 0
		case wire.CmdDataReply:
			l.answered(wire.DecodeBlockData(body[:24]))
		default:
			if l.fits != nil {
				out = l.fits(h, body)
			}
		}
		if out != nil && l.say(out) != nil {
			return
		}
	}
}

func (l *peerLink) say(b []byte) error {
	l.metaOut.Lock()
	defer l.metaOut.Unlock()
	l.meta.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err := l.meta.Write(b)
	return err
}

// hear answers pings.
func (l *peerLink) hear() {
	in := newReader(l.meta)
	for {
		h, body, err := in.next()
		if err != nil {
			return
		}
		switch h.Cmd {
		case wire.CmdPing:
			if l.say(packet(nil, wire.CmdPingAck, nil, 0)) != nil {
				return
			}
		case wire.CmdPingAck:
			l.pongs.Add(1)
		case wire.CmdNegDReply:
			p, err := wire.DecodeBlockAck(body)
			l.answered(wire.BlockData{BlockID: p.BlockID}, err)
		}
	}
}

// lastRead is the id of a read that is sent after everything else.
const lastRead = 0x1a57

func (l *peerLink) answered(d wire.BlockData, err error) {
	if err == nil && d.BlockID == lastRead {
		l.last <- struct{}{}
	}
}

// drained waits until the node has taken everything that was sent, or has closed the connection; then it reports false. pings were among it.
func (l *peerLink) drained(t *testing.T, pings int64) bool {
	l.data.SetWriteDeadline(time.Now().Add(60 * time.Second))
	l.data.Write(packet(nil, wire.CmdDataRequest, wire.BlockReq{BlockID: lastRead, Size: 512}.Append(nil), 0))
	l.say(packet(nil, wire.CmdPing, nil, 0))
	late := time.After(120 * time.Second)
	select {
	case <-l.last:
	case <-l.dead:
		return false
	case <-late:
		t.Fatal("the node does not take what it was sent")
	}
	for l.pongs.Load() <= pings {
		select {
		case <-l.dead:
			return false
		case <-late:
			t.Fatalf("%d of %d pings are answered", l.pongs.Load(), pings+1)
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// reader cuts a stream into packets.
type reader struct {
	in   io.Reader
	buf  []byte
	from int
}

func newReader(in io.Reader) *reader { return &reader{in: in} }

func (r *reader) next() (wire.Header, []byte, error) {
	for need := wire.HeaderLen100; ; {
		if have := r.buf[r.from:]; len(have) >= need {
			h, err := wire.DecodeHeader100(have)
			if err != nil {
				return h, nil, err
			}
			if need = wire.HeaderLen100 + int(h.Length); len(have) >= need {
				r.from += need
				return h, have[wire.HeaderLen100:need], nil
			}
		}
		r.buf, r.from = append(r.buf[:0], r.buf[r.from:]...), 0
		n := len(r.buf)
		r.buf = append(r.buf, make([]byte, 64<<10)...)
		got, err := r.in.Read(r.buf[n:])
		r.buf = r.buf[:n+got]
		if err != nil {
			return wire.Header{}, nil, err
		}
	}
}

func (l *peerLink) close() {
	l.data.Close()
	l.meta.Close()
	<-l.dead
}
