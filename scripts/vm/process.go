package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urbd/urbd/scripts/vm/channel"
)

// A Cmd is a command for a guest. Only Argv is needed.
type Cmd struct {
	Argv   []string
	Env    []string  // KEY=VALUE, added to the agent's environment
	Dir    string    // working directory in the guest
	Stdin  io.Reader // nil: empty. A read that never returns outlives the command.
	Stdout io.Writer // nil: dropped. Must not block: it holds up the whole guest.
	Stderr io.Writer // the same; may be the same writer, calls do not overlap

	Terminal   bool   // run on a pseudo terminal of Rows x Cols; all output is Stdout
	Rows, Cols uint16 // 0: unset
}

// A Process is a command running in a guest.
type Process struct {
	session *session
	id      uint32
	cmd     Cmd
	window  chan struct{} // holds one element for each unanswered Stdin frame
	done    chan struct{}

	once   sync.Once
	exit   channel.ExitData
	err    error // set before done is closed
	outErr error // first error of Stdout or Stderr; only used by the session's reader
}

// killGrace is how long a killed process may take to go before it is given up.
const killGrace = 20 * time.Second

// Done is closed when the process is over.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end. The code is that of the process, 128+n when signal n
// ended it. The error says why there is no code: the guest went down, the
// context of Start ended, the command does not exist.
func (p *Process) Wait() (code int, err error) {
	<-p.done
	return p.exit.Code, p.err
}

// Signal sends a signal to the process and its group.
func (p *Process) Signal(sig syscall.Signal) error {
	return p.session.send(channel.Frame{Kind: channel.Signal, Job: p.id, Payload: []byte{byte(sig)}})
}

// Resize tells the process's terminal its new size.
func (p *Process) Resize(rows, cols uint16) error {
	b := binary.BigEndian.AppendUint16(nil, rows)
	b = binary.BigEndian.AppendUint16(b, cols)
	return p.session.send(channel.Frame{Kind: channel.Resize, Job: p.id, Payload: b})
}

func (p *Process) finish(exit channel.ExitData, err error) {
	p.once.Do(func() {
		if err == nil && exit.Error != "" {
			err = errors.New(exit.Error)
		}
		if err == nil && p.outErr != nil {
			err = fmt.Errorf("output: %w", p.outErr)
		}
		p.exit, p.err = exit, err
		close(p.done)
	})
}

// output is called by the session's reader only.
func (p *Process) output(w io.Writer, data []byte) {
	if w == nil || p.outErr != nil {
		return
	}
	_, p.outErr = w.Write(data)
}

// feed sends the input, never more than the window ahead of the process.
func (p *Process) feed() {
	buf := make([]byte, channel.MaxPayload)
	for p.cmd.Stdin != nil {
		n, err := p.cmd.Stdin.Read(buf)
		if n > 0 {
			select {
			case p.window <- struct{}{}:
			case <-p.done:
				return
			}
			if p.session.send(channel.Frame{Kind: channel.Stdin, Job: p.id, Payload: buf[:n]}) != nil {
				return
			}
		}
		if err != nil {
			break
		}
	}
	_ = p.session.send(channel.Frame{Kind: channel.Stdin, Job: p.id}) // a failing session ends the process
}

// watch kills the process when the context ends first, and gives it up when
// even that does not end it (it hangs in the kernel).
func (p *Process) watch(ctx context.Context) {
	select {
	case <-p.done:
		return
	case <-ctx.Done():
	}
	_ = p.Signal(syscall.SIGKILL) // a failing session ends the process
	select {
	case <-p.done:
	case <-time.After(killGrace):
		p.finish(channel.ExitData{}, fmt.Errorf("not even killed by SIGKILL: %w", context.Cause(ctx)))
	}
}

// A Result is what a finished command left.
type Result struct {
	Stdout, Stderr []byte
	Code           int
}

// Text is the standard output without white space around it.
func (r Result) Text() string { return strings.TrimSpace(string(r.Stdout)) }

// An ExitError is a command that ended with a code other than 0.
type ExitError struct {
	Node   string
	Argv   []string
	Code   int
	Stdout []byte
	Stderr []byte
}

func (e *ExitError) Error() string {
	out := e.Stderr
	if len(bytes.TrimSpace(out)) == 0 {
		out = e.Stdout
	}
	return fmt.Sprintf("%s: %s: exit code %d: %s", e.Node, strings.Join(e.Argv, " "), e.Code, lastLines(string(out), 10))
}
