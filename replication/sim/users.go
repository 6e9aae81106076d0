package sim

import (
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// users are those of a node's devices: the application that outlives the daemon, with what it was not answered. They wait for the
// next daemon, as the kernel has them wait, and go on with their data, or get errors; never do they go on with other data.
type users struct {
	n       *node
	wait    bool           // their daemon has died
	doomed  string         // why their data is not what the node will serve; empty: it is
	firm    bool           // nobody can take that back: a promotion that was not answered may never have been durable
	away    engine.Instant // the next daemon does not come before
	since   engine.Instant // when the daemon came that they wait for now
	records map[int]engine.Users
	onPeer  [3]bool // by volume: since the own disk was good last, the peer's has served them
}

// alone is how long they wait for the peer before their node goes on without it.
const alone = 3 * time.Second

// keep is the record that outlives daemons, but no power loss.
func (u *users) keep(i int, is engine.Users) {
	if u.records == nil {
		u.records = map[int]engine.Users{}
	}
	u.n.tell("volume %d: of the users it is kept: %v %X", u.n.s.vols[i].number, is.State, is.Generations)
	u.records[i] = is
}

// adopted is what a new daemon knows of the users of a volume.
func (u *users) adopted(i int) engine.Users {
	if !u.wait {
		return engine.Users{}
	}
	return u.records[i].Adopted()
}

// outlive is called when the daemon dies.
func (u *users) outlive(power bool) {
	s, n := u.n.s, u.n
	switch {
	case power:
		if u.wait {
			u.forget()
		}
		u.end()
	case n.primary() && !u.wait && (s.app.on[n.index] || s.app.underWay(n) > 0):
		u.wait, u.doomed = true, ""
		s.counts[UsersOutlived]++
		for i := range s.vols {
			if u.onPeer[i] {
				u.doomed, u.firm = "their data was on the peer's disk", true
			}
		}
		if u.doomed != "" {
			u.forget()
		}
		if s.rng.IntN(2) == 0 {
			u.failover()
		}
	}
}

// failover has the peer promoted as soon as it may be, while there is no daemon here: that is what cluster managers do.
func (u *users) failover() {
	n, s := u.n, u.n.s
	u.away = s.now + between(s.rng, time.Second)
	var try func()
	try = func() {
		switch a := &s.admin; {
		case !a.on || !u.wait || n.alive() || s.now >= u.away:
		case a.mayPromote(n.peer()):
			a.promote(n.peer())
		default:
			s.after(between(s.rng, 20*time.Millisecond), try)
		}
	}
	s.after(between(s.rng, 20*time.Millisecond), try)
}

// end is for users that are no more.
func (u *users) end() {
	u.wait, u.doomed, u.firm, u.records, u.onPeer = false, "", false, nil, [3]bool{}
}

// worksOn keeps account of where the data is that a Primary's users work on.
func (u *users) worksOn(i int, own, peers bool) { u.onPeer[i] = !own && (peers || u.onPeer[i]) }

// forget is for what they saw of what was not answered: it is theirs, and they are no more, or soon will be.
func (u *users) forget() {
	for _, v := range u.n.s.vols {
		v.model.forgetSeen()
	}
}

// doom takes note that the peer is Primary: it will have other data.
func (u *users) doom() {
	if u.wait && u.doomed == "" {
		u.doomed = "the peer was Primary"
		u.forget()
		for _, c := range u.n.s.app.callsOf(u.n) {
			if c.w != nil && c.w.over == 0 {
				c.w.over = u.n.s.turn // what was not carried out by now may never be
			}
		}
	}
}

// attend is what the owner of a daemon does for users that it has found.
func (u *users) attend(life int) {
	u.since = u.n.s.now
	var look func()
	look = func() {
		n := u.n
		if n.life != life || !u.wait {
			return
		}
		u.look()
		n.s.after(between(n.s.rng, 20*time.Millisecond), look)
	}
	if u.wait {
		u.n.s.after(0, look)
	}
}

func (u *users) look() {
	n, a := u.n, &u.n.s.admin
	met := true
	for i, v := range n.eng.Status().Volumes {
		if v.Users.State == engine.UsersLost {
			u.refused()
			return
		}
		st := n.state(i)
		met = met && st.Conn.Established() && st.PeerDisk.Usable()
	}
	if n.primary() || a.promoting != nil || a.busy[0] || a.busy[1] || a.parted || n.peer().primary() && !met {
		return
	}
	if !met && (u.doomed != "" || n.s.now < u.since+alone) {
		return // an administrator who has promoted the peer keeps this node from going on alone
	}
	a.promote(n)
}

// refused gives errors to the users whose data is lost, and they end.
func (u *users) refused() {
	n, s := u.n, u.n.s
	s.counts[UsersRefused]++
	n.tell("the users get errors (%s)", u.doomed)
	u.forget()
	for _, c := range s.app.callsOf(n) {
		s.app.drop(c, "answered with an error")
	}
	s.app.on[n.index] = false
	for _, v := range s.vols {
		n.order(engine.Unused{Vol: v.number}, nil)
	}
	u.end()
}

// served has the users go on: their node is Primary again. What was not answered is issued again, in the order in which it was.
func (u *users) served() {
	n, s := u.n, u.n.s
	if !u.wait {
		return
	}
	if u.doomed != "" && u.firm {
		s.fail("%s: users are served other data than they had: %s", n.name, u.doomed)
	}
	for i, v := range s.vols {
		if st := n.state(i); st.Disk == sm.UpToDate {
			v.verify(n, "users served again")
		}
	}
	u.end()
	s.counts[UsersServed]++
	for _, c := range s.app.callsOf(n) {
		s.counts[Reissued]++
		again := *c.req
		c.req, c.at = &engine.Request{
			Vol: again.Vol, Op: again.Op, Off: again.Off, Len: again.Len, FUA: again.FUA, NoUnmap: again.NoUnmap, Data: again.Data, Handle: again.Handle,
		}, s.now
		if c.w != nil && c.w.over != 0 { // it was given up when the peer was promoted; that has died, and was not durable
			c.w = c.v.model.again(c.w, again.Off, again.Len, s.turn)
		}
		n.tell("request %d is issued again", c.req.Handle)
		n.eng.Submit(n.now(), c.req)
	}
	n.touched()
}
