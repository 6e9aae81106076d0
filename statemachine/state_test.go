package statemachine

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestWordGolden holds the layout against words of docs/drbd-wire.md 14.1 and Annex A.
func TestWordGolden(t *testing.T) {
	for _, tc := range []struct {
		state State
		word  uint32
	}{
		{State{Role: Primary, Peer: Secondary, Conn: Connected, Disk: UpToDate, PeerDisk: UpToDate}, 0x000110A9},
		{State{Role: Secondary, Conn: WFConnection, Disk: UpToDate, PeerDisk: DUnknown}, 0x0000D082},
		{State{Role: Primary, Peer: Secondary, Conn: SyncSource, Disk: UpToDate, PeerDisk: Inconsistent, Susp: true}, 0x00029109},
		{State{AfterISP: true}, 1 << 18}, {State{PeerISP: true}, 1 << 19}, {State{UserISP: true}, 1 << 20},
		{State{SuspNoData: true}, 1 << 21}, {State{SuspFencing: true}, 1 << 22},
	} {
		if got := tc.state.Word(); got != tc.word {
			t.Errorf("Word(%v) = %#08x, want %#08x", tc.state, got, tc.word)
		}
	}
}

func TestWordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.Uint32().Draw(t, "word")
		s := FromWord(w)
		if got, want := s.Word(), w&(1<<23-1); got != want {
			t.Fatalf("FromWord(%#x) = %v, and back %#x", w, s, got)
		}
		_ = s.String() // never panics, whatever the network sent
	})
}

// A Primary that loses a peer which had said that it is Inconsistent, and was in no resync, or in none yet, begins a generation: by its word alone, which may
// have been an old one, what is written from then on would have the name of what the peer has.
func TestPeerOfDoubtfulDiskIsLost(t *testing.T) {
	for _, tc := range []struct {
		s    State
		r    Rules
		want bool
	}{
		{State{Role: Primary, Peer: Secondary, Conn: Connected, Disk: UpToDate, PeerDisk: Inconsistent}, Rules{}, true},
		{State{Role: Primary, Peer: Secondary, Conn: Connected, Disk: UpToDate, PeerDisk: Inconsistent}, Rules{HasBitmapUUID: true}, false}, // it counts already
		{State{Role: Primary, Peer: Secondary, Conn: WFBitMapS, Disk: UpToDate, PeerDisk: Inconsistent}, Rules{}, true},
		{State{Role: Primary, Peer: Secondary, Conn: WFBitMapS, Disk: UpToDate, PeerDisk: Inconsistent}, Rules{HasBitmapUUID: true}, false},
		{State{Role: Primary, Peer: Secondary, Conn: SyncSource, Disk: UpToDate, PeerDisk: Inconsistent}, Rules{HasBitmapUUID: true}, false},
		{State{Role: Secondary, Peer: Secondary, Conn: Connected, Disk: UpToDate, PeerDisk: Inconsistent}, Rules{}, false},
	} {
		_, do, err := tc.s.Step(PeerLost{NetworkFailure}, tc.r)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(do, Effect(NewCurrentUUID{})); got != tc.want {
			t.Errorf("%v, %+v: a new generation: %v, want %v", tc.s, tc.r, got, tc.want)
		}
	}
}
