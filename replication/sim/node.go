package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urbd/urbd/replication/engine"
	sm "github.com/urbd/urbd/statemachine"
)

// node is one host: the daemon while it lives, and what outlives it.
type node struct {
	s     *Sim
	index int
	name  string

	eng      *engine.Engine // nil: the daemon is dead
	life     int            // of the daemon; what belongs to an earlier one is ignored
	buffers  []byte
	deadline engine.Instant // of the engine, by the simulation's clock
	asleep   engine.Instant // the daemon gets no processor before
	reacting bool           // what the engine wants is being done
	again    bool           // and more was asked of it meanwhile
	planned  bool           // it will react later, together with what comes until then
	disks    []*disks
	orders   map[uint64]*order
	orderID  uint64
	trace    []string       // last state of each volume, as logged
	began    map[int]string // last generation that a volume began
	end      *end           // of the connection, nil: none
	seeking  bool           // the peer is looked for
	blocked  engine.Instant
	missing  struct { // data that the peer did not have, when it was refused last
		vol  int
		data uint64
	}
	people   [3]told // by volume
	fooled   [3]bool // by volume: it takes the peer's disk for a bad one, because of a lie
	users    users
	refuses  bool // the disk that it was given last, while it was mended
	attached int  // volumes before it have had their turn, while it was mended
}

func (n *node) peer() *node { return n.s.nodes[1-n.index] }

func (n *node) alive() bool { return n.eng != nil }

func (n *node) tell(format string, args ...any) {
	if n.s.opt.Story != nil {
		n.s.tell("%s  %s", n.name, fmt.Sprintf(format, args...))
	}
}

// boot starts the daemon: nothing attached, nothing connected.
func (n *node) boot() {
	p := n.s.profile
	cfg := engine.Config{Resource: "r0", Net: n.s.cond.net[n.index], Random: n.s.rng.Uint64}
	for i := range p.volumes {
		v := &p.volumes[i]
		disk := v.disk
		disk.Size = n.configured(i)
		cfg.Volumes = append(cfg.Volumes, engine.VolumeConfig{Number: v.number, Disk: disk, Meta: v.meta, Users: n.users.adopted(i)})
	}
	if n.buffers == nil {
		n.buffers = make([]byte, engine.MinBuffers+len(cfg.Volumes)*engine.VolumeBuffers)
	}
	cfg.Buffers = n.buffers
	e, err := engine.New(cfg)
	if err != nil {
		n.s.fail("%s: %v", n.name, err)
	}
	n.life++
	n.eng, n.deadline, n.planned, n.orders = e, engine.Never, false, map[uint64]*order{}
	n.trace = make([]string, len(p.volumes))
	n.end, n.seeking = nil, false
	for _, d := range n.disks {
		d.open = false
	}
	n.tell("the daemon starts")
	n.users.attend(n.life)
}

// touched is called after a method of the engine was: the node reacts, at once
// or together with what comes in the next moment.
func (n *node) touched() {
	if n.eng == nil || n.planned {
		return
	}
	if n.reacting {
		n.again = true
		return
	}
	if n.s.rng.Float64() >= n.s.profile.batch {
		n.react()
		return
	}
	n.planned = true
	life := n.life
	n.s.after(time.Duration(n.s.rng.Int64N(int64(500*time.Microsecond))), func() {
		if n.life == life {
			n.react()
		}
	})
}

// react does what the engine wants, until it wants nothing more.
func (n *node) react() {
	n.planned = false
	if n.reacting {
		return
	}
	if n.planned = n.sleeps(n.react); n.planned {
		return
	}
	n.reacting = true
	defer func() { n.reacting = false }()
	for round := 0; n.eng != nil; round++ {
		if round > 1000 {
			n.s.fail("%s: the engine does not come to rest: deadline %v", n.name, n.eng.Deadline())
		}
		due := n.eng.Deadline() <= n.now()
		if due {
			n.eng.Tick(n.now())
		}
		busy := n.drain()
		for _, sock := range []engine.Socket{engine.DataSock, engine.MetaSock} {
			busy = n.startSend(sock) || busy
		}
		if !busy && !due && !n.again {
			break
		}
		n.again = false
	}
	if n.eng != nil {
		n.deadline = n.s.cond.clocks[n.index].shows(n.eng.Deadline())
	}
}

