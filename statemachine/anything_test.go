package statemachine

import (
	"testing"

	"pgregory.net/rapid"
)

// TestAnything lets a peer send any words at any time: nothing panics, and every invariant
// of the walk holds.
func TestAnything(t *testing.T) {
	local := walkEvents(walkPeerStates(fewSorts, []bool{false}))
	rules := walkRules()
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.SampledFrom([]State{
			Initial,
			{Role: Primary, Peer: Secondary, Conn: Connected, Disk: UpToDate, PeerDisk: UpToDate},
			{Role: Secondary, Peer: Primary, Conn: SyncTarget, Disk: Inconsistent, PeerDisk: UpToDate},
			{Role: Primary, Conn: WFReportParams, Disk: UpToDate, PeerDisk: DUnknown},
		}).Draw(rt, "state")
		for range 40 {
			r := rapid.SampledFrom(rules).Draw(rt, "rules")
			var ev Event
			switch rapid.IntRange(0, 3).Draw(rt, "sort") {
			case 0:
				ev = rapid.SampledFrom(local).Draw(rt, "event")
			case 1:
				ev = PeerRequest{Change: Change{rapid.Uint32().Draw(rt, "mask"), rapid.Uint32().Draw(rt, "val")}}
			case 2:
				// Few fields at a time: whole words are refused at a glance.
				fields := rapid.SampledFrom([]uint32{maskRole, maskPeer, maskConn, maskDisk, maskPeerDisk, maskConn | maskDisk, maskPeer | maskPeerDisk, bitPeerISP})
				ev = PeerRequest{Change: Change{fields.Draw(rt, "mask"), rapid.Uint32().Draw(rt, "val")}}
			default:
				ev = PeerState{Word: FromWord(rapid.Uint32().Draw(rt, "word")), UUIDsKnown: rapid.Bool().Draw(rt, "known"),
					Granted: rapid.Bool().Draw(rt, "granted"), MayBeAhead: rapid.Bool().Draw(rt, "may be ahead")}
			}
			if peer, ok := ev.(PeerState); ok && s.HandshakeDue(peer, r) && !peer.Decision.Made() {
				peer.Decision = Decision{Err: &HandshakeError{Reason: UnrelatedData}}
				ev = peer
			} else if ok && pointless(s, peer, r) {
				continue
			}
			next, do, err := s.Step(ev, r)
			checkStep(t, s, ev, r, next, do, err)
			if t.Failed() {
				rt.Fatalf("state %v\nevent %T%+v\nrules %+v\nnext  %v\nerr   %v\n%v", s, ev, ev, r, next, err, effectStrings(do))
			}
			s = next
		}
	})
}
