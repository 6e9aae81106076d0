package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestDeviceNames(t *testing.T) {
	dir := t.TempDir()
	n := deviceNames{filepath.Join(dir, "dev"), filepath.Join(dir, "run")}
	link := filepath.Join(dir, "dev/urbd/by-res/r0/1")
	for range 2 { // again after a crash that left everything
		if err := n.announce(5, "r0", 1); err != nil {
			t.Fatal(err)
		}
		if err := n.link(5, "r0", 1); err != nil {
			t.Fatal(err)
		}
	}
	if to, err := os.Readlink(link); err != nil || to != "../../../ublkb5" {
		t.Fatalf("link to %q, %v", to, err)
	}
	if got, ok := n.owner(5); !ok || got.String() != "r0/1" {
		t.Errorf("owner of 5: %v, %v", got, ok)
	}
	if err := n.announce(6, "r0", 1); err != nil { // another minor for the volume
		t.Fatal(err)
	}
	if err := n.link(6, "r0", 1); err != nil {
		t.Fatal(err)
	}
	n.remove(5)
	if to, err := os.Readlink(link); err != nil || to != "../../../ublkb6" {
		t.Errorf("after the old minor was removed: %q, %v", to, err)
	}
	n.remove(6)
	n.remove(6)
	if _, err := os.Lstat(filepath.Dir(link)); !os.IsNotExist(err) {
		t.Errorf("the directory of the resource is left: %v", err)
	}
	if _, ok := n.owner(6); ok {
		t.Error("6 still has an owner")
	}
}

// The names of devices are everybody's, also where the daemon is started with the umask of a cautious administrator or of its unit.
func TestDeviceNamesAreEverybodys(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := t.TempDir()
	n := deviceNames{dir, filepath.Join(dir, "run")}
	if err := n.link(5, "r0", 1); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"urbd", "urbd/by-res", "urbd/by-res/r0"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestUdevNames(t *testing.T) {
	b := newBench(t)
	n := deviceNames{b.dir, b.run}
	if err := n.announce(3, "r0", 0); err != nil {
		t.Fatal(err)
	}
	b.want("udev ublkb3", 0, "DEVICE=ublkb3\nSYMLINK_BY_RES=urbd/by-res/r0/0\n", "")
	b.want("udev ublkb4", 0, "", "")
	b.want("udev sda", 1, "", "ublkb0")
	if err := os.WriteFile(filepath.Join(b.run, "ublkb4"), []byte("../../etc/1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.want("udev ublkb4", 0, "", "")
}
