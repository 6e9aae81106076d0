package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/urbd/urbd/scripts/vm/channel"
)

// fakeAgent is the guest's end of a session, in the hands of a test.
type fakeAgent struct {
	t    *testing.T
	conn net.Conn
}

func newFakeAgent(t *testing.T) (*session, *fakeAgent) {
	host, guest := net.Pipe()
	return newSession(host), &fakeAgent{t, guest}
}

func (a *fakeAgent) read() channel.Frame {
	a.t.Helper()
	f, err := channel.Read(a.conn)
	if err != nil {
		a.t.Fatal(err)
	}
	return f
}

func (a *fakeAgent) send(kind channel.Kind, job uint32, payload string) {
	a.t.Helper()
	if _, err := a.conn.Write(channel.Append(nil, channel.Frame{Kind: kind, Job: job, Payload: []byte(payload)})); err != nil {
		a.t.Fatal(err)
	}
}

func begin(t *testing.T, s *session, a *fakeAgent, ctx context.Context, cmd Cmd) (*Process, uint32) {
	t.Helper()
	started := make(chan *Process, 1)
	go func() {
		p, err := s.start(ctx, channel.StartData{Op: channel.Exec, Argv: cmd.Argv}, cmd)
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	f := a.read()
	var data channel.StartData
	if err := json.Unmarshal(f.Payload, &data); err != nil || f.Kind != channel.Start || data.Argv[0] != cmd.Argv[0] {
		t.Fatalf("%+v %v", f, err)
	}
	return <-started, f.Job
}

func TestSessionKeepsJobsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newFakeAgent(t)
		var out [2]bytes.Buffer
		p0, j0 := begin(t, s, a, t.Context(), Cmd{Argv: []string{"a"}, Stdout: &out[0]})
		if f := a.read(); f.Kind != channel.Stdin || len(f.Payload) != 0 {
			t.Errorf("no end of input: %+v", f)
		}
		p1, j1 := begin(t, s, a, t.Context(), Cmd{Argv: []string{"b"}, Stdout: &out[1]})
		a.read()
		a.send(channel.Stdout, j1, "one")
		a.send(channel.Stdout, j0, "zero")
		a.send(channel.Exit, j1, `{"Code":3}`)
		a.send(channel.Exit, j0, `{"Error":"no such program","Code":-1}`)
		if code, err := p1.Wait(); code != 3 || err != nil || out[1].String() != "one" {
			t.Errorf("%d %v %q", code, err, &out[1])
		}
		if _, err := p0.Wait(); err == nil || err.Error() != "no such program" || out[0].String() != "zero" {
			t.Errorf("%v %q", err, &out[0])
		}
		s.close()
	})
}

func TestSessionKeepsToTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newFakeAgent(t)
		const frames = 3 * channel.Window
		input := strings.NewReader(strings.Repeat("x", frames*channel.MaxPayload))
		p, job := begin(t, s, a, t.Context(), Cmd{Argv: []string{"a"}, Stdin: input})
		for range channel.Window {
			if f := a.read(); f.Kind != channel.Stdin {
				t.Fatalf("%+v", f)
			}
		}
		synctest.Wait()
		if sent := frames - input.Len()/channel.MaxPayload; sent != channel.Window+1 { // one is read ahead
			t.Errorf("%d frames were taken from the input, the window is %d", sent, channel.Window)
		}
		for range frames - channel.Window {
			a.send(channel.Credit, job, "")
			a.read()
		}
		if f := a.read(); f.Kind != channel.Stdin || len(f.Payload) != 0 {
			t.Errorf("no end of input: %+v", f)
		}
		a.send(channel.Exit, job, `{}`)
		if _, err := p.Wait(); err != nil {
			t.Error(err)
		}
		s.close()
	})
}

func TestSessionEndsJobsWhenTheGuestDoes(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(a *fakeAgent)
		want error
	}{
		"closed":  {func(a *fakeAgent) { a.conn.Close() }, ErrDown},
		"garbage": {func(a *fakeAgent) { a.conn.Write([]byte("kernel panic, not syncing")) }, ErrDown},
		"silent":  {func(*fakeAgent) { time.Sleep(silence + time.Second) }, ErrSilent},
		"restart": {func(a *fakeAgent) { a.send(channel.Hello, 0, "{}"); a.send(channel.Hello, 0, "{}") }, ErrDown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := newFakeAgent(t)
				p, _ := begin(t, s, a, t.Context(), Cmd{Argv: []string{"a"}})
				a.read()
				c.end(a)
				if _, err := p.Wait(); !errors.Is(err, c.want) {
					t.Errorf("running job: %v", err)
				}
				if _, err := s.start(t.Context(), channel.StartData{Op: channel.Exec}, Cmd{}); !errors.Is(err, c.want) {
					t.Errorf("new job: %v", err)
				}
				s.close()
			})
		})
	}
}

func TestAliveAgentIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newFakeAgent(t)
		p, job := begin(t, s, a, t.Context(), Cmd{Argv: []string{"a"}})
		a.read()
		for range 10 {
			time.Sleep(silence / 2)
			a.send(channel.Alive, 0, "")
		}
		a.send(channel.Exit, job, `{}`)
		if _, err := p.Wait(); err != nil {
			t.Error(err)
		}
		s.close()
	})
}

func TestContextKillsAndThenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newFakeAgent(t)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		p, _ := begin(t, s, a, ctx, Cmd{Argv: []string{"a"}})
		a.read()
		if f := a.read(); f.Kind != channel.Signal || f.Payload[0] != 9 {
			t.Errorf("%+v", f)
		}
		if _, err := p.Wait(); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		s.close()
	})
}
