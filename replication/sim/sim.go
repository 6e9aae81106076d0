package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/urbd/urbd/replication/engine"
)

// Options say which run is wanted.
type Options struct {
	Seed    uint64
	Events  int       // before the faults cease
	Story   io.Writer // what happens, line by line; nil: nobody listens
	Packets bool      // with every packet
	Storms  bool      // several troubles at once, again and again
	Plain   bool      // without conditions and media, which seeds that were found earlier did not have
}

// Result is what came of a run.
type Result struct {
	Err    error // nil, or what was violated
	Events int
	Time   time.Duration // virtual
	Counts Counts
}

// Sim is one run.
type Sim struct {
	opt      Options
	rng      *rand.Rand
	profile  profile
	cond     conditions
	media    media
	shrinker shrinker
	storms   storms
	now      engine.Instant
	turn     uint64 // number of the event
	agenda   agenda
	nodes    [2]*node
	link     link
	vols     []*volume
	app      app
	admin    admin
	counts   Counts
	healing  bool // faults have ceased

	unheard   bool     // a disk is in use below a Primary whose peer may have gone on, as people were told, and the disks were not the same since
	ambiguous []string // generations that were taken back because they could not be written: see there
}

// violation is the panic of a broken promise.
type violation struct{ text string }

// fail ends the run.
func (s *Sim) fail(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}

// Run makes one run. A panic of the code under test is a violation too.
func Run(opt Options) (res Result) {
	s := newSim(opt)
	defer func() {
		res.Events, res.Time, res.Counts = int(s.turn), s.now, s.counts
		switch r := recover().(type) {
		case nil:
		case ending:
			res.Counts[r]++
			s.tell("the run ends: %v", Fault(r))
		case violation:
			res.Err = fmt.Errorf("seed %d, event %d, at %v: %s", opt.Seed, s.turn, s.now, r.text)
		default:
			res.Err = fmt.Errorf("seed %d, event %d, at %v: panic: %v\n%s", opt.Seed, s.turn, s.now, r, debug.Stack())
		}
		if res.Err != nil {
			s.tell("VIOLATION %v", res.Err)
		}
	}()
	s.tell("seed %d: %v", opt.Seed, s.profile)
	s.build()
	s.setup()
	s.chaos()
	s.heal()
	return res
}

func newSim(opt Options) *Sim {
	rng := rand.New(rand.NewPCG(opt.Seed, 0x5eed))
	s := &Sim{opt: opt, rng: rng, profile: newProfile(rng)}
	s.storms = newStorms(opt.Seed, opt.Storms, &s.profile)
	s.cond = newConditions(opt.Seed, opt.Plain, &s.profile)
	s.shrinker = newShrinker(opt.Seed, opt.Plain)
	s.media = newMedia(opt.Seed, opt.Plain, &s.profile)
	s.cond.allow(&s.profile)
	return s
}

func (s *Sim) build() {
	s.link.s, s.app.s, s.admin.s = s, s, s
	for i := range s.nodes {
		s.nodes[i] = &node{s: s, index: i, name: string(rune('A' + i)), began: map[int]string{}}
		s.nodes[i].users.n = s.nodes[i]
	}
	for i, vp := range s.profile.volumes {
		s.vols = append(s.vols, newVolume(s, i, vp))
	}
	for _, n := range s.nodes {
		for i := range s.vols {
			n.disks = append(n.disks, newDisks(n, i))
		}
	}
	for _, v := range s.vols {
		v.begin()
	}
}

// after plans what happens in d from now.
func (s *Sim) after(d time.Duration, do func()) { s.agenda.plan(s.now+d, do) }

// step lets the next thing happen and checks what must hold after it. false:
// nothing is left that could happen before until.
func (s *Sim) step(until engine.Instant) bool {
	at, who := s.agenda.next(), (*node)(nil)
	for _, n := range s.nodes {
		if due := max(n.deadline, n.asleep); n.eng != nil && n.deadline != engine.Never && due < at {
			at, who = due, n
		}
	}
	if at > until {
		s.now = max(s.now, until)
		return false
	}
	s.now = max(s.now, at)
	s.turn++
	if who != nil {
		who.react()
	} else {
		s.agenda.pop()()
	}
	s.check()
	return true
}

// run goes on for d, or until done says so.
func (s *Sim) run(d time.Duration, done func() bool) bool {
	until := s.now + d
	for done == nil || !done() {
		if !s.step(until) {
			return done != nil && done()
		}
	}
	return true
}

// chaos is the main part of a run.
func (s *Sim) chaos() {
	end := s.turn + uint64(s.opt.Events*s.media.length)
	s.admin.start()
	s.app.start()
	s.mischief()
	for s.turn < end {
		s.step(engine.Never)
	}
	s.admin.stop()
}

// tell adds a line to the story.
func (s *Sim) tell(format string, args ...any) {
	if s.opt.Story != nil {
		fmt.Fprintf(s.opt.Story, "%12.6f %5d %s\n", s.now.Seconds(), s.turn, fmt.Sprintf(format, args...))
	}
}
