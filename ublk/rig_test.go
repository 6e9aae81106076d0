//go:build rig

package ublk_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/urbd/urbd/ublk"
	"github.com/urbd/urbd/ublk/ublktest"
	"github.com/urbd/urbd/ublk/uring"

	"golang.org/x/sys/unix"
)

// serverEnv makes the test binary a server process for the recovery tests.
const serverEnv = "UBLK_TEST_SERVER"

// serverJob is what such a process is told.
type serverJob struct {
	ID            int
	Recover, Hold bool
	Unfetched     bool // it stops before the driver has its fetches
	Tuning        bool // it tunes the disk while it holds a write, which never ends
	Mode          ublk.Mode
	File          string
}

func TestMain(m *testing.M) {
	if job := os.Getenv(serverEnv); job != "" {
		if err := serve(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if out, err := exec.Command("modprobe", "ublk_drv").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "FAIL: these tests need ublk_drv: %v %s\n", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if left, err := ublk.List(context.Background(), nil); len(left) > 0 || err != nil {
		fmt.Fprintf(os.Stderr, "FAIL: devices are left behind: %+v %v\n", left, err)
		code = 1
	}
	os.Exit(code)
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// modes are all that this kernel has; the table says which it must have.
func modes(t *testing.T) []ublk.Mode {
	h, err := ublk.Probe(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	all := []ublk.Mode{ublk.ModeCopy, ublk.ModeUserCopy}
	if h.ZeroCopy() {
		all = append(all, ublk.ModeZeroCopy)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if new := u.Release[0] >= '7' && u.Release[1] == '.'; new != h.ZeroCopy() {
		t.Errorf("kernel %s: zero copy %v, features %v", u.Release[:], h.ZeroCopy(), h.Features)
	}
	return all
}

// ModeAuto becomes what Probe says, and the device works as that.
func TestModeAuto(t *testing.T) {
	h, err := ublk.Probe(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	want := ublk.ModeCopy
	if h.ZeroCopy() {
		want = ublk.ModeZeroCopy
	}
	d, err := ublk.Create(bounded(t), ublk.Config{ID: ublk.AnyID, Mode: ublk.ModeAuto, Geometry: ublk.Geometry{Size: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Mode(); got != want || d.Config().Mode != want {
		t.Errorf("ModeAuto is %v and %v, and Probe says %v", got, d.Config().Mode, want)
	}
	if err := d.Delete(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryDevice(t *testing.T) {
	ublktest.Run(t, ublktest.Subject{
		Modes: modes(t), Discard: true,
		Make: func(t *testing.T, size int64) ublktest.Handlers {
			m := &ublktest.Memory{Data: make([]byte, size)}
			return func(*ublk.Device, int, *uring.Ring) (ublk.Handler, error) { return m, nil }
		},
	})
}

// backingFile is an open sparse file for direct I/O.
func backingFile(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "disk"), os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFileDevice(t *testing.T) {
	var m []ublk.Mode
	for _, mode := range modes(t) {
		if mode != ublk.ModeUserCopy { // File moves data by operations that this mode has not
			m = append(m, mode)
		}
	}
	ublktest.Run(t, ublktest.Subject{
		Modes: m, Discard: true,
		Make: func(t *testing.T, size int64) ublktest.Handlers {
			f := backingFile(t, size)
			return func(d *ublk.Device, _ int, ring *uring.Ring) (ublk.Handler, error) {
				return ublktest.NewFile(ring, int(f.Fd()), d.Config().Depth), nil
			}
		},
	})
}

// flushableFile is a Backend.
type flushableFile struct{ *os.File }

func (f flushableFile) Flush() error { return f.Sync() }

func (f flushableFile) Discard(off, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (f flushableFile) WriteZeroes(off, n int64, _ bool) error { return f.Discard(off, n) }

func TestBlockingDevice(t *testing.T) {
	ublktest.Run(t, ublktest.Subject{
		Modes: modes(t), Discard: true,
		Make: func(t *testing.T, size int64) ublktest.Handlers {
			f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(size); err != nil {
				t.Fatal(err)
			}
			b := ublk.NewBlocking(flushableFile{f}, 8)
			t.Cleanup(func() { b.Close(); f.Close() })
			return func(*ublk.Device, int, *uring.Ring) (ublk.Handler, error) { return b, nil }
		},
	})
}

const testOwner = 0x7562_6c6b_0000_0001

// serve is a server process: it never returns without an error.
func serve(arg string) error {
	var job serverJob
	if err := json.Unmarshal([]byte(arg), &job); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Second)
	defer cancel()
	cfg := ublk.Config{
		ID: job.ID, Depth: 16, MaxIO: 64 << 10, Mode: job.Mode, Recovery: ublk.RecoverReissue, Owner: testOwner,
		Geometry: ublk.Geometry{Size: 16 << 20, Volatile: true},
	}
	flags := os.O_RDWR | unix.O_DIRECT
	if job.Mode == ublk.ModeUserCopy {
		flags = os.O_RDWR // its bytes lie anywhere in memory
	}
	f, err := os.OpenFile(job.File, flags, 0)
	if err != nil {
		return err
	}
	var d *ublk.Device
	if job.Recover {
		d, err = ublk.Recover(ctx, job.ID, cfg)
	} else {
		d, err = ublk.Create(ctx, cfg)
	}
	if err != nil {
		return err
	}
	if job.Unfetched {
		return unfetched(d)
	}
	_, err = ublk.ListenAndServe(ctx, d, func(_ int, ring *uring.Ring) (ublk.Handler, error) {
		var h ublk.Handler = ublktest.NewFile(ring, int(f.Fd()), d.Config().Depth)
		if job.Mode == ublk.ModeUserCopy { // File moves data by operations that this mode has not
			h = ublk.NewBlocking(flushableFile{f}, 4)
		}
		writes := 0
		return ublk.HandlerFunc(func(r *ublk.Request) {
			if r.Op == ublk.OpWrite {
				if job.Tuning {
					go d.Tune("wbt_lat_usec", "1234")
					return
				}
				if writes++; job.Hold && writes%97 == 0 && writes < 400 {
					return // the next server gets it again
				}
			}
			h.Handle(r)
		}), nil
	})
	if err != nil {
		return err
	}
	fmt.Println(ublktest.ServerReady)
	select {}
}

// unfetched is a server that stands still where another one begins to serve.
func unfetched(d *ublk.Device) error {
	runtime.LockOSThread()
	ring, err := uring.New(d.RingConfig())
	if err != nil {
		return err
	}
	if err := ublk.Acquire(d, ring); err != nil {
		return err
	}
	fmt.Println(ublktest.ServerReady)
	select {}
}

// serverProcess runs a server as a process, and waits until it is ready.
func serverProcess(t *testing.T, job serverJob) *exec.Cmd {
	t.Helper()
	cmd := command(t, job)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != ublktest.ServerReady {
		t.Fatalf("the server says %q, %v", line, err)
	}
	return cmd
}

// A server that dies at a bad moment, as another one takes its device over, or while it changes a setting of a disk that is in use, keeps nobody
// from serving the device.
func TestServerDiesAtABadMoment(t *testing.T) {
	f := backingFile(t, 16<<20)
	job := serverJob{ID: 41, Mode: ublk.ModeCopy, File: f.Name(), Tuning: true}
	first := serverProcess(t, job)
	t.Cleanup(func() {
		if err := ublk.Remove(bounded(t), job.ID); err != nil {
			t.Error(err)
		}
	})
	wrote := make(chan error, 1)
	go func() { wrote <- writeBlock(ublk.BlockPath(job.ID)) }()
	frozen := func() bool {
		stacks, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/stack")
		return slices.ContainsFunc(stacks, func(p string) bool {
			text, _ := os.ReadFile(p)
			return bytes.Contains(text, []byte("blk_mq_freeze_queue_wait"))
		})
	}
	for end := time.Now().Add(time.Minute); !frozen(); {
		if time.Now().After(end) {
			t.Fatal("the kernel does not freeze the queue")
		}
	}
	first.Process.Kill()
	job.Recover, job.Tuning, job.Unfetched = true, false, true
	serverProcess(t, job).Process.Kill()
	job.Unfetched = false
	last := serverProcess(t, job)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	last.Process.Kill()
}

func writeBlock(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(make([]byte, 4096))
	return err
}

func command(t *testing.T, job serverJob) *exec.Cmd {
	b, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serverEnv+"="+string(b))
	return cmd
}

// Applications see a pause and no error while the server is killed under load and another one takes over.
func TestRecovery(t *testing.T) {
	for i, mode := range modes(t) {
		t.Run(mode.String(), func(t *testing.T) {
			f := backingFile(t, 16<<20)
			ublktest.Recovery(t, 20+i, 4, ublktest.Server{Command: func(id int, again, hold bool) *exec.Cmd {
				return command(t, serverJob{ID: id, Recover: again, Hold: hold, Mode: mode, File: f.Name()})
			}})
		})
	}
}

// What is left behind is found by its owner's mark, told from what is in use, and cleaned up.
func TestOrphans(t *testing.T) {
	f := backingFile(t, 16<<20)
	ours := func(i *ublk.Info) bool { return i.Owner == testOwner }
	own, err := ublk.Create(bounded(t), ublk.Config{ID: ublk.AnyID, Owner: testOwner, Geometry: ublk.Geometry{Size: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Delete(bounded(t))
	if _, err := ublk.Create(bounded(t), ublk.Config{ID: own.ID()}); !errors.Is(err, ublk.ErrExist) {
		t.Errorf("a number is given twice: %v", err)
	}
	cmd := command(t, serverJob{ID: 40, File: f.Name()})
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	states := func() string {
		l, err := ublk.List(bounded(t), ours)
		if err != nil {
			t.Fatal(err)
		}
		s := ""
		for _, i := range l {
			s += fmt.Sprintf("%s %v orphan=%v; ", strconv.Itoa(i.ID), i.State, i.Orphan)
		}
		return s
	}
	if got, want := states(), fmt.Sprintf("%d dead orphan=false; 40 live orphan=false; ", own.ID()); got != want {
		t.Errorf("with servers: %s instead of %s", got, want)
	}
	if _, err := ublk.Recover(bounded(t), own.ID(), ublk.Config{}); !errors.Is(err, ublk.ErrState) {
		t.Errorf("recovering a device without recovery: %v", err)
	}
	if _, err := ublk.Recover(bounded(t), 40, ublk.Config{Owner: 5}); !errors.Is(err, ublk.ErrState) {
		t.Errorf("recovering somebody else's device: %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), 3*time.Second) // the questions before have to fit in, too
	defer cancel()
	if _, err := ublk.Recover(short, 40, ublk.Config{}); !errors.Is(err, ublk.ErrBusy) {
		t.Errorf("recovering a served device: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	var done []int
	for end := time.Now().Add(20 * time.Second); len(done) == 0 && time.Now().Before(end); {
		if done, err = ublk.Clean(bounded(t), ours); err != nil {
			t.Fatal(err)
		}
	}
	if len(done) != 1 || done[0] != 40 {
		t.Errorf("cleaned up: %v", done)
	}
	if got, want := states(), fmt.Sprintf("%d dead orphan=false; ", own.ID()); got != want {
		t.Errorf("afterwards: %s instead of %s", got, want)
	}
	if _, err := ublk.Recover(bounded(t), 40, ublk.Config{}); !errors.Is(err, ublk.ErrNotExist) {
		t.Errorf("recovering nothing: %v", err)
	}
}

// The examples work as they stand; they end the process when they do not.
func TestExamples(t *testing.T) {
	Example_null()
	Example_memory()
	Example_loop()
}
