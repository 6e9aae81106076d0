package engine

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/urbd/urbd/replication/engine/enginetest"
	"github.com/urbd/urbd/replication/metadata"
	"github.com/urbd/urbd/replication/wire/wiretest"
)

// FuzzConversation has an engine, from one of several places on, hear packets of any kind, some of which fit what is open, while its disk
// hangs, fails and goes on, its application and its administrator work, and time passes. It never panics, uses its disk only where it may,
// keeps every bound; and when the disk works, the peer is gone and time has passed, nothing is left and every order is answered.
func FuzzConversation(f *testing.F) {
	image, room, err := conversationImage()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range enginetest.Seeds() {
		f.Add(s.Where, s.Script)
	}
	recordings, err := filepath.Glob("../wire/testdata/*.pcap.gz")
	if err != nil || len(recordings) == 0 {
		f.Fatalf("no recordings: %v", err)
	}
	for _, name := range recordings {
		for _, script := range recorded(f, name) {
			f.Add(byte(2), script)
			f.Add(byte(2), append([]byte{script[0] | 32}, script[1:]...))
		}
	}
	f.Fuzz(func(t *testing.T, where byte, script []byte) {
		if len(script) > 2000 {
			return
		}
		converse(t, image, room, where, script)
	})
}

func converse(t *testing.T, image []byte, room metadata.Layout, where byte, script []byte) {
	c, err := newConversation(image, room, script)
	if err != nil {
		t.Fatal(err)
	}
	c.start(where)
	for len(c.script) > 0 {
		c.step()
	}
	c.end()
}

// recorded makes a script of what each node of a recording said to the other, as far as it is short.
func recorded(f *testing.F, name string) (scripts [][]byte) {
	file, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	rec, err := wiretest.Read(file)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range rec.Sessions {
		for _, from := range []wiretest.Node{wiretest.NodeA, wiretest.NodeB} {
			script := []byte{2} // protocol C
			for _, ev := range rec.Events {
				if ev.Kind != wiretest.Packet || ev.From != from || ev.Conn != s.Data && ev.Conn != s.Meta || len(ev.Raw) > 255 || ev.Header.Cmd.Handshake() {
					continue
				}
				if len(script)+2+len(ev.Raw) > 2000 {
					break
				}
				op := byte(8)
				if ev.Conn == s.Meta {
					op |= 16
				}
				script = append(append(script, op, byte(len(ev.Raw))), ev.Raw...)
			}
			scripts = append(scripts, script)
		}
	}
	return scripts
}

// TestConversationStarts: the places where conversations begin are what they are meant to be.
func TestConversationStarts(t *testing.T) {
	image, room, err := conversationImage()
	if err != nil {
		t.Fatal(err)
	}
	for where, want := range []string{
		"Secondary/Unknown StandAlone Diskless/DUnknown",
		"Secondary/Unknown WFConnection Inconsistent/DUnknown",
		"Secondary/Unknown WFReportParams Inconsistent/DUnknown",
		"Secondary/Secondary Connected Inconsistent/Inconsistent",
		"Secondary/Secondary Connected UpToDate/UpToDate",
		"Primary/Secondary Connected UpToDate/UpToDate",
		"Secondary/Primary SyncTarget Inconsistent/UpToDate",
		"Primary/Secondary SyncSource UpToDate/Inconsistent",
	} {
		for _, volumes := range []byte{0, 32} {
			c, err := newConversation(image, room, []byte{2 | volumes})
			if err != nil {
				t.Fatal(err)
			}
			c.start(byte(where))
			c.each(func() {
				if c.v.state.String() != want {
					t.Errorf("place %d, volume %d of %d: %v, want %s", where, c.v.number, len(c.e.vols), c.v.state, want)
				}
			})
			c.bounded()
			c.end()
		}
	}
}

// TestConversations has random conversations, where FuzzConversation goes by coverage.
func TestConversations(t *testing.T) {
	image, room, err := conversationImage()
	if err != nil {
		t.Fatal(err)
	}
	many := 3000
	if s := os.Getenv("URBD_CONVERSATIONS"); s != "" {
		if many, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(many) {
		r := rand.New(rand.NewPCG(seed, 1))
		script := make([]byte, 20+r.IntN(600))
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		func() {
			defer func() {
				if why := recover(); why != nil {
					t.Errorf("seed %d: %v\n%s", seed, why, debug.Stack())
				}
			}()
			converse(t, image, room, byte(r.Uint32()), script)
		}()
	}
}
