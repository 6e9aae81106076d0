package replication

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/engine"
	"github.com/urbd/urbd/statemachine"
)

// Bounds of the control socket.
const (
	maxCommand   = 64 << 10         // bytes of one order
	maxWatchers  = 64               // event streams at a time
	maxOrders    = 256              // orders at a time, without those by --force, which wait for no other
	commandLimit = 10 * time.Minute // longest that one order may take; who gave it mostly gives up before
	statusLimit  = 10 * time.Second
	readLimit    = 10 * time.Second // for a request to arrive
	writeLimit   = 10 * time.Second // for an answer, or a line of an event stream, to be taken
)

// control serves HTTP and JSON on RUNDIR/RES.sock, for root only:
//
//	POST /v1/command   Verb            200 {} | 409 {"refused", "code"} | 400 {"error"} | 429 {"error"} | 500 {"error", "carried-out"} | 504 {"error", "goes-on"}
//	GET  /v1/status                    ResourceStatus
//	GET  /v1/events                    one ResourceStatus a line: now, after every change, every second of a resync and of a start that takes long
//
// POST /v1/command?timeout=DURATION waits so long for an order; then it is taken back, or goes on, which the 504 says.
type control struct {
	r        *Resource
	server   *http.Server
	watchers chan struct{}
	orders   chan struct{}
	end      context.CancelCauseFunc // of everything that is being answered
	ended    chan struct{}
}

// startControl opens the socket. The lock of the resource is held, so a socket that is there is a dead one's.
func (r *Resource) startControl(ctx context.Context) (*control, error) {
	path := SocketPath(r.cfg.RunDir, r.name())
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := listenPrivate(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ctx, end := context.WithCancelCause(ctx)
	c := &control{r: r, watchers: make(chan struct{}, maxWatchers), orders: make(chan struct{}, maxOrders), end: end, ended: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/command", c.command)
	mux.HandleFunc("GET /v1/status", c.status)
	mux.HandleFunc("GET /v1/events", c.events)
	c.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readLimit,
		ReadTimeout:       readLimit,
		MaxHeaderBytes:    8 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go func() {
		defer close(c.ended)
		if err := c.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			r.log.Error("the control socket has failed; the resource goes on", "err", err)
		}
	}()
	return c, nil
}

// listenPrivate makes a socket that never existed with another mode than 0600.
func listenPrivate(ctx context.Context, path string) (net.Listener, error) {
	if err := fitsSocket(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: PrivateSocket}
	tmp := path + socketNew
	os.Remove(tmp)
	l, err := lc.Listen(ctx, "unix", tmp)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Rename(tmp, path); err != nil {
		l.Close()
		os.Remove(tmp)
		return nil, err
	}
	return l, nil
}

// PrivateSocket is the Control of a net.ListenConfig that makes a socket for its owner only. It sets the mode before there is a name, which could be a
// link's by the time that it is set.
func PrivateSocket(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
}

// stop answers what is being answered, a second long, orders that wait for something as well, and takes the socket away.
func (c *control) stop() {
	c.end(&OvertakenError{By: "the end of the daemon"})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	os.Remove(SocketPath(c.r.cfg.RunDir, c.r.name()))
	if c.server.Shutdown(ctx) != nil {
		c.server.Close()
	}
	<-c.ended
}

func (c *control) command(w http.ResponseWriter, req *http.Request) {
	var v Verb
	in := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxCommand))
	in.DisallowUnknownFields()
	if err := in.Decode(&v); err != nil {
		reply(w, http.StatusBadRequest, failure{Error: "the order is not understood: " + err.Error()})
		return
	}
	if !v.Force {
		select {
		case c.orders <- struct{}{}:
			defer func() { <-c.orders }()
		default:
			reply(w, http.StatusTooManyRequests, failure{Error: fmt.Sprintf("%d orders are being waited for already; --force does not wait for them", maxOrders)})
			return
		}
	}
	ctx, cancel := context.WithTimeout(req.Context(), orderLimit(req))
	defer cancel()
	cmds, err := v.commands(c.r.volumeNumbers())
	for _, cmd := range cmds { // what one volume refuses is no reason for another one
		err = cmp.Or(err, c.r.Do(ctx, cmd))
	}
	status, body := outcome(err)
	c.r.log.Debug("command", "verb", v.Verb, "err", err)
	reply(w, status, body)
}

