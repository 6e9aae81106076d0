package replication

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
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
