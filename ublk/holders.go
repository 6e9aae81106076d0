package ublk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Holder is somebody who uses a disk.
type Holder struct {
	PID  int    // 0 when it is no process
	What string // "process fio", "mounted on /mnt", "swap", "block device dm-0"
}

func (h Holder) String() string {
	if h.PID == 0 {
		return h.What
	}
	return fmt.Sprintf("%s (pid %d)", h.What, h.PID)
}

// A BusyError says who keeps a disk from being stopped. It unwraps to ErrBusy.
type BusyError struct {
	Device  string
	Holders []Holder // empty when nobody could be found any more
}

func (e *BusyError) Error() string {
	if len(e.Holders) == 0 {
		return ErrBusy.Error()
	}
	names := make([]string, len(e.Holders))
	for i, h := range e.Holders {
		names[i] = h.String()
	}
	return ErrBusy.Error() + ": " + strings.Join(names, ", ")
}

// Unwrap returns ErrBusy.
func (e *BusyError) Unwrap() error { return ErrBusy }

// Holders looks for users of the disk, as the function does.
func (d *Device) Holders() ([]Holder, error) { return Holders(d.ID()) }

// Holders looks for users of /dev/ublkbN and its partitions, whoever serves it, also nobody: mounts of this mount
// namespace and of that of process 1, swap, block devices on top, and processes that have it open, this process left out. Processes that the
// caller may not look into are not found. A disk that is not there has no users. Source of the numbers: sysfs.
func Holders(id int) ([]Holder, error) {
	return findHolders("/sys/block", filepath.Base(BlockPath(id)))
}

// findHolders looks for users of a disk that sysfs describes in the directory block/name.
func findHolders(block, name string) ([]Holder, error) {
	devs := make(map[string]bool) // numbers of the disk and its partitions, as sysfs and mountinfo write them
	dir := filepath.Join(block, name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		_, err = os.Stat(block) // without sysfs nothing is known
		return nil, err
	}
	parts, err := filepath.Glob(dir + "/*/dev")
	errs := []error{err}
	for _, p := range append(parts, dir+"/dev") {
		b, err := os.ReadFile(p)
		errs = append(errs, err)
		devs[strings.TrimSpace(string(b))] = true
	}
	var all []Holder
	for _, find := range []func(devs map[string]bool, dir string) ([]Holder, error){mountHolders, swapHolders, stackHolders, processHolders} {
		h, err := find(devs, dir)
		all = append(all, h...)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// devName is a device number as sysfs writes it.
func devName(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

// mountHolders reads the mount namespace of process 1, where most users are, and this one. The third field is the device of
// the file system.
func mountHolders(devs map[string]bool, _ string) ([]Holder, error) {
	var all []Holder
	for _, file := range []string{"/proc/1/mountinfo", "/proc/self/mountinfo"} {
		found, err := scan(file, func(f []string) (Holder, bool) {
			if len(f) < 5 || !devs[f[2]] {
				return Holder{}, false
			}
			h := Holder{What: "mounted on " + unescape(f[4])}
			return h, !slices.Contains(all, h)
		})
		if err != nil && !errors.Is(err, os.ErrPermission) {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func swapHolders(_ map[string]bool, dir string) ([]Holder, error) {
	path := "/dev/" + filepath.Base(dir)
	return scan("/proc/swaps", func(f []string) (Holder, bool) {
		return Holder{What: "swap"}, len(f) > 0 && (f[0] == path || strings.HasPrefix(f[0], path+"p"))
	})
}

func scan(file string, pick func(fields []string) (Holder, bool)) ([]Holder, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without swap
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Holder
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if h, ok := pick(strings.Fields(lines.Text())); ok {
			all = append(all, h)
		}
	}
	return all, lines.Err()
}

// unescape undoes the kernel's octal escapes of blanks in paths.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// stackHolders finds device-mapper and the like.
func stackHolders(_ map[string]bool, dir string) ([]Holder, error) {
	above, err := filepath.Glob(dir + "/holders/*")
	parts, perr := filepath.Glob(dir + "/*/holders/*")
	var all []Holder
	for _, p := range append(above, parts...) {
		all = append(all, Holder{What: "block device " + filepath.Base(p)})
	}
	return all, errors.Join(err, perr)
}

func processHolders(devs map[string]bool, _ string) ([]Holder, error) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []Holder
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err == nil && pid != os.Getpid() && hasOpen(pid, devs, unix.S_IFBLK) {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			all = append(all, Holder{PID: pid, What: "process " + strings.TrimSpace(string(name))})
		}
	}
	return all, nil
}

// hasOpen looks at the descriptors of a process. One that is gone, or is not ours to look into, has none.
func hasOpen(pid int, devs map[string]bool, kind uint32) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(dir+fd.Name(), &st) == nil && st.Mode&unix.S_IFMT == kind && devs[devName(st.Rdev)] {
			return true
		}
	}
	return false
}
