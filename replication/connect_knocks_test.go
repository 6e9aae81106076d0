package replication

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// Whatever knocks, as often and from as many addresses as it likes: what is remembered and logged is bounded, and the peer is seen.
func TestKnocksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newNotice()
		peer := netip.MustParseAddr("10.0.0.2")
		k := &knocks{log: slog.New(log), peer: peer}
		const minutes, each = 30, 20_000
		for m := range minutes {
			for i := range each {
				k.knock(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), "a connection from an address that is not the peer's")
				k.knock(peer, fmt.Sprintf("reason %d", i%3))
			}
			if m < minutes-1 {
				time.Sleep(time.Minute)
			}
		}
		if len(k.known) > maxKnockers+1 {
			t.Errorf("%d addresses are remembered", len(k.known))
		}
		if n := len(log.all()); n > minutes*(maxKnockers+1+6) {
			t.Errorf("%d lines for %d knocks in %d minutes", n, 2*minutes*each, minutes)
		}
		list := k.list()
		if len(list) != maxKnocks || list[0].From != peer || list[0].Count != 1 {
			t.Errorf("%d entries, first %+v", len(list), list[0])
		}
		time.Sleep(knockMemory)
		if list := k.list(); len(list) != 1 || list[0].From != peer {
			t.Errorf("after a quiet time: %+v", list)
		}
		k.welcome()
		if list := k.list(); len(list) != 0 {
			t.Errorf("after the handshake: %+v", list)
		}
	})
}

func TestKnockSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := netip.MustParseAddr("10.0.0.2")
		k := &knocks{log: slog.New(slog.DiscardHandler), peer: peer}
		first := time.Now()
		k.knock(peer, "the secret differs")
		time.Sleep(time.Hour)
		k.knock(peer, "the secret differs")
		if got := k.list()[0]; !got.Since.Equal(first) || got.Last.Sub(first) != time.Hour || got.Count != 2 {
			t.Errorf("%+v", got)
		}
		k.remember(peer, "it says nothing")
		if got := k.list()[0]; got.Since.Sub(first) != time.Hour || got.Count != 1 {
			t.Errorf("another reason: %+v", got)
		}
	})
}

// The pauses grow to their bound, and a connection that lasted begins them anew.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(10 * time.Second)
		begin := func() time.Duration { d, _ := p.begin(); return d }
		expect := func(what string, got time.Duration, want time.Duration) {
			t.Helper()
			if got != want {
				t.Errorf("%s: a pause of %v, want %v", what, got, want)
			}
		}
		expect("at first", begin(), 0)
		for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
			expect("a wrong secret", p.failed(), want*time.Second)
		}
		p.meet(introduced)
		p.meet(agreed)
		time.Sleep(time.Second)
		expect("it lasted", begin(), 0)
		for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			p.meet(introduced)
			p.meet(agreed)
			time.Sleep(time.Second - 1)
			expect("it did not last", begin(), want*time.Millisecond)
		}
		for _, want := range []time.Duration{2000, 4000, 8000, 10000, 10000} {
			p.meet(introduced)
			expect("no handshake", begin(), want*time.Millisecond)
		}
		p.reset()
		expect("ordered", begin(), 0)
	})
}

// A peer that was given up because it owed an answer is looked for after a pause, perhaps: the status says why it is away.
func TestPeerThatOwedIsRemembered(t *testing.T) {
	peer := netip.MustParseAddrPort("10.0.0.2:7789")
	c := newConnector(netip.MustParseAddrPort("10.0.0.1:7789"), peer, config.Net{}, slog.New(slog.DiscardHandler))
	c.judge(engine.StateChange{From: statemachine.State{Conn: statemachine.WFBitMapS}, To: statemachine.State{Conn: statemachine.Timeout}, Cause: "Timeout: why"})
	if list := c.knocks.list(); len(list) != 1 || list[0].Reason != "Timeout: why" {
		t.Errorf("remembered: %+v", list)
	}
	c.judge(engine.StateChange{From: statemachine.State{Conn: statemachine.WFReportParams}, To: statemachine.State{Conn: statemachine.Connected}})
	if list := c.knocks.list(); len(list) != 0 {
		t.Errorf("after the handshake: %+v", list)
	}
}
