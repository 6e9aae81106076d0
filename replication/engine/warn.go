package engine

import (
	"fmt"

	sm "github.com/urbd/urbd/statemachine"
)

// warnUnreceived says what a node may lack that is promoted without its peer: with protocols A and B nobody waits for its disk.
func (e *Engine) warnUnreceived(v *volume, old sm.State) {
	alone := !v.state.Conn.Established() && v.state.PeerDisk == sm.DUnknown
	if p := e.cfg.Net.Protocol; p != ProtocolC && alone && old.Role != sm.Primary && v.state.Role == sm.Primary {
		e.notice(v, Warn, fmt.Sprintf("this node is Primary without its peer: with protocol %s, what was written there last may be missing here", protocolName(uint32(p))))
	}
}

// warnForced says what an order to be Primary by force takes for good. A disk that never had data lacks none.
func (e *Engine) warnForced(v *volume, old sm.State) {
	if old.Role == sm.Primary || v.state.Role != sm.Primary || v.state.Disk != sm.UpToDate || v.uuids.Current == sm.JustCreated {
		return
	}
	switch old.Disk {
	case sm.Outdated, sm.Consistent:
		e.notice(v, Warn, fmt.Sprintf("this node is Primary by force on a disk that was %v: what was written on the peer alone is lost when the peer is resynced from here", old.Disk))
	case sm.Inconsistent:
		e.notice(v, Warn, "this node is Primary by force on a disk that was Inconsistent: its data may be a mixture of old and new, and the peer's is lost when it is resynced from here")
	}
}
