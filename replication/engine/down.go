package engine

import (
	"slices"

	sm "github.com/urbd/urbd/statemachine"
)

// downing is the order of a Down: connection, roles, disks. It is carried out also where the leave lacks something, its own or one that was under way
// before, and says so then.
type downing struct {
	cmd   *command
	ev    sm.Disconnect
	leave *command   // its disconnect
	from  *departure // nil: there was no connection to leave
	stage int
}

const downName = "down"

// down ends everything. By force it asks nobody, and gives up disks that do not answer.
func (e *Engine) down(id uint64, force bool) {
	cmd := &command{id: id, name: downName, vols: e.vols, stepped: true}
	if force {
		cmd.limit = forcedPatience
	}
	d := &downing{cmd: cmd, ev: sm.Disconnect{Force: force, Idle: true}}
	if i := slices.IndexFunc(e.cmds, func(o *command) bool { return o.from != nil }); i >= 0 {
		d.from = e.cmds[i].from // a leave that is under way
	}
	cmd.done = d.advance
	e.cmds = append(e.cmds, cmd)
}

func (d *downing) advance(e *Engine) bool {
	if d.stage <= 3 && !statesAll(e.vols, sm.StandAlone) {
		d.from = e.conn.departure
	}
	for {
		switch d.stage {
		case 0:
			e.settleEpochs()
			d.stage++
		case 1:
			switch {
			case e.quiet() && !e.asksPeer(): // no promotion comes afterwards
				d.demote(e)
			case !d.ev.Force: // by force it is done after the disconnect, which marks what is not confirmed
				return false
			}
			d.stage++
		case 2:
			if !settledAll(e.vols) || e.conn.request != nil && !d.ev.Force {
				return false // a disconnect may do it
			}
			if !statesAll(e.vols, sm.StandAlone) {
				d.leave = e.disconnect(0, d.ev)
			}
			d.stage++
		case 3:
			if !statesAll(e.vols, sm.StandAlone) {
				if d.leave.err != nil && !e.vols[0].state.Conn.Ending() {
					d.cmd.err = d.leave.err // the peer cannot do without this node
					return true
				}
				return false
			}
			if !e.quiet() || d.leave != nil && slices.Contains(e.cmds, d.leave) {
				return false
			}
			d.demote(e) // those that could not be, because of a handshake
			d.stage++
		case 4:
			if !settledAll(e.vols) {
				return false
			}
			for _, v := range e.vols {
				if v.state.Disk != sm.Diskless {
					e.step(v, sm.Detach{Force: d.ev.Force || v.state.Disk == sm.Attaching}, "down")
				}
			}
			d.stage++
		default:
			for _, v := range e.vols {
				if v.state.Disk != sm.Diskless && !(d.ev.Force && v.late > 0) {
					return false
				}
			}
			if d.from != nil && d.from.settled() {
				d.cmd.err = d.from.owed(d.ev)
			}
			return true
		}
	}
}

// goesDown reports whether a down is under way. No disk is attached then, and no node promoted: it would wait for ever for what it has ended already.
func (e *Engine) goesDown() bool {
	return slices.ContainsFunc(e.cmds, func(cmd *command) bool { return cmd.name == downName })
}

func (d *downing) demote(e *Engine) {
	for _, v := range e.vols {
		e.step(v, sm.Demote{}, "down")
	}
}

func settledAll(vols []*volume) bool {
	return !slices.ContainsFunc(vols, func(v *volume) bool { return !v.settled() })
}
