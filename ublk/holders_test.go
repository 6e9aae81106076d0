package ublk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// sysfs is a directory that describes disks as /sys/block does; files are paths below it and what they hold.
func sysfs(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A disk and its partitions are found to be mounted and built upon. The number of the file system below /proc stands for the
// disk's, because that one is mounted everywhere.
func TestHoldersByNumber(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/proc", &st); err != nil {
		t.Fatal(err)
	}
	dev := devName(st.Dev) + "\n"
	mounted, above := Holder{What: "mounted on /proc"}, Holder{What: "block device dm-0"}
	for _, c := range []struct {
		files map[string]string
		want  Holder
	}{
		{map[string]string{"ublkb0/dev": dev}, mounted},
		{map[string]string{"ublkb0/dev": "0:0\n", "ublkb0/ublkb0p1/dev": dev}, mounted},
		{map[string]string{"ublkb0/dev": "0:0\n", "ublkb0/holders/dm-0": ""}, above},
		{map[string]string{"ublkb0/dev": "0:0\n", "ublkb0/ublkb0p1/holders/dm-0": ""}, above},
	} {
		held, err := findHolders(sysfs(t, c.files), "ublkb0")
		if err != nil || !slices.Contains(held, c.want) {
			t.Errorf("%v: %v, %v", c.files, held, err)
		}
	}
	if held, err := findHolders(sysfs(t, map[string]string{"ublkb0/dev": dev}), "ublkb1"); err != nil || held != nil {
		t.Errorf("a disk that is not there: %v, %v", held, err)
	}
	if _, err := findHolders("/nowhere", "ublkb0"); err == nil {
		t.Error("nobody is found where nobody was looked for")
	}
}

// A child that inherits a descriptor of a device is found. A character device serves where the host has no block device.
func TestOpenDescriptorsAreFound(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	child := exec.Command("sleep", "1000")
	child.ExtraFiles = []*os.File{f}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { child.Process.Kill(); child.Wait() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if !hasOpen(child.Process.Pid, map[string]bool{devName(st.Rdev): true}, unix.S_IFCHR) {
		t.Error("the child's descriptor is not found")
	}
	if hasOpen(child.Process.Pid, map[string]bool{devName(st.Rdev): true}, unix.S_IFBLK) {
		t.Error("a character device is taken for a block device")
	}
}

func TestBusyErrorNamesHolders(t *testing.T) {
	err := error(&BusyError{Device: "/dev/ublkb0", Holders: []Holder{{What: "mounted on /mnt"}, {PID: 7, What: "process fio"}}})
	if s := err.Error(); s != "the device is in use: mounted on /mnt, process fio (pid 7)" || !errors.Is(err, ErrBusy) {
		t.Error(s)
	}
	if s := unescape(`/mnt/a\040b\134`); s != `/mnt/a b\` {
		t.Error(s)
	}
}
