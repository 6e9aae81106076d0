package engine

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/wire"
	"github.com/urbd/urbd/replication/wire/wiretest"
)

// TestReplaySkippedInitialSync puts an engine in the place of node A of a
// recording of the kernel's driver: it is fed what the kernel's node B sent, gets the same
// orders, and has to send what the kernel's node A sent.
func TestReplaySkippedInitialSync(t *testing.T) {
	file, err := os.ReadFile("../wire/testdata/18-skip-initial-sync.pcap.gz")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := wiretest.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	p := newPair(t, size, NetOptions{})
	n := p.a
	v := n.e.vols[0]
	v.cfg.Disk.ResyncRate, v.cfg.Disk.PlanAhead = 409600<<10, -1
	n.e.cfg.Random = func() uint64 { return 0x1E6EF4F0F6A60076 } // what the kernel drew
	r := &replay{t: t, p: p, n: n, session: rec.Sessions[0]}
	r.order(Attach{BackingSize: size, MetaSize: size})
	r.order(Connect{})
	n.e.ConnUp(p.now, Link{Features: Features})
	n.conn = "up"
	r.work()
	for _, ev := range rec.Events {
		if ev.Kind == wiretest.Mark && ev.Text == "cmd connect b " && r.packets > 10 {
			break // the next connection
		}
		r.event(ev)
	}
	if r.packets < 7 {
		t.Fatalf("only %d packets of node A were compared", r.packets)
	}
	if got := n.e.vols[0].uuids.String(); got != "1E6EF4F0F6A60076:0000000000000000:0000000000000000:0000000000000000" {
		t.Errorf("generations at the end: %s", got)
	}
}

// replay compares what an engine sends with what was recorded.
type replay struct {
	t       *testing.T
	p       *pair
	n       *node
	session wiretest.Session
	packets int // that were the same
}

func (r *replay) order(c Command) {
	r.n.id++
	r.n.e.Command(r.p.now, r.n.id, c)
	r.work()
}

// work lets the engine react; what it sends is collected by the other node of the pair.
func (r *replay) work() {
	for range 4 {
		for r.p.work(r.n) {
		}
		r.p.now += 5 * time.Millisecond
		r.n.e.Tick(r.p.now)
	}
}

func (r *replay) event(ev wiretest.Event) {
	if ev.Kind == wiretest.Mark && strings.HasPrefix(ev.Text, "cmd drbdsetup-84 new-current-uuid") {
		r.order(NewCurrentUUID{ClearBitmap: true})
	}
	if ev.Kind == wiretest.Mark && strings.HasPrefix(ev.Text, "cmd disconnect") {
		if got := r.n.e.State(0).String(); got != "Secondary/Secondary Connected UpToDate/UpToDate" {
			r.t.Errorf("before the disconnect: %s", got)
		}
	}
	sock := DataSock
	switch {
	case ev.Kind != wiretest.Packet || ev.Conn != r.session.Data && ev.Conn != r.session.Meta:
		return
	case ev.Header.Cmd == wire.CmdInitialData || ev.Header.Cmd == wire.CmdInitialMeta || ev.Header.Cmd == wire.CmdConnectionFeatures:
		return // before the engine's time
	case ev.Conn == r.session.Meta:
		sock = MetaSock
	}
	if ev.From == wiretest.NodeB {
		r.n.wire[sock] = append(r.n.wire[sock], ev.Raw...)
		r.work()
		return
	}
	r.same(sock, ev)
}

// same takes the next packet that the engine has sent.
func (r *replay) same(sock Socket, ev wiretest.Event) {
	r.t.Helper()
	want := wire.Format(ev.Header.Cmd, ev.Body)
	sent := r.n.peer.wire[sock]
	if len(sent) < wire.HeaderLen100 {
		r.t.Fatalf("the kernel sent %s, the engine nothing", want)
	}
	h, err := wire.DecodeHeader100(sent)
	if err != nil {
		r.t.Fatal(err)
	}
	end := wire.HeaderLen100 + int(h.Length)
	body := sent[wire.HeaderLen100:end]
	r.n.peer.wire[sock] = sent[end:]
	got := wire.Format(h.Cmd, body) // of P_SIZES without the queue's limits, which are each node's own
	if h.Cmd != wire.CmdSizes && !bytes.Equal(body, ev.Body) {
		got += fmt.Sprintf(" %x", body)
		want += fmt.Sprintf(" %x", ev.Body)
	}
	if got != want || h.Volume != ev.Header.Volume {
		r.t.Errorf("the engine sent\n%s, the kernel\n%s", got, want)
	}
	r.packets++
}
