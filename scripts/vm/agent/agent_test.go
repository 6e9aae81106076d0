package main

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/scripts/vm/channel"
)

// rig is the other end of the port.
type rig struct {
	t    *testing.T
	conn net.Conn
	job  uint32
}

// newRig runs an agent on a socket instead of a port.
func newRig(t *testing.T) *rig {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	port, far := os.NewFile(uintptr(fds[0]), "port"), os.NewFile(uintptr(fds[1]), "rig")
	conn, err := net.FileConn(far)
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	a := &agent{port: port, jobs: map[uint32]*job{}}
	served := make(chan error, 1)
	go func() { served <- a.serve() }()
	t.Cleanup(func() {
		conn.Close()
		if err := <-served; err != io.EOF {
			t.Errorf("the agent ended with %v", err)
		}
		port.Close()
	})
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, conn: conn}
}

func (r *rig) send(kind channel.Kind, payload []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(channel.Append(nil, channel.Frame{Kind: kind, Job: r.job, Payload: payload})); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) start(data channel.StartData) {
	r.t.Helper()
	r.job++
	f, err := channel.JSON(channel.Start, r.job, data)
	if err != nil {
		r.t.Fatal(err)
	}
	r.send(channel.Start, f.Payload)
}

// end reads until the job is over.
func (r *rig) end() (stdout, stderr string, credits int, exit channel.ExitData) {
	r.t.Helper()
	for {
		f, err := channel.Read(r.conn)
		if err != nil {
			r.t.Fatal(err)
		}
		if f.Job != r.job {
			r.t.Fatalf("a frame of job %d during job %d", f.Job, r.job)
		}
		switch f.Kind {
		case channel.Stdout:
			stdout += string(f.Payload)
		case channel.Stderr:
			stderr += string(f.Payload)
		case channel.Credit:
			credits++
		case channel.Exit:
			if err := json.Unmarshal(f.Payload, &exit); err != nil {
				r.t.Fatal(err)
			}
			return stdout, stderr, credits, exit
		}
	}
}

func TestExec(t *testing.T) {
	r := newRig(t)
	r.start(channel.StartData{Op: channel.Exec, Argv: []string{"sh", "-c", "cat; echo $X >&2; pwd; exit 5"}, Env: []string{"X=env"}, Dir: "/"})
	r.send(channel.Stdin, []byte("in"))
	r.send(channel.Stdin, []byte("put\n"))
	r.send(channel.Stdin, nil)
	stdout, stderr, credits, exit := r.end()
	if stdout != "input\n/\n" || stderr != "env\n" || credits != 2 || exit != (channel.ExitData{Code: 5}) {
		t.Errorf("%q %q %d %+v", stdout, stderr, credits, exit)
	}

	r.start(channel.StartData{Op: channel.Exec, Argv: []string{"no-such-program"}})
	if _, _, _, exit := r.end(); exit.Error == "" {
		t.Errorf("a program that is not there: %+v", exit)
	}
	r.start(channel.StartData{Op: channel.Exec})
	if _, _, _, exit := r.end(); exit.Error == "" {
		t.Errorf("no program: %+v", exit)
	}
}

func TestSignalReachesTheGroup(t *testing.T) {
	r := newRig(t)
	r.start(channel.StartData{Op: channel.Exec, Argv: []string{"sh", "-c", "sleep 300; echo not reached"}})
	r.send(channel.Signal, []byte{byte(unix.SIGKILL)}) // may come before the process is there
	began := time.Now()
	stdout, _, _, exit := r.end()
	if exit.Code != 128+9 || exit.Signal != 9 || stdout != "" || time.Since(began) > 30*time.Second {
		t.Errorf("%q %+v", stdout, exit)
	}
	r.send(channel.Signal, []byte{9}) // to a job that is over: nothing happens
	r.start(channel.StartData{Op: channel.Exec, Argv: []string{"true"}})
	if _, _, _, exit := r.end(); exit != (channel.ExitData{}) {
		t.Errorf("%+v", exit)
	}
}

func TestLeftBehindChildDoesNotHoldTheJob(t *testing.T) {
	r := newRig(t)
	r.start(channel.StartData{Op: channel.Exec, Argv: []string{"sh", "-c", "sleep 20 & echo up"}})
	began := time.Now()
	stdout, _, _, exit := r.end()
	if stdout != "up\n" || exit.Code != 0 || time.Since(began) > 15*time.Second {
		t.Errorf("%q %+v after %v", stdout, exit, time.Since(began))
	}
}

func TestTerminal(t *testing.T) {
	r := newRig(t)
	r.start(channel.StartData{Op: channel.Exec, Argv: []string{"sh", "-c", "stty size; read x; echo got $x"}, Terminal: true, Rows: 33, Cols: 77})
	r.send(channel.Stdin, []byte("word\n"))
	stdout, _, _, exit := r.end()
	if !strings.Contains(stdout, "33 77") || !strings.Contains(stdout, "got word") || exit.Code != 0 {
		t.Errorf("%q %+v", stdout, exit)
	}
}

func TestFiles(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(t.TempDir(), "new", "file")
	r.start(channel.StartData{Op: channel.Put, Path: path, Mode: 0o750})
	r.send(channel.Stdin, []byte("con"))
	r.send(channel.Stdin, []byte("tent"))
	r.send(channel.Stdin, nil)
	if _, _, _, exit := r.end(); exit != (channel.ExitData{}) {
		t.Fatalf("%+v", exit)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o750 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if all, _ := os.ReadDir(filepath.Dir(path)); len(all) != 1 {
		t.Errorf("%d files, one put", len(all))
	}
	r.start(channel.StartData{Op: channel.Get, Path: path})
	if stdout, _, _, exit := r.end(); stdout != "content" || exit != (channel.ExitData{}) {
		t.Errorf("%q %+v", stdout, exit)
	}
	for _, data := range []channel.StartData{{Op: channel.Get, Path: path + "x"}, {Op: channel.Put, Path: "/proc/x"}, {Op: "other"}} {
		r.start(data)
		if _, _, _, exit := r.end(); exit.Error == "" {
			t.Errorf("%+v: %+v", data, exit)
		}
	}
}

func TestFindPort(t *testing.T) {
	class := t.TempDir()
	for dir, name := range map[string]string{"vport0p1": "other\n", "vport1p2": "org.urbd.rig\n"} {
		if err := os.Mkdir(filepath.Join(class, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(class, dir, "name"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if dev, err := findPort(class, channel.Port, time.Second); dev != "/dev/vport1p2" || err != nil {
		t.Errorf("%s, %v", dev, err)
	}
	if dev, err := findPort(class, "absent", 0); err == nil {
		t.Errorf("found %s", dev)
	}
}
