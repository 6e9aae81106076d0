package wiretest

import "github.com/urbd/urbd/replication/wire"

// pair finds the connections that were used together. A data connection was
// used once both nodes sent their features on it; its meta connection is the
// last one that was dialled, as such, before the second of the two did, and is
// not part of an earlier pair. Crossed connects leave connections without a pair.
func (r *Recording) pair() {
	spoke := map[int]map[Node]bool{}
	meta := -1 // last one that announced itself
	for _, ev := range r.Events {
		if ev.Kind != Packet {
			continue
		}
		switch ev.Header.Cmd {
		case wire.CmdInitialMeta:
			meta = ev.Conn
		case wire.CmdConnectionFeatures:
			if spoke[ev.Conn] == nil {
				spoke[ev.Conn] = map[Node]bool{}
			}
			spoke[ev.Conn][ev.From] = true
			if len(spoke[ev.Conn]) == 2 && meta >= 0 && r.Conns[meta].Session < 0 {
				n := len(r.Sessions)
				r.Conns[ev.Conn].Session, r.Conns[meta].Session = n, n
				r.Sessions = append(r.Sessions, Session{Data: ev.Conn, Meta: meta})
			}
		}
	}
}
