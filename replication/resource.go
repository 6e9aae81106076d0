package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
)

// DefaultRunDir is where control sockets and locks live.
const DefaultRunDir = "/run/urbd"

// DefaultShutdownTimeout bounds a clean shutdown.
const DefaultShutdownTimeout = 10 * time.Second

// Config is what a Resource is made from.
type Config struct {
	Resource *config.Resource
	Local    *config.Host // this node's side of Resource
	Peer     *config.Host // the other side

	Devices Devices      // nil: no block devices, the volumes are only replicated
	Logger  *slog.Logger // nil: nothing is logged
	RunDir  string       // "": DefaultRunDir

	// StateDir keeps what has no field in the metadata. "": DefaultStateDir.
	StateDir string

	// HeldUp is called, once at most, when a start has been waiting for a disk for some seconds, with what it waits for in words. May be nil.
	HeldUp func(why string)

	// Ready is called once, when the resource serves: its control socket answers, its disks are attached
	// and the peer is being looked for. May be nil.
	Ready func()

	// ShutdownTimeout bounds the clean shutdown after the context of Run has ended. 0: DefaultShutdownTimeout.
	ShutdownTimeout time.Duration

	// Recover adopts block devices that a dead predecessor left behind.
	Recover bool

	machine machine // for tests: another one than this

	open func(*config.Volume) (*backing, error) // for tests: disks that hang

	tame bool // for tests in one process: leave the process as it is
}

func (c *Config) fill() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.RunDir == "" {
		c.RunDir = DefaultRunDir
	}
	if c.machine.root == "" {
		c.machine.root = "/"
	}
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir
	}
	if c.open == nil {
		c.open = openBacking
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = DefaultShutdownTimeout
	}
}

// Resource is the daemon of one resource. New makes it, Run runs it.
type Resource struct {
	cfg Config
	log *slog.Logger

	turns     *turns          // of those who change devices or backing stores
	opens     opens           // backing stores being opened
	closing   atomic.Int32    // backing stores being closed
	devices   []*volumeDevice // in the order of the volumes
	changes   broadcast       // of the state
	connector *connector
	events    *reports
	down      chan struct{} // closed when a Down was carried out

	users  *usersRecord // of the devices; the loop's from its beginning on
	blocks *dataBlocks

	mu    sync.Mutex    // leaf: guards stage and loop
	stage stage         // of Run
	loop  *loop         // nil while Run does not serve
	dead  chan struct{} // closed when the loop has ended
}

// New checks cfg. Nothing is opened before Run.
func New(cfg Config) (*Resource, error) {
	if cfg.Resource == nil || cfg.Local == nil || cfg.Peer == nil {
		return nil, errors.New("replication: a resource needs a configuration and both of its hosts")
	}
	cfg.fill()
	r := &Resource{
		cfg:    cfg,
		log:    cfg.Logger.With("resource", cfg.Resource.Name),
		turns:  newTurns(),
		down:   make(chan struct{}),
		dead:   make(chan struct{}),
		events: newReports(len(cfg.Local.Volumes)),
	}
	r.blocks = newDataBlocks(cfg.StateDir, r.name(), r.log)
	r.connector = newConnector(cfg.Local.Address, cfg.Local.Reach(cfg.Peer), cfg.Resource.Net, r.log)
	r.connector.name = markName(cfg.Local, cfg.Peer)
	r.connector.knocks.fresh = r.changes.changed
	return r, nil
}

func (r *Resource) name() string { return r.cfg.Resource.Name }

// errNotRunning answers what is asked when there is no loop.
func (r *Resource) errNotRunning() error {
	if r.at() == starting {
		return fmt.Errorf("%s is still starting; what it waits for, if anything, is shown by: urbd status %[1]s; the start is ended by: urbd down %[1]s", r.name())
	}
	return &NotRunningError{r.name()}
}

// at is the stage that Run has come to.
func (r *Resource) at() stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stage
}

// enter begins a stage of Run; serving has a loop.
func (r *Resource) enter(s stage, l *loop) {
	r.mu.Lock()
	r.stage, r.loop = s, l
	r.mu.Unlock()
	r.changes.changed()
}

// serving is the loop, or nil.
func (r *Resource) serving() *loop {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loop
}

// on runs f on the loop's thread and waits for it. After an error f has not run, and never will: what it uses is the
// caller's again.
func (r *Resource) on(ctx context.Context, f func(*loop)) error {
	l := r.serving()
	if l == nil {
		return r.errNotRunning()
	}
	var taken atomic.Bool // by the loop, to run f, or by the caller, to give up
	ran := make(chan struct{})
	if err := l.post(ctx, func() {
		if !taken.Swap(true) {
			f(l)
			close(ran)
		}
	}); err != nil {
		return r.errNotRunning()
	}
	var err error
	select {
	case <-ran:
	case <-r.dead:
		err = r.errNotRunning()
	case <-ctx.Done():
		err = fmt.Errorf("%s does not answer: %w", r.name(), ctx.Err())
	}
	if !taken.Swap(true) {
		return err
	}
	<-ran // it runs, or has run
	return nil
}

// Status is a snapshot. It is safe from any goroutine.
func (r *Resource) Status(ctx context.Context) (engine.Status, error) {
	var st engine.Status
	err := r.on(ctx, func(l *loop) { st = l.engine.Status() })
	for i := range st.Volumes {
		st.Volumes[i].Dirty = nil // looks into the engine, which is the loop's
	}
	return st, err
}

// volume finds the local configuration of a volume.
func (r *Resource) volume(n int) (*config.Volume, error) {
	if v := r.cfg.Local.Volume(n); v != nil {
		return v, nil
	}
	return nil, &VerbError{fmt.Sprintf("%s has no volume %d", r.name(), n)}
}

// label names a volume in the log: r0/0.
func (r *Resource) label(vol int) string { return fmt.Sprintf("%s/%d", r.name(), vol) }