// drain carries an Output out.
func (n *node) drain() bool {
	out := n.eng.Drain()
	disk := append([]engine.DiskIO(nil), out.Disk...)
	done := append([]*engine.Request(nil), out.Done...)
	events := append([]engine.Event(nil), out.Events...)
	for _, ev := range events {
		if u, ok := ev.(engine.UsersWork); ok {
			n.users.keep(n.s.volumeIndex(u.Vol), u.Users)
		}
	}
	for _, io := range disk {
		n.startDisk(io)
	}
	for _, r := range done {
		n.s.app.answered(n, r)
	}
	for _, ev := range events {
		n.event(ev)
	}
	return len(disk)+len(done)+len(events) > 0
}

func (n *node) event(ev engine.Event) {
	s := n.s
	switch ev := ev.(type) {
	case engine.OpenConnection:
		n.tell("looks for the peer, after %v", ev.After)
		n.seeking, n.blocked = true, s.now+n.lasts(ev.After)
		s.link.look()
	case engine.CloseConnection:
		n.tell("closes the connection, linger %v", ev.Linger)
		s.link.close(n, ev.Linger)
	case engine.CloseBacking:
		d := n.disks[s.volumeIndex(ev.Vol)]
		if d.flights > 0 {
			s.fail("%s: volume %d is given back with %d I/Os in flight", n.name, ev.Vol, d.flights)
		}
		d.open = false
		n.tell("volume %d is given back", ev.Vol)
	case engine.AbandonDisk:
		n.tell("volume %d: its disk is given up", ev.Vol)
		s.counts[DiskAbandoned]++
	case engine.Reply:
		n.replied(ev)
	case engine.StateChange:
		n.tell("volume %d: %s -> %s (%s)", ev.Vol, ev.From, ev.To, ev.Cause)
		n.tells(s.volumeIndex(ev.Vol), ev)
		n.heeds(s.volumeIndex(ev.Vol), ev.To)
		n.transition(s.volumeIndex(ev.Vol), ev)
	case engine.Notice:
		n.tell("notice: volume %d: %s", ev.Vol, ev.Text)
		if ev.Vol >= 0 {
			n.tells(s.volumeIndex(ev.Vol), ev)
		}
		n.notice(ev)
	case engine.RememberBlockSize:
		n.disks[s.volumeIndex(ev.Vol)].remembered = ev
		n.tell("%T %+v", ev, ev)
	case engine.StartDevice, engine.ResizeDevice:
		n.tell("%T %+v", ev, ev)
	}
}

// transition checks that a logged change follows the one before it (invariant I7), and the rules.
func (n *node) transition(i int, ev engine.StateChange) {
	s := n.s
	if !replicates(ev.To) {
		s.admin.lone[n.index][i] = s.turn // the disk of the peer may be back in the next packet
	}
	if last := n.trace[i]; last != "" && last != ev.From.String() {
		s.fail("%s: volume %d changes from %q, it was %q", n.name, ev.Vol, ev.From, last)
	}
	n.trace[i] = ev.To.String()
	s.vols[i].follows(n, ev.From, ev.To)
	n.fits(i, ev.From, ev.To)
	silent := ev.Cause == "the disk does not answer" && !s.cond.stalls           // who gets no processor hears no answer
	if (ev.Cause == "I/O error" || silent) && !n.disks[i].broken && !s.healing { // what failed before may be heard of after the repair
		s.fail("%s: volume %d: the disk is given up (%s), and nothing is wrong with it", n.name, ev.Vol, ev.Cause)
	}
	from, to := ev.From.Conn.String(), ev.To.Conn.String()
	if strings.Contains(ev.Cause, "ping") {
		s.counts[PingTimeout]++
		if max(s.link.deaf[0], s.link.deaf[1]) > s.now && s.link.stalled <= s.now {
			s.counts[PingDeaf]++
		}
	}
	if s.cond.slow && !targets.has(ev.From.Conn) && targets.has(ev.To.Conn) {
		n.disturb(i)
	}
	if strings.HasPrefix(from, "Sync") || strings.HasPrefix(from, "PausedSync") {
		switch {
		case to == "Connected" && n.state(i).Redundant():
			s.counts[ResyncDone]++
			s.vols[i].resynced(n)
			if strings.HasSuffix(from, "T") || strings.HasSuffix(from, "Target") {
				s.admin.copied(n)
				s.admin.partAtEnd(n)
			}
		case to != "Connected" && !strings.Contains(to, "Sync"):
			s.counts[ResyncCut]++
			if s.cond.slow {
				s.counts[SlowResyncCut]++
			}
		}
	}
}

