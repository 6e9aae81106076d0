package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/urbd/urbd/replication"
)

// The test binary is also urbd itself, and a daemon that behaves as told, for the tests that need a process.
func TestMain(m *testing.M) {
	switch os.Getenv("URBD_TEST_AS") {
	case "urbd":
		main()
	case "daemon":
		fakeDaemon()
	}
	os.Exit(m.Run())
}

// A fakeControl is the control socket of a daemon that answers as told.
type fakeControl struct {
	mu     sync.Mutex
	orders []string // as they came, JSON
	answer map[string]struct {
		code int
		body string
	} // by verb; else 200 {}
	status string // JSON of the status
	events []string
	hold   bool // the event stream stays open after events

	came atomic.Int64 // requests, those included that wait for mu
}

func (f *fakeControl) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.came.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.URL.Path {
	case "/v1/status":
		w.Write([]byte(cmp.Or(f.status, "{}")))
	case "/v1/events":
		for _, e := range f.events {
			w.Write([]byte(e + "\n"))
		}
		w.(http.Flusher).Flush()
		if f.hold {
			f.mu.Unlock()
			<-r.Context().Done()
			f.mu.Lock()
		}
	case "/v1/command":
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		f.orders = append(f.orders, body.String())
		var v replication.Verb
		if err := json.Unmarshal(body.Bytes(), &v); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if a, ok := f.answer[v.Verb]; ok {
			w.WriteHeader(a.code)
			w.Write([]byte(a.body))
			return
		}
		w.Write([]byte("{}"))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// refuse makes the daemon answer a verb with a refusal.
func (f *fakeControl) reply(verb string, code int, body string) {
	if f.answer == nil {
		f.answer = map[string]struct {
			code int
			body string
		}{}
	}
	f.answer[verb] = struct {
		code int
		body string
	}{code, body}
}

// listen puts the daemon into the bench's run directory, until stop.
func (b *bench) listen(resource string, f *fakeControl) (stop func()) {
	b.t.Helper()
	l, err := net.Listen("unix", replication.SocketPath(b.run, resource))
	if err != nil {
		b.t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	stop = func() { server.Close(); <-done }
	b.t.Cleanup(stop)
	return stop
}

// A bench runs command lines in a directory of its own.
type bench struct {
	t    *testing.T
	run  string // run directory
	conf string // configuration file
	dir  string
	in   string // standard input

	stdin    io.Reader // instead of in
	out, err io.Writer // instead of a buffer
}

func newBench(t *testing.T) *bench {
	dir := t.TempDir()
	b := &bench{t: t, run: filepath.Join(dir, "run"), conf: filepath.Join(dir, "urbd.conf"), dir: dir}
	if err := os.Mkdir(b.run, 0o755); err != nil {
		t.Fatal(err)
	}
	b.write(twoResources)
	return b
}

func (b *bench) write(text string) {
	b.t.Helper()
	if err := os.WriteFile(b.conf, []byte(strings.ReplaceAll(text, "DIR", b.dir)), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

const twoResources = `
resource r0 {
	on alpha { address 127.0.0.1:7789; volume 0 { device minor 0; disk DIR/a.img; meta-disk internal; } volume 1 { device minor 1; disk DIR/b.img; meta-disk internal; } }
	on beta  { address 127.0.0.1:7790; volume 0 { device minor 0; disk DIR/c.img; meta-disk internal; } volume 1 { device minor 1; disk DIR/d.img; meta-disk internal; } }
}
resource r1 {
	on alpha { address 127.0.0.1:7791; device minor 2; disk DIR/e.img; meta-disk internal; }
	on beta  { address 127.0.0.1:7792; device minor 2; disk DIR/f.img; meta-disk internal; }
}
resource elsewhere {
	on gamma { address 127.0.0.1:7793; device minor 3; disk DIR/g.img; meta-disk internal; }
	on delta { address 127.0.0.1:7794; device minor 3; disk DIR/h.img; meta-disk internal; }
}
`

// result is what a command line left.
type result struct {
	code     int
	out, err string
}

// urbd runs a command line as host alpha.
func (b *bench) urbd(line string) result {
	b.t.Helper()
	return b.urbdContext(b.t.Context(), line)
}

func (b *bench) urbdContext(ctx context.Context, line string) result {
	b.t.Helper()
	var out, errs bytes.Buffer
	w := &world{
		in: cmp.Or[io.Reader](b.stdin, strings.NewReader(b.in)), out: cmp.Or[io.Writer](b.out, &out), err: cmp.Or[io.Writer](b.err, &errs), etc: etc,
		hostname:  func() (string, error) { return "alpha", nil },
		addresses: func() ([]netip.Addr, error) { return nil, nil },
	}
	args := append([]string{"-c", b.conf, "--run-dir", b.run}, strings.Fields(line)...)
	code := w.run(ctx, args)
	return result{code, out.String(), errs.String()}
}

// want runs a command line and compares. Texts are compared as parts.
func (b *bench) want(line string, code int, out, errs string) {
	b.t.Helper()
	got := b.urbd(line)
	if got.code != code || !strings.Contains(got.out, out) || !strings.Contains(got.err, errs) || errs == "" && got.err != "" || out == "" && got.out != "" {
		b.t.Errorf("urbd %s: exit code %d\nout: %s\nerr: %s\nwant %d\nout: %s\nerr: %s", line, got.code, got.out, got.err, code, out, errs)
	}
}
