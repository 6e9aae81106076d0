package replication

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxMessage bounds one message of the control socket in bytes.
const MaxMessage = 1 << 20

// A path of a socket has 107 bytes at most; a new socket has a longer name first.
const (
	socketNew     = ".new"
	maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1 - len(socketNew)
)

// fitsSocket says what to do about a path that is too long for the kernel.
func fitsSocket(path string) error {
	if len(path) <= maxSocketPath {
		return nil
	}
	return fmt.Errorf("the path of the control socket, %s, has %d bytes, and the kernel has room for %d: shorten the name of the resource or the run directory", path, len(path), maxSocketPath)
}

// SocketPath is where the control socket of a resource is.
func SocketPath(runDir, resource string) string {
	if runDir == "" {
		runDir = DefaultRunDir
	}
	return filepath.Join(runDir, resource+".sock")
}

// Client talks to the daemon of one resource through its control socket. It is
// safe for concurrent use; every method ends with its context.
type Client struct {
	resource string
	http     *http.Client
}

// Dial finds the daemon of a resource. Nobody there is a *NotRunningError.
func Dial(runDir, resource string) (*Client, error) {
	path := SocketPath(runDir, resource)
	if err := fitsSocket(path); err != nil {
		return nil, err
	}
	var d net.Dialer
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) }
	c := &Client{resource, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, c.unreachable(err)
	}
	conn.Close()
	return c, nil
}

func (c *Client) unreachable(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return &NotRunningError{c.resource}
	}
	return fmt.Errorf("control socket of %s: %w", c.resource, err)
}

// Resource is the name of the resource.
func (c *Client) Resource() string { return c.resource }

// Close ends what is idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// answerTime is what the daemon needs at most to say that an order was not done in time.
const answerTime = 2 * withdrawLimit

// Command gives an order and waits for the answer: nil, a *RefusedError, a
// *VerbError, a *CarriedOutError, a *NotRunningError, or an error that says what to do next.
func (c *Client) Command(ctx context.Context, v Verb) error {
	path := "/v1/command"
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		path += "?timeout=" + max(time.Millisecond, left-min(left/4, answerTime)).String()
	}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	resp, err := c.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return answer(resp)
}

// Status asks for a snapshot.
func (c *Client) Status(ctx context.Context) (ResourceStatus, error) {
	var st ResourceStatus
	resp, err := c.send(ctx, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	if err := answer(resp); err != nil {
		return st, err
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, MaxMessage)).Decode(&st)
	return st, err
}

// Watch gives a snapshot at once, then one after every change of state, and one
// a second while a resync runs. It ends with an error: the context's, or a
// *NotRunningError when the daemon has ended.
func (c *Client) Watch(ctx context.Context) iter.Seq2[ResourceStatus, error] {
	return func(yield func(ResourceStatus, error) bool) {
		var none ResourceStatus
		resp, err := c.send(ctx, http.MethodGet, "/v1/events", nil)
		if err == nil {
			defer resp.Body.Close()
			err = answer(resp)
		}
		if err != nil {
			yield(none, err)
			return
		}
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, MaxMessage)
		for lines.Scan() {
			var st ResourceStatus
			if err := json.Unmarshal(lines.Bytes(), &st); err != nil {
				yield(none, fmt.Errorf("control socket of %s: %w", c.resource, err))
				return
			}
			if !yield(st, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(none, err)
			return
		}
		yield(none, &NotRunningError{c.resource})
	}
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://urbd"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s does not answer: %w", c.resource, ctx.Err())
		}
		return nil, c.unreachable(err)
	}
	return resp, nil
}

// failure is the body of an answer that is not 200.
type failure struct {
	Refused string `json:"refused,omitempty"`
	Code    int32  `json:"code,omitempty"`
	Error   string `json:"error,omitempty"`
	GoesOn  bool   `json:"goes-on,omitempty"`
	Done    bool   `json:"carried-out,omitempty"`
}

// answer turns the status of a response into an error; the body of a good one is untouched.
func answer(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var f failure
	if err := json.NewDecoder(io.LimitReader(resp.Body, MaxMessage)).Decode(&f); err != nil {
		return fmt.Errorf("control socket: answer %s that is no JSON: %w", resp.Status, err)
	}
	switch {
	case f.Refused != "":
		return &RefusedError{f.Refused, f.Code}
	case resp.StatusCode == http.StatusGatewayTimeout:
		return &LateError{f.Error, f.GoesOn}
	case resp.StatusCode == http.StatusBadRequest:
		return &VerbError{f.Error}
	case f.Done:
		return &CarriedOutError{f.Error}
	}
	return errors.New(f.Error)
}
