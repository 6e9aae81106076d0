package replication

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/replication/wire/wiretest"
	sm "github.com/urbd/urbd/statemachine"
)

// TestHostilePeer: a daemon meets somebody with the right address who says what a node of a recording said, from the greeting on or after one that
// fits, with packets changed, left out, repeated and put in at random: what FuzzConversation does to an engine, over sockets, with a ring and disks.
// It answers on its control socket meanwhile, its application's requests end, it ends in order; and all daemons together leave no memory,
// descriptor or goroutine behind. URBD_HOSTILE is how many daemons there are.
func TestHostilePeer(t *testing.T) {
	many := 25
	if s := os.Getenv("URBD_HOSTILE"); s != "" {
		var err error
		if many, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	said := recordedWords(t)
	leavesNothing(t, many, func(t *testing.T, seed int) {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		f := newFlood(t, oneOf(r, sm.Primary, sm.Secondary), nil)
		f.meets(t, r, oneOf(r, said...))
	})
}

// leavesNothing has many daemons run, one after the other, and together they leave no memory or descriptor behind.
func leavesNothing(t *testing.T, many int, daemon func(t *testing.T, n int)) {
	var memory, descriptors int64
	for n := range many {
		t.Run(strconv.Itoa(n), func(t *testing.T) { daemon(t, n) })
		if n == 5 { // whatever is made once has been made
			memory, descriptors = resident(t), openFiles(t)
		}
	}
	if got := resident(t) - memory; memory > 0 && got > floodMemory {
		t.Errorf("the process has grown by %d bytes", got)
	}
	if got := openFiles(t); descriptors > 0 && got > descriptors {
		t.Errorf("%d descriptors are open, %d before", got, descriptors)
	}
}

func resident(t *testing.T) int64 {
	runtime.GC()
	return rss(t)
}

func openFiles(t *testing.T) int64 {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(all))
}

// words are what one node of a recording said over one pair of sockets, packet by packet.
type words []word

type word struct {
	sock engine.Socket
	head bool // among the first, which greet
	raw  []byte
}

func recordedWords(t *testing.T) (all []words) {
	names, err := filepath.Glob("wire/testdata/*.pcap.gz")
	if err != nil || len(names) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, name := range names {
		rec := must(wiretest.Read(must(os.ReadFile(name))))
		for _, s := range rec.Sessions {
			for _, from := range []wiretest.Node{wiretest.NodeA, wiretest.NodeB} {
				if said := wordsOf(rec, s, from); len(said) > 0 {
					all = append(all, said)
				}
			}
		}
	}
	return all
}

func wordsOf(rec *wiretest.Recording, s wiretest.Session, from wiretest.Node) (said words) {
	const most = 2000 // packets
	for _, ev := range rec.Events {
		if ev.Kind != wiretest.Packet || ev.From != from || ev.Conn != s.Data && ev.Conn != s.Meta || ev.Header.Cmd.Handshake() || len(said) == most {
			continue
		}
		w := word{sock: engine.DataSock, raw: ev.Raw, head: ev.Header.Cmd == wire.CmdProtocol || len(said) < 5}
		if ev.Conn == s.Meta {
			w.sock = engine.MetaSock
		}
		said = append(said, w)
	}
	return said
}

// meets has a peer come that says words with mistakes.
func (f *floodRun) meets(t *testing.T, r *rand.Rand, said words) {
	logged := f.logged.Load()
	l, greeted := (*peerLink)(nil), r.IntN(3) > 0
	if greeted {
		l = f.connect(t)
	} else {
		l = f.sockets(t)
		l.listen()
	}
	faults := oneOf(r, 0, 3, 20) // in a hundred packets
	sent := 0
	for _, w := range said {
		if greeted && w.head {
			continue
		}
		if r.IntN(100) < faults {
			w = w.mistaken(r)
		}
		if !f.says(l, w) {
			break
		}
		sent++
	}
	t.Logf("%v, greeted %v: %d of %d packets sent", f.role, greeted, sent, len(said))
	f.survives(t, l, logged)
}

// survives has the peer go. The application goes on, the control socket has answered all the time, and the log is short.
func (f *floodRun) survives(t *testing.T, l *peerLink, logged int64) {
	t.Helper()
	l.leave(t)
	if f.role == sm.Primary {
		f.goesOn(t)
	}
	if _, err := f.client.Status(t.Context()); err != nil {
		t.Errorf("status: %v", err)
	}
	if d := time.Duration(f.slowest.Load()); d > floodWait {
		t.Errorf("the control socket has answered after %v", d)
	}
	if n := f.logged.Load() - logged; n > floodLog {
		t.Errorf("%d bytes of log", n)
	}
}

// mistaken is another packet in the place of w, or w with a mistake.
func (w word) mistaken(r *rand.Rand) word {
	b := append([]byte(nil), w.raw...)
	switch r.IntN(6) {
	case 0, 1: // a bit of the head or of what follows it
		b[r.IntN(min(len(b), 64))] ^= 1 << r.IntN(8)
	case 2: // too much
		b = append(b, b...)
	case 3: // nothing
		b = nil
	case 4: // cut
		b = b[:r.IntN(len(b))]
	case 5: // something else
		k := oneOf(r, floodKinds...)
		return word{sock: k.sock, raw: k.make(r, nil)}
	}
	return word{sock: w.sock, raw: b}
}

// says sends a packet, for a place on the device of the test; false if the node has hung up.
func (f *floodRun) says(l *peerLink, w word) bool {
	b := w.raw
	if h, err := wire.DecodeHeader100(b); err == nil && len(b) >= wire.HeaderLen100+8 && onDevice(h.Cmd) {
		b = append([]byte(nil), b...)
		at := b[wire.HeaderLen100:]
		binary.BigEndian.PutUint64(at, binary.BigEndian.Uint64(at)%(diskSize/2/wire.SectorSize))
	}
	if w.sock == engine.MetaSock {
		return l.say(b) == nil
	}
	l.data.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err := l.data.Write(b)
	return err == nil
}

// onDevice reports whether a packet begins with a sector.
func onDevice(c wire.Cmd) bool {
	switch c {
	case wire.CmdData, wire.CmdTrim, wire.CmdZeroes, wire.CmdDataRequest, wire.CmdRSDataRequest, wire.CmdRSThinReq, wire.CmdDataReply, wire.CmdRSDataReply,
		wire.CmdOutOfSync:
		return true
	}
	return false
}

// leave says no more, and waits until the node has taken what was said, and has hung up.
func (l *peerLink) leave(t *testing.T) {
	for _, c := range []net.Conn{l.data, l.meta} {
		c.(*net.TCPConn).CloseWrite() // it may be closed by the node
	}
	select {
	case <-l.dead:
	case <-time.After(60 * time.Second):
		t.Error("the node does not hang up")
	}
	l.close()
}
