package engine

import (
	"github.com/urbd/urbd/bitmap"
	sm "github.com/urbd/urbd/statemachine"
)

// Status is a snapshot of the resource.
func (e *Engine) Status() Status {
	st := Status{Conn: sm.StandAlone, Role: sm.Secondary, APInFlight: e.conn.apInFlight, Link: e.conn.link, Refused: e.conn.refused}
	for i, v := range e.vols {
		if v.state.Role == sm.Primary {
			st.Role = sm.Primary
		}
		if v.state.Peer != sm.RoleUnknown && st.PeerRole != sm.Primary {
			st.PeerRole = v.state.Peer
		}
		if c := min(v.state.Conn, sm.Connected); i == 0 || c < st.Conn {
			st.Conn = c
		}
		st.Since = max(st.Since, v.since)
		st.RSInFlight += v.resync.inFlight
		st.Volumes = append(st.Volumes, e.volumeStatus(v))
	}
	return st
}

func (e *Engine) volumeStatus(v *volume) VolumeStatus {
	pending := 0
	for i := range e.conn.remoteReads {
		if e.conn.remoteReads[i].vol == v {
			pending++
		}
	}
	return VolumeStatus{
		Number: v.number, State: v.state, UUIDs: v.uuids, PeerUUIDs: v.peerUUIDs.UUIDs, Size: v.size, BlockSize: v.blockSize(),
		OutOfSync: v.outOfSync(), Dirty: v.dirty, LastUse: v.lastUse, Crashed: v.crashed, Users: v.users,
		ReadBytes: v.read, WrittenBytes: v.written, SentBytes: v.sent, RecvBytes: v.received,
		ALWrites: v.alWrites, BMWrites: v.bmWrites,
		UpperPending: v.upper, LowerPending: v.diskPending, Pending: pending, Unacked: v.unacked,
		HeldWrites: v.heldWrites.len() + v.heldReads.len(), Sync: e.syncStatus(v), DiskWaits: e.waits(v),
	}
}

// outOfSync is in bytes.
func (v *volume) outOfSync() int64 {
	if v.bm == nil {
		return 0
	}
	return v.bm.Count() * bitmap.BlockSize
}

// dirty reports whether a block of the range is marked; without a disk nothing is known.
func (v *volume) dirty(off, n int64) bool { return v.bm != nil && v.bm.AnySet(off, n) }
