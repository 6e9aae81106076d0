package ublktest

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk"
)

// ServerReady is the line that a server process prints when the disk is there.
const ServerReady = "serving"

// A Server is a process that serves a device, for Recovery.
type Server struct {
	// Command starts it: it creates the device (or recovers it) with number id and Recovery RecoverReissue, a disk of at
	// least 16 MiB, prints ServerReady on standard output when it is started, and serves until it is killed. With hold, its handler leaves
	// some writes unanswered for ever, so that there is always something to send again.
	Command func(id int, recover, hold bool) *exec.Cmd
}

// Recovery kills the server again and again while applications write and verify, has another one take over, and
// accepts no error and no lost write.
func Recovery(t *testing.T, id, kills int, s Server) {
	path := ublk.BlockPath(id)
	srv := s.start(t, id, false, true)
	t.Cleanup(func() {
		srv.kill()
		if err := ublk.Remove(timeLimit(t), id); err != nil {
			t.Error(err)
		}
	})
	load := startLoad(t, path)
	fio := startFio(t, path)
	for i := range kills {
		load.progress(t)
		srv.kill()
		eventually(t, "the disk does not wait for a server", func() error {
			info, err := ublk.Lookup(timeLimit(t), id)
			if err == nil && (info.State != ublk.StateQuiesced || !info.Orphan) {
				err = fmt.Errorf("its state is %v, orphan %v", info.State, info.Orphan)
			}
			return err
		})
		srv = s.start(t, id, true, i < kills-1)
	}
	load.progress(t)
	load.finish(t)
	if out, err := fio.wait(); err != nil {
		t.Errorf("fio: %v\n%s", err, out)
	}
}

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	once sync.Once
}

func (s Server) start(t *testing.T, id int, recover, hold bool) *process {
	t.Helper()
	cmd := s.Command(id, recover, hold)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := new(strings.Builder)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	ready := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if lines.Text() == ServerReady {
				ready <- ""
				io.Copy(io.Discard, out)
				return
			}
		}
		ready <- "it ended"
	}()
	select {
	case why := <-ready:
		if why != "" {
			p.kill()
			t.Fatalf("the server does not serve: %s\n%s", why, said)
		}
	case <-time.After(limit):
		p.kill()
		t.Fatalf("the server does not serve in %v\n%s", limit, said)
	}
	return p
}

// kill ends the process as a crash would.
func (p *process) kill() {
	p.once.Do(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
}

// load is a number of applications, each with a region of its own, that write and read back.
type load struct {
	wg    sync.WaitGroup
	stop  atomic.Bool
	turns [loadWorkers]atomic.Int64
}

const (
	loadWorkers = 4
	loadBlocks  = 64
	loadBlock   = 4096
)

func startLoad(t *testing.T, path string) *load {
	l := new(load)
	for w := range loadWorkers {
		k := openDisk(t, path, 0)
		l.wg.Go(func() { l.work(t, k, w) })
	}
	return l
}

// work goes round its region: each block is read, must hold what was written last, and is written anew.
func (l *load) work(t *testing.T, k *disk, w int) {
	defer k.close()
	var holds [loadBlocks]uint64
	want := make([]byte, loadBlock)
	for turn := uint64(1); !l.stop.Load(); turn++ {
		i := turn % loadBlocks
		off := (int64(w)*loadBlocks + int64(i)) * loadBlock
		if holds[i] != 0 {
			pattern(want, holds[i])
			got, err := k.read(loadBlock, off)
			if err != nil {
				t.Errorf("worker %d: read at %d: %v", w, off, err)
				return
			}
			if string(got) != string(want) {
				t.Errorf("worker %d: the write of turn %d at %d is lost", w, holds[i], off)
				return
			}
		}
		holds[i] = turn
		pattern(want, turn)
		if err := k.write(want, off); err != nil {
			t.Errorf("worker %d: write at %d: %v", w, off, err)
			return
		}
		l.turns[w].Add(1)
	}
}

// progress waits until some worker has gone on for a while. One whose write is being withheld stands still.
func (l *load) progress(t *testing.T) {
	t.Helper()
	sum := func() (n int64) {
		for i := range l.turns {
			n += l.turns[i].Load()
		}
		return n
	}
	goal := sum() + 100
	eventually(t, "the applications do not get on", func() error {
		if n := sum(); n < goal && !t.Failed() {
			return fmt.Errorf("%d of %d turns", n, goal)
		}
		return nil
	})
}

func (l *load) finish(t *testing.T) {
	l.stop.Store(true)
	done := make(chan struct{})
	go func() { l.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("an application waits for a request that nobody answers")
	}
}

// fio writes and verifies behind the load's regions.
type fio struct {
	cmd *exec.Cmd
	out strings.Builder
}

func startFio(t *testing.T, path string) *fio {
	f := new(fio)
	f.cmd = exec.Command("fio", "--name=verify", "--filename="+path, "--direct=1", "--rw=randwrite", "--bs=4k", "--ioengine=psync",
		"--offset=4M", "--size=8M", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--loops=1")
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.out
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.cmd.Process.Kill() }) // after wait it has gone already
	return f
}

func (f *fio) wait() (string, error) {
	err := f.cmd.Wait()
	return f.out.String(), err
}
