package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urbd/urbd/replication"
)

// deviceNames keeps the names of block devices:
//
//	DEV/urbd/by-res/RES/VOL -> ../../../ublkbN     the name for people and fstab
//	RUN/ublkbN                                     one line "RES/VOL", for `urbd udev`
//
// The link is made here and by udev: here for hosts without udev, there because udev removes links of devices that it
// knows nothing about.
type deviceNames struct {
	dev string // /dev
	run string // the run directory
}

// byRes is the link of a volume.
func (n deviceNames) byRes(resource string, volume int) string {
	return filepath.Join(n.dev, symlinkByRes(resource, volume))
}

// symlinkByRes is the link of a volume, relative to /dev.
func symlinkByRes(resource string, volume int) string {
	return fmt.Sprintf("urbd/by-res/%s/%d", resource, volume)
}

func (n deviceNames) record(minor int) string {
	return filepath.Join(n.run, fmt.Sprintf("ublkb%d", minor))
}

// announce says whose device a minor is going to be, before the kernel tells udev about it.
func (n deviceNames) announce(minor int, resource string, volume int) error {
	return replication.WriteRecord(n.record(minor), fmt.Appendf(nil, "%s/%d\n", resource, volume), 0o644)
}

// link makes the name by resource, in one step, so that there is no moment without it.
func (n deviceNames) link(minor int, resource string, volume int) error {
	name := n.byRes(resource, volume)
	if err := n.open(filepath.Dir(name)); err != nil {
		return err
	}
	target := fmt.Sprintf("../../../ublkb%d", minor)
	if now, err := os.Readlink(name); err == nil && now == target {
		return nil
	}
	fresh := name + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, name)
}

// open makes a directory below /dev that everybody can look into, whatever the umask of this process.
func (n deviceNames) open(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := n.open(filepath.Dir(dir)); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) { // udev was faster
		return nil
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	return err
}

// owner is the volume that a minor was announced for.
func (n deviceNames) owner(minor int) (target, bool) {
	text, err := replication.ReadRecord(n.record(minor))
	if err != nil {
		return target{}, false
	}
	t, err := parseTarget(strings.TrimSpace(string(text)))
	return t, err == nil && t.volume != everyVolume
}

// remove forgets a minor and its name. What is not there is fine, and a link that is another device's by now stays.
func (n deviceNames) remove(minor int) {
	if t, ok := n.owner(minor); ok {
		name := n.byRes(t.resource, t.volume)
		if to, err := os.Readlink(name); err == nil && filepath.Base(to) == fmt.Sprintf("ublkb%d", minor) {
			os.Remove(name)
			os.Remove(filepath.Dir(name)) // refused while other volumes have names there
		}
	}
	os.Remove(n.record(minor))
}
