package engine

import (
	"fmt"
	"slices"

	sm "github.com/urbd/urbd/statemachine"
)

// leaves reports whether an order ends the connection: a disconnect, or a down.
func (cmd *command) leaves() bool {
	_, is := cmd.ev.(sm.Disconnect)
	return is || cmd.name == downName
}

// disconnect ends the connection in agreement with the peer.
func (e *Engine) disconnect(id uint64, ev sm.Disconnect) *command {
	cmd := &command{id: id, name: "disconnect", ev: ev, vols: e.vols}
	cmd.done = func(*Engine) bool { return statesAll(e.vols, sm.StandAlone) && cmd.left() }
	if ev.Force {
		cmd.limit = forcedPatience
	}
	e.cmds = append(e.cmds, cmd)
	if e.mayDisconnect(ev) == nil && e.provesFirst(cmd.vols, ev) {
		cmd.when = func() bool { return !proving(cmd.vols) }
	} else {
		e.stepCommand(cmd)
	}
	return cmd
}

// leave has the volumes leave the connection, all of them, or none.
func (e *Engine) leave(cmd *command, ev sm.Disconnect) {
	if cmd.when != nil && slices.ContainsFunc(e.vols, (*volume).leftUnasked) {
		cmd.lacks = &LeaveError{Peers: true, Why: "the connection ended before the peer was asked"}
	}
	if cmd.err = e.mayDisconnect(ev); cmd.err != nil {
		return
	}
	for _, v := range e.leavingOrder() {
		if err := e.stepFor(v, cmd.ev, cmd.name, cmd); err != nil {
			cmd.err = err
			break
		}
		if e.conn.request != nil && !ev.Force {
			break // the connection's request speaks for all volumes
		}
	}
}

// leftUnasked reports whether a Primary is alone, and the peer's disk was not called old before.
func (v *volume) leftUnasked() bool {
	return v.state.Role == sm.Primary && !v.state.Conn.Established() && v.state.PeerDisk != sm.Outdated
}

// left ends a disconnect. It has succeeded if every disk that was to be Outdated is, durably: nothing is being committed any more, and one
// that has failed has it written on it, when it is let go.
func (cmd *command) left() bool {
	for _, v := range cmd.outdates {
		if v.state.Disk == sm.Failed && v.late == 0 {
			return false
		}
		if v.comesBackGood() && cmd.lacks == nil {
			cmd.lacks = &LeaveError{Why: fmt.Sprintf("the metadata of volume %d could not be written", v.number)}
		}
	}
	if cmd.lacks != nil {
		cmd.err = cmd.lacks
	}
	return true
}

// leavingOrder are the volumes, those first that speak for the others when this node leaves.
func (e *Engine) leavingOrder() []*volume {
	all := slices.Clone(e.vols)
	slices.SortStableFunc(all, func(a, b *volume) int { return b.state.LeavingRank() - a.state.LeavingRank() })
	return all
}

// mayDisconnect asks every volume: the connection goes for all of them. By force it goes also where the peer has been asked, and does not answer.
func (e *Engine) mayDisconnect(ev sm.Disconnect) error {
	if e.conn.request != nil && !ev.Force {
		return sm.InTransientState
	}
	for _, v := range e.vols {
		if _, _, err := v.state.Step(ev, e.rules(v)); err != nil {
			return err
		}
	}
	return nil
}
