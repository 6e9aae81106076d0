// Command agent runs in a guest of the rig and does what the rig asks over a
// virtio-serial port: run commands, write and read files. It is the only way
// in: guests have no network to their host.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/scripts/vm/channel"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "rig agent:", err)
		os.Exit(1)
	}
}

func run() error {
	dev, err := findPort("/sys/class/virtio-ports", channel.Port, 30*time.Second)
	if err != nil {
		return err
	}
	port, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer port.Close()
	a := &agent{port: port, jobs: map[uint32]*job{}}
	if err := a.hello(); err != nil {
		return err
	}
	go a.heartbeat()
	return a.serve()
}

// findPort waits for the port of that name: the driver makes it some time after
// its module is loaded.
func findPort(class, name string, patience time.Duration) (string, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ports, _ := filepath.Glob(filepath.Join(class, "*", "name"))
		for _, file := range ports {
			text, err := os.ReadFile(file)
			if err == nil && strings.TrimSpace(string(text)) == name {
				return "/dev/" + filepath.Base(filepath.Dir(file)), nil
			}
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no virtio port %s", name)
		}
	}
}

// An agent owns the port. Frames are written whole, one at a time, under mu.
type agent struct {
	mu   sync.Mutex
	port *os.File

	jobsMu sync.Mutex
	jobs   map[uint32]*job
}

func (a *agent) send(f channel.Frame) error {
	b := channel.Append(make([]byte, 0, len(f.Payload)+32), f)
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.port.Write(b)
	return err
}

func (a *agent) hello() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	f, err := channel.JSON(channel.Hello, 0, channel.HelloData{
		Release: unix.ByteSliceToString(u.Release[:]), Name: unix.ByteSliceToString(u.Nodename[:]),
	})
	if err != nil {
		return err
	}
	return a.send(f)
}

// heartbeat lets the rig tell a guest that is slow from one that hangs.
func (a *agent) heartbeat() {
	for range time.Tick(time.Second) {
		if a.send(channel.Frame{Kind: channel.Alive}) != nil {
			return
		}
	}
}

// serve reads frames until the port fails. It never waits for a job.
func (a *agent) serve() error {
	r := bufio.NewReaderSize(a.port, 1<<17)
	for {
		f, err := channel.Read(r)
		if err != nil {
			return err
		}
		if f.Kind == channel.Start {
			a.start(f)
			continue
		}
		a.jobsMu.Lock()
		j := a.jobs[f.Job]
		a.jobsMu.Unlock()
		if j != nil { // else it has ended meanwhile
			j.deliver(f)
		}
	}
}

func (a *agent) start(f channel.Frame) {
	var data channel.StartData
	if err := json.Unmarshal(f.Payload, &data); err != nil {
		a.exit(f.Job, channel.ExitData{Error: err.Error(), Code: -1})
		return
	}
	j := &job{agent: a, id: f.Job, start: data, input: make(chan []byte, channel.Window+1), over: make(chan struct{})}
	a.jobsMu.Lock()
	a.jobs[f.Job] = j
	a.jobsMu.Unlock()
	go func() {
		result := j.run()
		close(j.over)
		a.jobsMu.Lock()
		delete(a.jobs, j.id)
		a.jobsMu.Unlock()
		a.exit(j.id, result)
	}()
}

func (a *agent) exit(id uint32, data channel.ExitData) {
	f, err := channel.JSON(channel.Exit, id, data)
	if err != nil {
		f = channel.Frame{Kind: channel.Exit, Job: id, Payload: []byte(`{"Error":"result too long","Code":-1}`)}
	}
	if err := a.send(f); err != nil && !errors.Is(err, os.ErrClosed) {
		fmt.Fprintln(os.Stderr, "rig agent: end of job:", err)
	}
}
