package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/urbd/urbd/scripts/vm/channel"
)

// ErrDown is the cause when a guest ended (or was cut) while something was asked of it.
var ErrDown = errors.New("the guest is down")

// ErrSilent is the cause when a guest's agent, which reports every second, has
// not been heard of for the time of silence: the guest hangs.
var ErrSilent = errors.New("the guest is silent")

// silence is how long an agent may be unheard: emulation on a busy machine is slow.
const silence = 90 * time.Second

// sendTimeout bounds the writing of one frame to the machine's socket.
const sendTimeout = 60 * time.Second

// A session is the rig's end of the channel to one boot of one guest. One
// goroutine (receive) reads; it ends when the connection does, and with it all jobs.
type session struct {
	conn   net.Conn
	hello  chan channel.HelloData // gets the first hello
	closed chan struct{}          // closed when receive has ended

	sendMu sync.Mutex

	mu   sync.Mutex
	jobs map[uint32]*Process
	last uint32
	err  error // why no new job can start
}

func newSession(conn net.Conn) *session {
	s := &session{conn: conn, hello: make(chan channel.HelloData, 1), closed: make(chan struct{}), jobs: map[uint32]*Process{}}
	go s.receive()
	return s
}

// close ends the session; the jobs end with ErrDown.
func (s *session) close() {
	s.conn.Close()
	<-s.closed
}

func (s *session) send(f channel.Frame) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	if _, err := s.conn.Write(channel.Append(nil, f)); err != nil {
		// A frame may have been written in part: the stream is of no use any more.
		s.conn.Close()
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	return nil
}

func (s *session) receive() {
	defer close(s.closed)
	r := bufio.NewReaderSize(s.conn, 1<<17)
	for {
		err := s.conn.SetReadDeadline(time.Now().Add(silence))
		var f channel.Frame
		if err == nil {
			f, err = channel.Read(r)
		}
		if err == nil {
			err = s.handle(f)
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

func (s *session) handle(f channel.Frame) error {
	if f.Kind == channel.Hello {
		var data channel.HelloData
		if err := json.Unmarshal(f.Payload, &data); err != nil {
			return err
		}
		select {
		case s.hello <- data:
			return nil
		default:
			return errors.New("the agent started anew") // and knows nothing of the jobs
		}
	}
	s.mu.Lock()
	p := s.jobs[f.Job]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	switch f.Kind {
	case channel.Stdout:
		p.output(p.cmd.Stdout, f.Payload)
	case channel.Stderr:
		p.output(p.cmd.Stderr, f.Payload)
	case channel.Credit:
		select {
		case <-p.window:
		default:
		}
	case channel.Exit:
		var data channel.ExitData
		if err := json.Unmarshal(f.Payload, &data); err != nil {
			return err
		}
		s.mu.Lock()
		delete(s.jobs, f.Job)
		s.mu.Unlock()
		p.finish(data, nil)
	}
	return nil
}

// cause is why the session ended; nil while it has not.
func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// fail ends every job and refuses new ones.
func (s *session) fail(cause error) {
	s.conn.Close()
	var timeout net.Error
	if errors.As(cause, &timeout) && timeout.Timeout() {
		cause = ErrSilent
	} else {
		cause = fmt.Errorf("%w: %w", ErrDown, cause)
	}
	s.mu.Lock()
	jobs := s.jobs
	s.jobs, s.err = nil, cause
	s.mu.Unlock()
	for _, p := range jobs {
		p.finish(channel.ExitData{}, cause)
	}
}

// start begins a job.
func (s *session) start(ctx context.Context, data channel.StartData, cmd Cmd) (*Process, error) {
	p := &Process{session: s, cmd: cmd, window: make(chan struct{}, channel.Window), done: make(chan struct{})}
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, s.err
	}
	s.last++
	p.id = s.last
	s.jobs[p.id] = p
	s.mu.Unlock()
	f, err := channel.JSON(channel.Start, p.id, data)
	if err == nil {
		err = s.send(f)
	}
	if err != nil {
		s.mu.Lock()
		delete(s.jobs, p.id)
		s.mu.Unlock()
		return nil, err
	}
	go p.feed()
	go p.watch(ctx)
	return p, nil
}
