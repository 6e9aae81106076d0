package replication

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// DeviceMemory is what the requests of one block device come to take, in bytes.
const DeviceMemory = 64 << 20

// What a daemon needs, whatever it serves.
const (
	leastMemory  = 32 << 20 // bytes: program, heap, ring
	leastFiles   = 128      // descriptors: ring, sockets, strangers that are being greeted, commands
	volumeFiles  = 8        // and of each volume
	leastTasks   = 32       // threads of the program
	volumeTasks  = 8        // and of the kernel for the flushes and zeroing of each volume
	oldestMajor  = 6
	oldestMinor  = 8
	uringOff     = "2" // kernel.io_uring_disabled: for everybody
	cgroupNoLine = "max"
)

// A machine is what a daemon is started on, as the kernel describes it below root.
type machine struct{ root string }

func (m machine) read(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(m.root, path))
	return strings.TrimSpace(string(b)), err
}

// fit finds at the start what a daemon would fail or die of later. Each is a sentence with the next step.
func (m machine) fit(volumes int) error {
	if err := m.recent(); err != nil {
		return err
	}
	if v, err := m.read("proc/sys/kernel/io_uring_disabled"); err == nil && v == uringOff {
		return fmt.Errorf("io_uring is switched off for everybody (kernel.io_uring_disabled is %s), and urbd needs it; for root alone it is on after: sysctl -w kernel.io_uring_disabled=1", v)
	}
	return enoughFiles(leastFiles + volumes*volumeFiles)
}

// boundless are the limits of a shell that mean nothing for a daemon that it has started: by the first it would lose its disk, by the others die.
var boundless = []struct {
	resource int
	is       string
	option   string // of ulimit
}{
	{unix.RLIMIT_FSIZE, "size of a file", "-f"},
	{unix.RLIMIT_CPU, "time of the processor", "-t"},
	{unix.RLIMIT_AS, "size of the address space", "-v"},
}

// unlimited lifts limits that were meant for others; it names those that it may not lift.
func unlimited() (warnings []string) {
	for _, b := range boundless {
		var have unix.Rlimit
		if err := unix.Getrlimit(b.resource, &have); err != nil || have.Cur == unix.RLIM_INFINITY {
			continue
		}
		for _, most := range []uint64{unix.RLIM_INFINITY, have.Max} {
			if unix.Setrlimit(b.resource, &unix.Rlimit{Cur: most, Max: most}) == nil {
				break
			}
		}
		if unix.Getrlimit(b.resource, &have) == nil && have.Cur != unix.RLIM_INFINITY {
			warnings = append(warnings, fmt.Sprintf("the %s is limited here, and this process may not lift that; lift it where it is set: ulimit %s unlimited", b.is, b.option))
		}
	}
	return warnings
}

// recent wants the oldest kernel that urbd is for.
func (m machine) recent() error {
	if release, old := m.olderThan(oldestMajor, oldestMinor); old {
		return fmt.Errorf("the kernel is Linux %s, and urbd needs %d.%d or newer (ublk of before does not keep a device whose daemon has died as it must)", release, oldestMajor, oldestMinor)
	}
	return nil
}

// olderThan reports whether the kernel is older than a version. One whose release is no number is not: whoever calls his
// kernel something else knows what it is.
func (m machine) olderThan(major, minor int) (release string, old bool) {
	release, err := m.read("proc/sys/kernel/osrelease")
	if err != nil {
		return "", false
	}
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 {
		return release, false
	}
	return release, a < major || a == major && b < minor
}

// enoughFiles raises the limit of open files where that is allowed.
func enoughFiles(need int) error {
	var have unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &have); err != nil || have.Cur >= uint64(need) {
		return nil
	}
	want := unix.Rlimit{Cur: uint64(need), Max: max(have.Max, uint64(need))}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
		return fmt.Errorf("a process may have %d files open here, this one needs %d and may not raise the limit (%w); raise it where it is set: ulimit -n %[2]d, or LimitNOFILE=%[2]d in its unit",
			have.Max, need, err)
	}
	return nil
}

