package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/scripts/vm/channel"
)

// ended is the process group of a job whose process is over.
const ended = -1

// outputGrace is how long the output of a process that has ended is waited
// for: a daemon that it left behind may hold its output open for ever.
const outputGrace = time.Second

// A job is one command or file transfer.
type job struct {
	agent *agent
	id    uint32
	start channel.StartData
	input chan []byte   // an empty slice ends the input; has room for the whole window
	over  chan struct{} // closed when nobody reads input any more

	mu       sync.Mutex
	group    int         // process group; 0 before the start, ended after the end
	signal   unix.Signal // asked for before the start
	terminal *os.File
}

// deliver takes one frame for the job. It never blocks: the rig keeps to the window.
func (j *job) deliver(f channel.Frame) {
	switch f.Kind {
	case channel.Stdin:
		select {
		case j.input <- f.Payload:
		case <-j.over:
		}
	case channel.Signal:
		if len(f.Payload) == 1 {
			j.kill(unix.Signal(f.Payload[0]))
		}
	case channel.Resize:
		if len(f.Payload) == 4 {
			j.resize(binary.BigEndian.Uint16(f.Payload), binary.BigEndian.Uint16(f.Payload[2:]))
		}
	}
}

// kill signals the process group of the job. A group stays valid while its
// leader has not been waited for, which run makes sure of with mu.
func (j *job) kill(sig unix.Signal) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.group == 0:
		j.signal = sig
	case j.group > 0:
		_ = unix.Kill(-j.group, sig) // its last member may have just ended
	}
}

func (j *job) resize(rows, cols uint16) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.terminal != nil {
		_ = control(j.terminal, func(fd int) error {
			return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
		})
	}
}

func (j *job) run() channel.ExitData {
	var err error
	switch j.start.Op {
	case channel.Put:
		err = j.put()
	case channel.Get:
		err = j.get()
	case channel.Exec:
		var result channel.ExitData
		if result, err = j.exec(); err == nil {
			return result
		}
	default:
		err = fmt.Errorf("unknown operation %q", j.start.Op)
	}
	if err != nil {
		return channel.ExitData{Error: err.Error(), Code: -1}
	}
	return channel.ExitData{}
}

// feed writes the job's input to w and gives the rig credit for what was taken.
func (j *job) feed(w io.Writer) error {
	for {
		select {
		case data := <-j.input:
			if len(data) == 0 {
				return nil
			}
			_, err := w.Write(data)
			if cerr := j.agent.send(channel.Frame{Kind: channel.Credit, Job: j.id}); cerr != nil {
				return cerr
			}
			if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) {
				return err
			}
		case <-j.over:
			return nil
		}
	}
}

// put writes the file beside its name and renames it: it is there whole or not at all.
func (j *job) put() error {
	if err := os.MkdirAll(filepath.Dir(j.start.Path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(j.start.Path), ".rig-put-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := j.feed(f); err != nil {
		return err
	}
	if err := f.Chmod(os.FileMode(j.start.Mode).Perm()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), j.start.Path)
}

func (j *job) get() error {
	f, err := os.Open(j.start.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(j.stream(channel.Stdout), onlyReader{f})
	return err
}

// onlyReader hides WriterTo, so that io.Copy moves frames of a fitting size.
type onlyReader struct{ io.Reader }

// stream sends what is written to it as frames of one kind.
func (j *job) stream(kind channel.Kind) io.Writer { return &frameWriter{job: j, kind: kind} }

type frameWriter struct {
	job  *job
	kind channel.Kind
}

func (w *frameWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, channel.MaxPayload)
		if err := w.job.agent.send(channel.Frame{Kind: w.kind, Job: w.job.id, Payload: p[done : done+n]}); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

func (j *job) exec() (channel.ExitData, error) {
	if len(j.start.Argv) == 0 {
		return channel.ExitData{}, errors.New("no command")
	}
	cmd := exec.Command(j.start.Argv[0], j.start.Argv[1:]...)
	cmd.Env = append(os.Environ(), j.start.Env...)
	cmd.Dir = j.start.Dir
	cmd.WaitDelay = outputGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // also makes a process group
	if j.start.Terminal {
		return j.execTerminal(cmd)
	}
	cmd.Stdout, cmd.Stderr = j.stream(channel.Stdout), j.stream(channel.Stderr)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return channel.ExitData{}, err
	}
	if err := j.begin(cmd); err != nil {
		return channel.ExitData{}, err
	}
	go func() {
		_ = j.feed(stdin) // the port's failure ends the agent anyway
		stdin.Close()
	}()
	return j.wait(cmd)
}

// begin starts the process and delivers a signal that came before it.
func (j *job) begin(cmd *exec.Cmd) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	j.group = cmd.Process.Pid
	if j.signal != 0 {
		_ = unix.Kill(-j.group, j.signal)
	}
	return nil
}

// wait waits for the process without reaping it first, so that kill cannot hit
// a stranger with the same number, then reaps it.
func (j *job) wait(cmd *exec.Cmd) (channel.ExitData, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil || !errors.Is(err, unix.EINTR) {
			break
		}
	}
	j.mu.Lock()
	j.group, j.signal = ended, 0
	j.mu.Unlock()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return channel.ExitData{}, err
	}
	return exitData(cmd.ProcessState), nil
}

func exitData(state *os.ProcessState) channel.ExitData {
	status := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return channel.ExitData{Code: 128 + int(status.Signal()), Signal: int(status.Signal())}
	}
	return channel.ExitData{Code: status.ExitStatus()}
}
