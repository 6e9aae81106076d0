package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urbd/urbd/scripts/vm/channel"
)

// runTimeout bounds Run, PutFile and GetFile when their context has no deadline.
const runTimeout = 2 * time.Minute

// Start begins a command. It is killed when ctx ends.
func (n *Node) Start(ctx context.Context, cmd Cmd) (*Process, error) {
	return n.job(ctx, channel.StartData{
		Op: channel.Exec, Argv: cmd.Argv, Env: cmd.Env, Dir: cmd.Dir, Terminal: cmd.Terminal, Rows: cmd.Rows, Cols: cmd.Cols,
	}, cmd)
}

func (n *Node) job(ctx context.Context, data channel.StartData, cmd Cmd) (*Process, error) {
	m, err := n.running()
	if err != nil {
		return nil, err
	}
	p, err := m.session.start(ctx, data, cmd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.config.Name, err)
	}
	return p, nil
}

// Run runs a command to its end, with no input. A code other than 0 is an
// *ExitError; the Result is filled then too.
func (n *Node) Run(ctx context.Context, argv ...string) (Result, error) {
	return n.RunInput(ctx, nil, argv...)
}

// Sh runs a shell script.
func (n *Node) Sh(ctx context.Context, script string) (Result, error) {
	return n.Run(ctx, "sh", "-c", script)
}

// RunInput is Run with an input.
func (n *Node) RunInput(ctx context.Context, stdin io.Reader, argv ...string) (Result, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var stdout, stderr bytes.Buffer
	p, err := n.Start(ctx, Cmd{Argv: argv, Stdin: stdin, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		return Result{}, err
	}
	code, err := p.Wait()
	r := Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Code: code}
	switch {
	case ctx.Err() != nil && (err != nil || code != 0):
		return r, fmt.Errorf("%s: %q took too long: %w: %s", n.config.Name, argv, ctx.Err(), lastLines(stderr.String(), 5))
	case err != nil:
		return r, fmt.Errorf("%s: %q: %w", n.config.Name, argv, err)
	case code != 0:
		return r, &ExitError{Node: n.config.Name, Argv: argv, Code: code, Stdout: r.Stdout, Stderr: r.Stderr}
	}
	return r, nil
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, runTimeout)
}

// PutFile writes a file in the guest, whole or not at all.
func (n *Node) PutFile(ctx context.Context, path string, mode os.FileMode, data []byte) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return n.transfer(ctx, channel.StartData{Op: channel.Put, Path: path, Mode: uint32(mode.Perm())}, Cmd{Stdin: bytes.NewReader(data)})
}

// GetFile reads a file of the guest.
func (n *Node) GetFile(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var out bytes.Buffer
	err := n.transfer(ctx, channel.StartData{Op: channel.Get, Path: path}, Cmd{Stdout: &out})
	return out.Bytes(), err
}

func (n *Node) transfer(ctx context.Context, data channel.StartData, cmd Cmd) error {
	p, err := n.job(ctx, data, cmd)
	if err == nil {
		_, err = p.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s: %s %s: %w", n.config.Name, data.Op, data.Path, err)
	}
	return nil
}
