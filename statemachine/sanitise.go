package statemachine

// correction is one implied correction: where it holds, and what it makes of
// the state.
type correction struct {
	name  string
	holds func(State) bool
	fix   func(*State)
}

// corrections are applied top-down. The order is that of the source, except that the pause
// marks come before the disk clamps, so that one pass is enough: a resync that
// is taken up again has to find its disk clamped as a running one's.
//
// A row that declares an Outdated disk UpToDate asks for a disk on the other side: if there is none,
// or it is still being negotiated, nobody has compared anything, and it stays what it is. So does the disk of a
// target that the source leaves in the middle.
// Source: docs/drbd-wire.md 8.2.
var corrections = []correction{
	{"not connected: the peer is unknown",
		func(s State) bool { return s.Conn < Connected },
		func(s *State) {
			s.Peer, s.PeerISP = RoleUnknown, false
			if s.PeerDisk < Inconsistent || s.PeerDisk > DUnknown {
				s.PeerDisk = DUnknown
			}
		}},
	{"a disk is gone: resync and verify are aborted",
		func(s State) bool { return s.Conn > Connected && (s.Disk.Gone() || s.PeerDisk.Gone()) },
		func(s *State) {
			if s.Conn.Source() {
				s.PeerDisk = min(s.PeerDisk, Outdated)
			}
			s.Conn = Connected
		}},
	{"connected: own disk was found good",
		func(s State) bool {
			return s.Conn >= Connected && s.Conn < Ahead &&
				(s.Disk == Consistent || s.Disk == Outdated && (s.PeerDisk.Usable() || s.Conn > Connected))
		},
		func(s *State) { s.Disk = UpToDate }},
	{"connected: peer's disk was found good",
		func(s State) bool {
			return s.Conn >= Connected && s.Conn < Ahead &&
				(s.PeerDisk == Consistent || s.PeerDisk == Outdated && (s.Disk.Usable() || s.Conn > Connected))
		},
		func(s *State) { s.PeerDisk = UpToDate }},
	{"paused as source", func(s State) bool { return s.Conn == SyncSource && s.Pausing() }, func(s *State) { s.Conn = PausedSyncS }},
	{"paused as target", func(s State) bool { return s.Conn == SyncTarget && s.Pausing() }, func(s *State) { s.Conn = PausedSyncT }},
	{"resumed as source", func(s State) bool { return s.Conn == PausedSyncS && !s.Pausing() }, func(s *State) { s.Conn = SyncSource }},
	{"resumed as target", func(s State) bool { return s.Conn == PausedSyncT && !s.Pausing() }, func(s *State) { s.Conn = SyncTarget }},
	{"about to be overwritten, or overwritten and paused",
		func(s State) bool { return s.Conn.Target() && s.Conn != SyncTarget },
		func(s *State) { s.Disk, s.PeerDisk = s.Disk.clamp(Inconsistent, Outdated), UpToDate }},
	{"being overwritten",
		func(s State) bool { return s.Conn == SyncTarget },
		func(s *State) { s.Disk, s.PeerDisk = Inconsistent, UpToDate }},
	{"about to overwrite, or overwriting and paused",
		func(s State) bool { return s.Conn.Source() && s.Conn != SyncSource },
		func(s *State) { s.Disk, s.PeerDisk = UpToDate, s.PeerDisk.clamp(Inconsistent, Consistent) }},
	{"overwriting",
		func(s State) bool { return s.Conn == SyncSource },
		func(s *State) { s.Disk, s.PeerDisk = UpToDate, Inconsistent }},
	{"verifying",
		func(s State) bool { return s.Conn.Verifying() },
		func(s *State) { s.Disk, s.PeerDisk = UpToDate, UpToDate }},
	{"unconfigured: waits for nobody",
		func(s State) bool { return s.Conn == StandAlone && s.Disk == Diskless && s.Role == Secondary },
		func(s *State) { s.AfterISP = false }},
}

// Sanitise corrects what follows of necessity: combinations that cannot be,
// after one field has changed. It is idempotent.
func (s State) Sanitise() State {
	for _, c := range corrections {
		if c.holds(s) {
			c.fix(&s)
		}
	}
	return s
}