// A groupLimit is how much of something a control group may use.
type groupLimit struct {
	most  int64
	group string // path
	file  string // memory.max, memory.high, memory.limit_in_bytes, pids.max
}

// A controller is what limits one thing in control groups.
type controller struct {
	name   string   // of version 1
	files  []string // of version 2
	files1 []string // of version 1
}

var (
	memoryController = controller{"memory", []string{"memory.max", "memory.high"}, []string{"memory.limit_in_bytes"}}
	tasksController  = controller{"pids", []string{"pids.max"}, []string{"pids.max"}}
)

// enoughMemory wants the control groups of this process to allow need bytes.
func (m machine) enoughMemory(need int64) error {
	least, err := m.limit(memoryController)
	if err != nil || least.most >= need {
		return nil // what cannot be found out is no reason not to serve
	}
	return fmt.Errorf("the control group %s may use %d MiB of memory (%s), and this daemon comes to need %d MiB: it would be killed or stand still, and its devices with it; raise the limit (of a systemd unit: MemoryMax=, MemoryHigh=)",
		least.group, least.most>>20, least.file, (need+1<<20-1)>>20)
}

// enoughTasks wants the control groups of this process to allow the threads of so many volumes, the program's and the ring's. The
// warning is for a limit that they only reach when a disk hangs: the other disks would find no threads then.
func (m machine) enoughTasks(volumes int) (warning string, err error) {
	least, err := m.limit(tasksController)
	if err != nil {
		return "", nil
	}
	need := int64(leastTasks + volumes*volumeTasks)
	hung := need
	if volumes > 1 {
		hung += int64(workers(1))
	}
	const remedy = "raise the limit (of a systemd unit: TasksMax=)"
	switch {
	case least.most < need:
		return "", fmt.Errorf("the control group %s may have %d tasks (%s), and this daemon comes to need %d, threads of the kernel for its disk I/O included: it would stand still, and its devices with it; %s",
			least.group, least.most, least.file, need, remedy)
	case least.most < hung:
		return fmt.Sprintf("the control group %s may have %d tasks (%s): a disk that hangs can hold the I/O of this resource's other disks up, which takes %d to exclude; %s",
			least.group, least.most, least.file, hung, remedy), nil
	}
	return "", nil
}

// limit is the lowest limit of the control groups that this process is in, up to the root.
func (m machine) limit(of controller) (groupLimit, error) {
	least := groupLimit{most: math.MaxInt64}
	f, err := os.Open(filepath.Join(m.root, "proc/self/cgroup"))
	if err != nil {
		return least, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() { // "0::/system.slice/x.service", or of version 1 "4:cpu,memory:/x"
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, files := "sys/fs/cgroup", of.files
		switch {
		case fields[1] == "":
		case slices.Contains(strings.Split(fields[1], ","), of.name):
			mount, files = filepath.Join(mount, of.name), of.files1
		default:
			continue
		}
		for group := filepath.Clean("/" + fields[2]); ; group = filepath.Dir(group) {
			for _, file := range files {
				text, err := m.read(filepath.Join(mount, group, file))
				if errors.Is(err, os.ErrNotExist) || text == cgroupNoLine {
					continue
				}
				if n, err := strconv.ParseInt(text, 10, 64); err == nil && n < least.most {
					least = groupLimit{n, group, file}
				}
			}
			if group == "/" {
				break
			}
		}
	}
	return least, lines.Err()
}

// memoryNeed is what the daemon comes to use, in bytes: its buffers from the start, a bitmap when much of a disk is out of sync.
func (r *Resource) memoryNeed(opened openedStores) int64 {
	cfg := engineConfig(r.cfg.Resource, r.cfg.Local)
	need := leastMemory + bufferSize(&cfg)
	for _, o := range opened {
		need += o.b.data.size / bitSize / 8
		if r.cfg.Devices != nil {
			need += DeviceMemory
		}
	}
	return need
}

// bitSize is what a bit of the bitmap stands for, in bytes.
const bitSize = 4096