// orderLimit is how long an order is waited for: as long as whoever gave it does.
func orderLimit(req *http.Request) time.Duration {
	t, err := time.ParseDuration(req.URL.Query().Get("timeout"))
	if err != nil || t <= 0 {
		return commandLimit
	}
	return min(t, commandLimit)
}

// outcome is the answer to an order.
func outcome(err error) (status int, body any) {
	var (
		refusal statemachine.Refusal
		peer    *statemachine.PeerRefusal
		busy    *BusyError
		verb    *VerbError
		late    *UnfinishedError
		left    *engine.LeaveError
	)
	switch {
	case err == nil:
		return http.StatusOK, struct{}{}
	case errors.As(err, &late):
		return http.StatusGatewayTimeout, failure{Error: late.Error(), GoesOn: late.GoesOn}
	case errors.As(err, &peer):
		return http.StatusConflict, failure{Refused: trimRefused(err), Code: peer.Code}
	case errors.As(err, &refusal):
		return http.StatusConflict, failure{Refused: trimRefused(err), Code: cmp.Or(refusal.RefusalCode(), failures[refusal])}
	case errors.As(err, &busy):
		return http.StatusConflict, failure{Refused: err.Error(), Code: statemachine.DeviceInUse.RefusalCode()}
	case errors.As(err, &verb):
		return http.StatusBadRequest, failure{Error: err.Error()}
	case errors.As(err, &left):
		return http.StatusInternalServerError, failure{Error: err.Error(), Done: true}
	}
	return http.StatusInternalServerError, failure{Error: err.Error()}
}

// trimRefused leaves out what RefusedError.Error puts before it again.
func trimRefused(err error) string {
	const refused = "refused: "
	s := err.Error()
	if len(s) > len(refused) && s[:len(refused)] == refused {
		return s[len(refused):]
	}
	return s
}

func (c *control) status(w http.ResponseWriter, req *http.Request) {
	st, err := c.r.report(req.Context())
	if err != nil {
		reply(w, http.StatusServiceUnavailable, failure{Error: err.Error()})
		return
	}
	reply(w, http.StatusOK, st)
}

// events streams until the client goes, or the daemon.
func (c *control) events(w http.ResponseWriter, req *http.Request) {
	select {
	case c.watchers <- struct{}{}:
		defer func() { <-c.watchers }()
	default:
		reply(w, http.StatusTooManyRequests, failure{Error: fmt.Sprintf("%d programs are watching already", maxWatchers)})
		return
	}
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	for {
		changed := c.r.changes.wait()
		st, err := c.r.report(req.Context())
		if err != nil {
			return
		}
		out.SetWriteDeadline(time.Now().Add(writeLimit))
		if json.NewEncoder(w).Encode(st) != nil || out.Flush() != nil {
			return
		}
		if !c.pause(req.Context(), changed, st.syncing() || c.r.at() == starting) {
			return
		}
	}
}

// pause waits for the next change; a resync, and the waiting for a disk at the start, move without one.
func (c *control) pause(ctx context.Context, changed <-chan struct{}, moves bool) bool {
	var tick <-chan time.Time
	if moves {
		t := time.NewTimer(time.Second)
		defer t.Stop()
		tick = t.C
	}
	select {
	case <-changed:
	case <-tick:
	case <-c.r.dead:
		return false
	case <-c.r.down:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// reply answers a request, to a client that may have stopped reading.
func reply(w http.ResponseWriter, status int, body any) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeLimit))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // a client that has gone is not told
}

func (r *Resource) volumeNumbers() []int {
	n := make([]int, len(r.cfg.Local.Volumes))
	for i := range n {
		n[i] = r.cfg.Local.Volumes[i].Number
	}
	return n
}

// report is the status for people and programs.
func (r *Resource) report(ctx context.Context) (ResourceStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	if r.at() == starting {
		return r.describe(r.statusOfStart(), 0, unix.Getpid(), nil), nil
	}
	var now engine.Instant
	if err := r.on(ctx, func(l *loop) { now = l.now() }); err != nil {
		return ResourceStatus{}, err
	}
	st, err := r.Status(ctx)
	if err != nil {
		return ResourceStatus{}, err
	}
	return r.describe(st, now, unix.Getpid(), r.devices), nil
}
