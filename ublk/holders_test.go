package ublk

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// The device below the root directory, if it has one, is found to be mounted there.
func TestMountsAreFound(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/proc", &st); err != nil {
		t.Fatal(err)
	}
	held, err := findHolders(st.Dev, "/dev/none")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range held {
		if h.What == "mounted on /proc" {
			return
		}
	}
	t.Errorf("/proc is not found among %v", held)
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