// notice counts what is told to people, and fails a run in which the
// administrator's policy left no room for such a notice.
func (n *node) notice(ev engine.Notice) {
	s := n.s
	switch {
	case strings.HasPrefix(ev.Text, "new data generation "):
		n.began[ev.Vol] = generationOf(ev.Text)
		n.deceived(s.volumeIndex(ev.Vol), n.began[ev.Vol])
	case strings.HasPrefix(ev.Text, "the new data generation could not be written"):
		s.ambiguous = append(s.ambiguous, n.began[ev.Vol])
	case (strings.HasPrefix(ev.Text, "connection refused: volume ") || strings.Contains(ev.Text, "logical blocks of")) && n.believes(): // of what nobody has sent
	case strings.Contains(ev.Text, "whether the peer goes on with the data"):
		s.unheard = true
	case strings.Contains(ev.Text, "logical blocks of"):
		n.blocksRefused(ev.Text)
	case strings.Contains(ev.Text, "this node is Primary on data"):
		n.misses(ev)
	case strings.Contains(ev.Text, "split brain:"):
		if !s.admin.parted && slices.ContainsFunc(s.ambiguous, func(g string) bool { return strings.Contains(ev.Text, g) }) {
			panic(ending(Ambiguous))
		}
		if !s.admin.parted && (s.link.misled || s.link.beganByLie(ev.Text)) && !n.believes() {
			panic(ending(SplitByLie))
		}
		if !s.admin.parted && s.unheard {
			panic(ending(SplitUnheard))
		}
		if !s.admin.parted && !n.believes() {
			s.fail("%s: %s", n.name, ev.Text)
		}
		s.admin.sawSplit[n.index] = true
		s.counts[SplitBrain]++
	case strings.Contains(ev.Text, "unrelated data") && n.believes():
	case strings.Contains(ev.Text, "unrelated data"):
		s.fail("%s: %s", n.name, ev.Text)
	case strings.Contains(ev.Text, "activity log is not readable"):
		s.counts[RingDistrusted]++
	case strings.Contains(ev.Text, "activity log replayed"):
		s.counts[LogReplayed]++
	}
}

// misses takes note of the data that applications work on here and the peer does not have. The volume is that of the notice, or is named in it.
func (n *node) misses(ev engine.Notice) {
	text := strings.TrimPrefix(ev.Text, "connection refused: ")
	if n.missing.vol = ev.Vol; ev.Vol < 0 {
		fmt.Sscanf(text, "volume %d:", &n.missing.vol)
	}
	_, data, _ := strings.Cut(text, "this node is Primary on data ")
	if _, err := fmt.Sscanf(data, "%X", &n.missing.data); err != nil {
		n.s.fail("%s: which data is missing? %s", n.name, ev.Text)
	}
}

// ending is the panic of a run that cannot go on, and breaks no promise. Both nodes have stopped, and an administrator is asked: a disk
// had failed while a generation was written to it and taken back, and has it all the same (Ambiguous); or one node has gone on alone with a change of
// state that somebody had lied about, or has begun a generation because of a lie about the peer's disk (SplitByLie); or a Primary has taken its disk into use again, and was told that the peer may have gone on unheard
// (SplitUnheard).
type ending Fault

// generationOf is the first generation in a notice, without the digit that has the bit of the role.
func generationOf(text string) string {
	return strings.TrimPrefix(text, "new data generation ")[:15]
}

// state is that of a volume, the weakest if the daemon is dead.
func (n *node) state(i int) sm.State {
	if n.eng == nil {
		return sm.Initial
	}
	return n.eng.State(n.s.vols[i].number)
}

// primary reports whether the daemon lives and is Primary, on any volume.
func (n *node) primary() bool {
	for i := range n.s.vols {
		if n.alive() && n.state(i).Role == sm.Primary {
			return true
		}
	}
	return false
}

// die ends the daemon, with the host if power is lost.
func (n *node) die(power bool) {
	if n.eng == nil {
		return
	}
	what := "the daemon dies"
	if power {
		what = "the host loses power"
	}
	n.tell("%s", what)
	s := n.s
	n.users.outlive(power)
	s.admin.dies(n, power)
	s.link.died(n, power)
	s.app.died(n)
	for _, d := range n.disks {
		d.died(power)
	}
	n.eng, n.orders, n.deadline, n.asleep, n.seeking = nil, nil, engine.Never, 0, false
	n.life++
}
