package engine

import (
	"slices"

	sm "github.com/urbd/urbd/statemachine"
)

// downing is the order of a Down: connection, roles, disks. It is carried out also where its disconnect lacks something, and says so then.
type downing struct {
	cmd   *command
	leave *command // its disconnect
	force bool
	stage int
}

const downName = "down"

// down ends everything. By force it asks nobody, and gives up disks that do not answer.
func (e *Engine) down(id uint64, force bool) {
	cmd := &command{id: id, name: downName, vols: e.vols, stepped: true}
	if force {
		cmd.limit = forcedPatience
	}
	cmd.done = (&downing{cmd: cmd, force: force}).advance
	e.cmds = append(e.cmds, cmd)
}

func (d *downing) advance(e *Engine) bool {
	for {
		switch d.stage {
		case 0:
			e.settleEpochs()
			d.stage++
		case 1:
			switch quiet := e.quiet(); {
			case quiet:
				d.demote(e)
			case !d.force: // by force it is done after the disconnect, which marks what is not confirmed
				return false
			}
			d.stage++
		case 2:
			if !settledAll(e.vols) {
				return false
			}
			if !statesAll(e.vols, sm.StandAlone) {
				d.leave = e.disconnect(0, sm.Disconnect{Force: d.force, Idle: true})
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
					e.step(v, sm.Detach{Force: d.force || v.state.Disk == sm.Attaching}, "down")
				}
			}
			d.stage++
		default:
			for _, v := range e.vols {
				if v.state.Disk != sm.Diskless && !(d.force && v.late > 0) {
					return false
				}
			}
			if d.leave != nil && d.leave.lacks != nil {
				d.cmd.err = d.leave.lacks
			}
			return true
		}
	}
}

func (d *downing) demote(e *Engine) {
	for _, v := range e.vols {
		e.step(v, sm.Demote{}, "down")
	}
}

func settledAll(vols []*volume) bool {
	return !slices.ContainsFunc(vols, func(v *volume) bool { return !v.settled() })
}
