package statemachine

import "testing"

// A request for the connection as a whole may ask for its end only: one of the others would have every volume resynced, or give up its disk.
func TestConnectionIsAskedToEndOnly(t *testing.T) {
	good := State{Role: Secondary, Peer: Secondary, Conn: Connected, Disk: UpToDate, PeerDisk: UpToDate}
	leaves := map[Change]bool{DisconnectChange: true, DisconnectPeerChange: true, DisconnectSelfChange: true}
	for _, c := range []Change{
		PromoteChange, ForcedPromoteChange, StartingSyncTChange, StartingSyncSChange, VerifyChange, DetachChange, RemoveVolumeChange,
		DisconnectChange, DisconnectPeerChange, DisconnectSelfChange,
	} {
		s := good
		if c == DisconnectPeerChange {
			s.Peer = Primary // whose writes this node will lack
		}
		next, _, err := s.Step(PeerRequest{Change: c, Connection: true}, Rules{})
		if leaves[c] != (err == nil && next.Conn == TearDown) {
			t.Errorf("%08X/%08X: %v, %v", c.Mask, c.Val, next, err)
		}
		if !leaves[c] && (err != NotSupported || next != s) {
			t.Errorf("%08X/%08X is not refused: %v, %v", c.Mask, c.Val, next, err)
		}
	}
}
