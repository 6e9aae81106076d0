package replication

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication/config"
)

func file(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenStoreSentences(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "none"), "does not exist: correct the configuration"},
		{dir, "is a directory; a block device or a regular file is needed"},
		{"/dev/null", "is a character device"},
		{file(t, 0), "is empty"},
		{file(t, 100), "is empty"},
	} {
		if s, err := openStore(tt.path, whole); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v %v, want %q", tt.path, s, err, tt.want)
		}
	}
}

// A block device that is read-only can be opened for writing: only the writes fail. It is told as what it is, and can be read.
func TestOpenReadOnlyDevice(t *testing.T) {
	path := readOnlyDevice(t)
	if s, err := openStore(path, whole); err == nil || !strings.Contains(err.Error(), "is read-only: blockdev --setrw "+path) {
		t.Errorf("%+v, %v", s, err)
	}
	s, err := peekStore(path)
	if err != nil {
		t.Fatal(err)
	}
	s.close()
}

// readOnlyDevice is a loop device. The test is skipped where the machine gives out none, and for no other reason: its node is made here,
// because a container has few in its /dev.
func readOnlyDevice(t *testing.T) string {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		t.Skipf("this machine gives out no loop devices: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	image, err := os.Open(file(t, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	const major = 7
	for n := 0; ; n++ {
		free, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "loop")
		if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(major, uint32(free)))); err != nil {
			t.Fatal(err)
		}
		device, err := os.Open(path)
		if errors.Is(err, fs.ErrPermission) {
			t.Skipf("this machine lets nobody use its loop devices: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY}})
		if err == unix.EBUSY && n < 100 { // somebody was faster
			device.Close()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0), device.Close()); err != nil {
				t.Error(err)
			}
		})
		return path
	}
}

func TestOneOwnerAtATime(t *testing.T) {
	path := file(t, 1<<20+700)
	first, err := openStore(path, whole)
	if err != nil {
		t.Fatal(err)
	}
	if first.size != 1<<20+512 && first.block == 512 || !first.flush {
		t.Errorf("%+v", first)
	}
	var busy *BusyError
	if _, err := openStore(path, whole); !errors.As(err, &busy) || busy.Device != path {
		t.Errorf("second owner: %v", err)
	}
	first.close()
	again, err := openStore(path, whole)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	again.close()
}

func TestIndexesAreSharedOneByOne(t *testing.T) {
	meta := file(t, 3*indexedMeta)
	volume := func(index int) *config.Volume {
		return &config.Volume{Disk: file(t, 1<<20), MetaDisk: config.MetaDisk{Device: meta, Index: index}}
	}
	var held []*backing
	defer func() {
		for _, b := range held {
			b.close()
		}
	}()
	for _, index := range []int{0, 2} {
		b, err := openBacking(volume(index))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, b)
	}
	var busy *BusyError
	for _, index := range []int{2, -1} {
		if _, err := openBacking(volume(index)); !errors.As(err, &busy) || busy.Device != meta {
			t.Errorf("index %d: %v", index, err)
		}
	}
}

func TestHolderIsNamed(t *testing.T) {
	path := file(t, 4096)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sleep := exec.CommandContext(t.Context(), "sleep", "60")
	sleep.Stdin = f
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	defer sleep.Process.Kill()
	want := fmt.Sprintf("process %d (sleep)", sleep.Process.Pid)
	if got := holderOf(path); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&BusyError{path, want}).Error(); got != path+" is in use by "+want {
		t.Errorf("%s", got)
	}
}
