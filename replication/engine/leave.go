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

// disconnect ends the connection in agreement with the peer. In order it waits for what the peer has been asked before: a promotion
// that the peer agrees to makes this a Primary that leaves.
func (e *Engine) disconnect(id uint64, ev sm.Disconnect) *command {
	cmd := &command{id: id, name: "disconnect", ev: ev, vols: e.vols}
	cmd.done = func(*Engine) bool { return statesAll(e.vols, sm.StandAlone) && cmd.left(ev) }
	if ev.Force {
		cmd.limit = forcedPatience
	}
	e.cmds = append(e.cmds, cmd)
	proven := func() bool { return !proving(cmd.vols) }
	switch {
	case !ev.Force && e.asksPeer():
		cmd.when = func() bool {
			if e.asksPeer() {
				return false
			}
			cmd.when = proven
			e.provesFirst(cmd.vols, ev)
			return proven()
		}
	case e.mayDisconnect(ev) == nil && e.provesFirst(cmd.vols, ev):
		cmd.when = proven
	default:
		e.stepCommand(cmd)
	}
	return cmd
}

// asksPeer reports whether the peer has not answered yet what it was asked for a volume.
func (e *Engine) asksPeer() bool {
	return slices.ContainsFunc(e.vols, func(v *volume) bool { return v.request != nil })
}

// leave has the volumes leave the connection, all of them, or none.
func (e *Engine) leave(cmd *command, ev sm.Disconnect) {
	cmd.from = e.conn.departure
	if cmd.when != nil && slices.ContainsFunc(e.vols, (*volume).leftUnasked) {
		cmd.from.lacks = &LeaveError{Peers: true, Why: "the connection ended before the peer was asked"}
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

// departure is how a connection is left in order. It is the same for every order that leaves it: a down may come while a disconnect is under way. Each
// search for the peer has its own.
type departure struct {
	outdates []*volume   // whose own disks the peer has agreed to call Outdated, or may have
	lacks    *LeaveError // it is carried out all the same
}

// settled reports whether it is known what a departure lacks. It has succeeded if every disk that was to be Outdated is, durably: nothing is being
// committed any more, and one that has failed has it written on it, when it is let go.
func (d *departure) settled() bool {
	for _, v := range d.outdates {
		if v.state.Disk == sm.Failed && v.late == 0 {
			return false
		}
		if v.comesBackGood() && d.lacks == nil {
			d.lacks = &LeaveError{Why: fmt.Sprintf("the metadata of volume %d could not be written", v.number)}
		}
	}
	return true
}

// owed is what a departure lacks of what an order to leave promises: by force nothing is, and who writes no more says nothing of the peer's disk.
func (d *departure) owed(ev sm.Disconnect) error {
	if d.lacks == nil || ev.Force || ev.Idle && d.lacks.Peers {
		return nil
	}
	return d.lacks
}

// left ends a disconnect. One by force has nothing to wait for.
func (cmd *command) left(ev sm.Disconnect) bool {
	if !ev.Force && !cmd.from.settled() {
		return false
	}
	cmd.err = cmd.from.owed(ev)
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
