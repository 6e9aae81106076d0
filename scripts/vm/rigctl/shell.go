package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/scripts/vm"
)

// shell gives a person a shell in a fresh guest.
func shell(ctx context.Context, o *options) (int, error) {
	node, _, end, err := boot(ctx, o)
	if err != nil {
		return failure, err
	}
	progress("Linux %s; the guest is thrown away at the end of the shell", node.Release())
	code, err := interact(ctx, node, newInput())
	if err = errors.Join(err, end()); err != nil {
		return failure, err
	}
	return code, nil
}

// interact joins this terminal (if it is one) with a shell in the guest.
func interact(ctx context.Context, node *vm.Node, in *input) (int, error) {
	over := make(chan struct{})
	defer close(over)
	cmd := vm.Cmd{
		Argv: []string{"bash", "--login"}, Dir: "/root", Stdin: turn{in, over}, Stdout: os.Stdout, Stderr: os.Stderr,
		Env: []string{"TERM=" + os.Getenv("TERM"), `PS1=\h:\w\$ `},
	}
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err == nil {
		cmd.Terminal, cmd.Rows, cmd.Cols = true, size.Row, size.Col
		restore, err := rawTerminal(0)
		if err != nil {
			return failure, err
		}
		defer restore()
	}
	p, err := node.Start(ctx, cmd)
	if err != nil {
		return failure, err
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	for {
		select {
		case <-p.Done():
			return p.Wait()
		case <-resized:
			if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
				_ = p.Resize(size.Row, size.Col) // a failing channel ends the process
			}
		}
	}
}

// rawTerminal hands every key to the guest's terminal, which does the editing.
func rawTerminal(fd int) (restore func(), err error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}
