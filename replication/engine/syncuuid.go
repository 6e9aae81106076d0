package engine

import (
	"github.com/urbd/urbd/replication/wire"
	sm "github.com/urbd/urbd/statemachine"
)

// syncUUIDReceived takes P_SYNC_UUID. One that comes early is kept.
func (e *Engine) syncUUIDReceived(v *volume, uuid uint64) {
	old := v.syncUUID
	v.syncUUID = uuid
	if err := e.step(v, sm.SyncUUIDReceived{}, "sync UUID received"); err == sm.InTransientState {
		v.syncUUID, v.earlyUUID = old, uuid
	}
}

func (e *Engine) lateSyncUUID(v *volume) {
	if u := v.earlyUUID; u != 0 && v.state.Conn.TakesSyncUUID() {
		v.earlyUUID = 0
		e.syncUUIDReceived(v, u)
	}
}

// sendSyncUUID announces the resync that begins, unless it is over already: the disk was lost because it did not take that name, and the target
// is not to be called by what nobody has heard of when the disk comes back.
func (e *Engine) sendSyncUUID(v *volume) {
	q := e.sending(DataSock)
	if q == nil || !v.state.Conn.Syncing() {
		return
	}
	q.packet(wire.CmdSyncUUID, v.number, 8)
	q.heads = wire.SyncUUID{UUID: v.syncUUID}.Append(q.heads)
}
