package replication

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/replication/config"
)

// client is one who may have stopped reading.
type client struct {
	*httptest.ResponseRecorder
	until time.Time // the deadline of what is written to it
}

func (c *client) SetWriteDeadline(at time.Time) error {
	c.until = at
	return nil
}

// Nobody who gives orders, or reads no answers, can make the daemon wait for ever or grow, nor keep a forced order out.
func TestControlSocketIsBounded(t *testing.T) {
	r := &Resource{cfg: Config{Resource: &config.Resource{}, Local: &config.Host{}}, log: slog.New(slog.DiscardHandler), dead: make(chan struct{})}
	c := &control{r: r, watchers: make(chan struct{}, 1), orders: make(chan struct{}, 1)}
	ask := func(handle http.HandlerFunc, body string, want int) {
		t.Helper()
		w := &client{ResponseRecorder: httptest.NewRecorder()}
		handle(w, httptest.NewRequest("", "/", strings.NewReader(body)))
		if w.Code != want {
			t.Errorf("%q is answered %d %s, want %d", body, w.Code, w.Body, want)
		}
		if left := time.Until(w.until); left <= 0 || left > writeLimit {
			t.Errorf("%q: the answer may take %v", body, left)
		}
	}
	ask(c.command, "{", http.StatusBadRequest)
	ask(c.command, `{"verb":"explode"}`, http.StatusBadRequest)
	ask(c.status, "", http.StatusServiceUnavailable)
	c.orders <- struct{}{}
	c.watchers <- struct{}{}
	ask(c.command, `{"verb":"explode"}`, http.StatusTooManyRequests)
	ask(c.command, `{"verb":"explode","force":true}`, http.StatusBadRequest)
	ask(c.events, "", http.StatusTooManyRequests)
	<-c.orders
	ask(c.command, `{"verb":"explode"}`, http.StatusBadRequest)
	if len(c.orders) > 0 {
		t.Error("an order that was answered counts")
	}
}

// A path that is too long for a socket is told as that, to whoever listens and to whoever dials.
func TestControlSocketWithALongPath(t *testing.T) {
	dir := t.TempDir()
	fits := filepath.Join(dir, strings.Repeat("r", maxSocketPath-len(SocketPath(dir, "")))+".sock")
	l, err := listenPrivate(t.Context(), fits)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(fits), err)
	}
	l.Close()
	long := strings.Repeat("r", maxSocketPath-len(SocketPath(dir, ""))+1)
	_, listened := listenPrivate(t.Context(), SocketPath(dir, long))
	_, dialled := Dial(dir, long)
	for _, err := range []error{listened, dialled} {
		if err == nil || !strings.Contains(err.Error(), "shorten the name of the resource") {
			t.Errorf("one byte too many: %v", err)
		}
	}
}
