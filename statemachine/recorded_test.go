package statemachine

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// recorded is one line of testdata/recorded-handshakes.txt.
type recorded struct {
	name      string
	own, peer State
	self      PeerUUIDs // as this node announced them
	theirs    PeerUUIDs
	known     bool // theirs were sent
	in        HandshakeInput
	rules     Rules
	after     string // hexadecimal word, or "-"
}

func parseUUIDs(text string) (u PeerUUIDs, known bool) {
	n, _ := fmt.Sscanf(text, "%x:%x:%x:%x:%d:%x", &u.Current, &u.Bitmap, &u.History[0], &u.History[1], &u.Bits, &u.Flags)
	return u, n == 6
}

func parseRecorded(t *testing.T, line string) recorded {
	t.Helper()
	f := strings.Fields(line)
	if len(f) != 10 {
		t.Fatalf("not a recorded handshake: %q", line)
	}
	r := recorded{name: f[0], after: f[9]}
	var own, peer uint32
	var zero, one, two, ownFlags, peerFlags uint8
	fmt.Sscanf(f[1]+" "+f[3], "%x %x", &own, &peer)
	fmt.Sscanf(f[6], "%d,%d,%d", &zero, &one, &two)
	fmt.Sscanf(f[8], "%x,%x", &ownFlags, &peerFlags)
	r.own, r.peer = FromWord(own), FromWord(peer)
	r.own.Conn = WFReportParams // announced before it was entered
	r.self, _ = parseUUIDs(f[2])
	r.theirs, r.known = parseUUIDs(f[4])
	r.rules = Rules{ResolveConflicts: f[5] == "RC", TwoPrimaries: f[7] == "1", HasBitmapUUID: r.self.Bitmap != 0}
	r.in = HandshakeInput{
		Self: r.self.UUIDs, SelfBits: r.self.Bits, Peer: r.theirs, Crashed: r.self.Flags&FlagCrashedPrimary != 0,
		Role: r.own.Role, PeerRole: r.peer.Role, Disk: r.own.Disk, DiskNow: r.own.Disk, PeerDisk: r.peer.Disk,
		DiscardMy: ownFlags&1 != 0, DryRun: ownFlags&2 != 0, PeerDryRun: peerFlags&2 != 0,
		ResolveConflicts: r.rules.ResolveConflicts, FeatureWSame: true,
		Policies: SplitBrainPolicies{ZeroPri: SplitBrainPolicy(zero), OnePri: SplitBrainPolicy(one), TwoPri: SplitBrainPolicy(two)},
	}
	return r
}

// TestRecordedHandshakes has this package decide what two kernels decided, and come to the
// same state word, bit by bit.
func TestRecordedHandshakes(t *testing.T) {
	text, err := os.ReadFile("testdata/recorded-handshakes.txt")
	if err != nil {
		t.Fatal(err)
	}
	const informational = bitSusp | bitSuspNoData | bitSuspFencing
	outcomes := map[Conn]int{}
	rules := map[int]int{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		r := parseRecorded(t, line)
		ev := PeerState{Word: r.peer, UUIDsKnown: r.known, UUIDFlags: r.theirs.Flags, Granted: true, MayBeAhead: true}
		if r.own.HandshakeDue(ev, r.rules) {
			ev.Decision = Handshake(r.in)
			rules[ev.Decision.Rule]++
		}
		next, do, err := r.own.Step(ev, r.rules)
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		outcomes[next.Conn]++
		if r.after == "-" {
			if next.Conn != Disconnecting && next.Conn != ProtocolError {
				t.Errorf("%s: became %v, the kernel's gave up\n%+v", r.name, next, ev.Decision)
			}
			continue
		}
		var word uint32
		fmt.Sscanf(r.after, "%x", &word)
		if got := next.Word(); got&^informational != word&^informational {
			t.Errorf("%s: became %v\nthe kernel's  %v\n%+v", r.name, next, FromWord(word), ev.Decision)
		}
		if !containsState(do) {
			t.Errorf("%s: the new state is not announced: %v", r.name, effectStrings(do))
		}
	}
	for _, c := range []Conn{Connected, WFBitMapS, WFBitMapT, Disconnecting, ProtocolError} {
		if outcomes[c] == 0 {
			t.Errorf("no recorded handshake led to %v", c)
		}
	}
	t.Logf("outcomes %v, rules %v", outcomes, rules)
}

func containsState(do []Effect) bool {
	for _, e := range do {
		if e == (SendState{}) {
			return true
		}
	}
	return false
}
