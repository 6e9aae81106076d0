package replication

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlSize is the size of a block device in bytes.
func ioctlSize(fd int) (int64, error) {
	var n uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return 0, errno
	}
	return int64(n), nil
}

// readOnly reports whether the kernel refuses writes to a block device, which can be opened for writing all the same.
func readOnly(fd int) bool {
	ro, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	return err == nil && ro != 0
}

// volatileCache says whether a block device loses what was written and not
// flushed when the power goes. What sysfs does not tell counts as yes.
func volatileCache(dev uint64) bool {
	dir := sysBlock(dev)
	for _, queue := range []string{"queue", "../queue"} { // a partition has its disk's
		b, err := os.ReadFile(filepath.Join(dir, queue, "write_cache"))
		if err == nil {
			return strings.TrimSpace(string(b)) != "write through"
		}
	}
	return true
}

// sysBlock is the directory of a block device. The link is resolved because ".." of a partition is its disk.
func sysBlock(dev uint64) string {
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// holderOf looks for who has path open or mounted, for the message: "the mount
// at /mnt", "device dm-0", "process 71 (fio)". Empty if nobody is found.
func holderOf(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		for _, look := range []func(uint64) string{mountOf, stackedOn} {
			if holder := look(st.Rdev); holder != "" {
				return holder
			}
		}
		if isSwap(path) {
			return "the kernel as swap space"
		}
	}
	return processOf(&st)
}

// mountOf looks for a mount of a device or of one of its partitions. It reads lines like "36 35 98:0 / /mnt rw,noatime ...".
func mountOf(dev uint64) string {
	f, err := os.Open("/proc/1/mountinfo") // where users are; this process may be elsewhere
	if err != nil {
		f, err = os.Open("/proc/self/mountinfo")
	}
	if err != nil {
		return ""
	}
	defer f.Close()
	want := []string{fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))}
	parts, _ := filepath.Glob(filepath.Join(sysBlock(dev), "*/dev"))
	for _, p := range parts {
		b, _ := os.ReadFile(p)
		want = append(want, strings.TrimSpace(string(b)))
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && slices.Contains(want, fields[2]) {
			return "the mount at " + fields[4]
		}
	}
	return ""
}

// stackedOn finds a device on top: a volume group, an array.
func stackedOn(dev uint64) string {
	entries, _ := os.ReadDir(filepath.Join(sysBlock(dev), "holders"))
	if len(entries) == 0 {
		return ""
	}
	return "the device " + entries[0].Name() + " on top of it"
}

func isSwap(path string) bool {
	b, _ := os.ReadFile("/proc/swaps")
	for line := range strings.Lines(string(b)) {
		if name, _, _ := strings.Cut(line, " "); name == path {
			return true
		}
	}
	return false
}

// processOf finds the first other process with the same device or file open.
func processOf(st *unix.Stat_t) string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return ""
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", e.Name(), "fd")
		fds, _ := os.ReadDir(dir)
		for _, fd := range fds {
			var open unix.Stat_t
			if unix.Stat(filepath.Join(dir, fd.Name()), &open) != nil || !sameFile(st, &open) {
				continue
			}
			comm, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
			return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(comm)))
		}
	}
	return ""
}

// sameFile compares block devices by number, so that another node of the same device counts, and files by inode.
func sameFile(a, b *unix.Stat_t) bool {
	if a.Mode&unix.S_IFMT != b.Mode&unix.S_IFMT {
		return false
	}
	if a.Mode&unix.S_IFMT == unix.S_IFBLK {
		return a.Rdev == b.Rdev
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}
