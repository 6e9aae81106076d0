package sim

import (
	"time"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/replication/metadata"
	sm "github.com/urbd/urbd/statemachine"
)

// askForbidden gives an order to a node that is StandAlone which has to be refused, whatever comes.
func (a *admin) askForbidden(n *node, i int) {
	s := a.s
	vol := s.vols[i].number
	st := n.state(i)
	var forbidden []engine.Command
	ask := func(is bool, cmd engine.Command) {
		if is {
			forbidden = append(forbidden, cmd)
		}
	}
	ask(st.Role != sm.Primary && st.Disk != sm.UpToDate, engine.Promote{})                          // on data that is old, or none
	ask(st.Role == sm.Primary, engine.Connect{DiscardMyData: true})                                 // of which its users know nothing
	ask(st.Role == sm.Primary, engine.Invalidate{Vol: vol})                                         // with nobody to copy from
	ask(st.Role == sm.Primary && st.Disk == sm.UpToDate, engine.Detach{Vol: vol})                   // the last good disk
	ask(st.Disk.Usable() || st.Disk == sm.Attaching, engine.Attach{Vol: vol, BackingSize: 1 << 20}) // a second one
	ask(true, engine.Disconnect{})
	cmd := forbidden[s.rng.IntN(len(forbidden))]
	n.order(cmd, func(err error) {
		if err == nil {
			s.fail("%s: %T %+v is carried out; the node is %v", n.name, cmd, cmd, st)
		}
		if now := n.state(i); now.Role != st.Role || now.Disk == sm.UpToDate && st.Disk.Usable() && st.Disk != sm.UpToDate {
			s.fail("%s: %T %+v is refused, and the node has gone from %v to %v", n.name, cmd, cmd, st, now)
		}
		s.counts[Forbidden]++
	})
}

// left checks what an end of the connection in order leaves behind: the disk that a Primary writes without says
// itself that it is old, when the order is answered.
func (a *admin) left(n *node) {
	for _, p := range a.s.nodes {
		q := p.peer()
		for i := range a.s.vols {
			st := p.state(i)
			if !p.alive() || st.Role != sm.Primary || st.Disk != sm.UpToDate || st.Conn.Established() || st.PeerDisk != sm.Outdated {
				continue
			}
			if q == n && n.unheard > 0 && n.unheard >= a.s.now-time.Second {
				continue
			}
			if q.disks[i].saysUpToDate() {
				a.s.fail("%s has left in order, %s writes on, and the disk of %s says that it is UpToDate", n.name, p.name, q.name)
			}
			a.s.counts[LeftOutdated]++
		}
	}
}

// saysUpToDate reports whether an attach, alone, would find the disk good.
func (d *disks) saysUpToDate() bool {
	b := make([]byte, 4096)
	d.meta.ReadAt(b, d.layout.Superblock)
	sb, err := metadata.DecodeSuperblock(b)
	if err != nil {
		d.n.s.fail("%s: metadata: %v", d.n.name, err)
	}
	return sb.Flags.AtAttach(metadata.Attach{}).Disk == metadata.DiskUpToDate
}
