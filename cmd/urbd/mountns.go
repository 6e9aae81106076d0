package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A daemon that dies in the mount namespace of those who use its device can be the last one in it. The kernel then unmounts
// the file system on that device while the daemon ends, and waits for the daemon. So it lives where no such mount can end
// with it:
//
//	process 1 is in another mount namespace       it joins that one
//	process 1 is that of a container              it gets a copy of its namespace, without the file systems on disks that it does not need
//	else                                          it stays: that namespace ends with the machine
//
// A process with many threads can do neither; one thread does, and becomes the process by executing the program again.

// settledIn is in the environment of a daemon that has done so: the namespace where it is.
const settledIn = "URBD_MOUNT_NAMESPACE"

// hostPIDs is the PID namespace that the kernel begins with, PROC_PID_INIT_INO of <linux/proc_ns.h>.
const hostPIDs = "pid:[4026531836]"

// A mountRefusal says why a daemon may not serve from where it was started.
type mountRefusal struct{ reason, resource string }

func (e *mountRefusal) Error() string {
	return fmt.Sprintf("started in a mount namespace of its own, where its end may wait for its own disk, and it cannot move to that of process 1: %s; start it there: nsenter -t 1 -m urbd up %s (a systemd unit: without PrivateTmp=, PrivateMounts=, Protect*= and their like)",
		e.reason, e.resource)
}

// settle moves the daemon to where it can die. needs are the paths that have to mean the same there. It may not
// return, because the program begins again.
func settle(resource string, needs []string, logger *slog.Logger) error {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	pids, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return fmt.Errorf("PID namespace: %w", err)
	}
	moved := movedHere()
	first, err := os.Readlink("/proc/1/ns/mnt")
	switch {
	case err != nil:
		logger.Warn("process 1 may not be looked at: whether this daemon shares a mount namespace with the users of its device is not known; if it does, its end may wait for its own disk",
			"resource", resource, "err", err)
	case own != first && !moved:
		err = onThread(func() error { return joinFirst(needs) })
		return &mountRefusal{err.Error(), resource}
	case own == first && pids != hostPIDs:
		if err := onThread(func() error { return leaveMounts(needs) }); err != nil {
			logger.Warn("in a container, and it gets no mount namespace of its own: if the container is killed while the device is mounted in it, the end of this daemon waits for its own disk",
				"resource", resource, "err", err)
		}
		return nil
	}
	if moved {
		logger.Info("the daemon has moved to another mount namespace", "resource", resource, "namespace", own)
		return os.WriteFile("/proc/self/comm", []byte("urbd"), 0) // executed as /proc/self/exe it is called exe
	}
	return nil
}

// movedHere reports whether this is the program that settle has executed.
func movedHere() bool {
	own, err := os.Readlink("/proc/self/ns/mnt")
	return err == nil && os.Getenv(settledIn) == own
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not like the others any more
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// joinFirst makes this thread the program's, in the mount namespace of process 1. It returns if that cannot be.
func joinFirst(needs []string) error {
	ns, err := unix.Open("/proc/1/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	program, dir := programFile(), ""
	if dir, err = os.Getwd(); err != nil {
		dir = "/"
	}
	here := make([]identity, len(needs))
	for i, path := range needs {
		here[i] = identify(path)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("setns: %w", err)
	}
	_ = unix.Chdir(dir) // if it is not there, paths that begin there are not the same below
	for i, path := range needs {
		if there := identify(path); there != here[i] {
			return fmt.Errorf("%s is not the same there", path)
		}
	}
	return again(program)
}

// leaveMounts makes this thread the program's, in a copy of the mount namespace without file systems on disks.
func leaveMounts(needs []string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	info, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	for _, point := range needless(string(info), needs) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) { // it went with one below it
			return fmt.Errorf("leave the mount at %s to the others: %w", point, err)
		}
	}
	return again(programFile())
}

// needless are the mount points, the last one first, of file systems on disks that no needed path leads through.
func needless(mountinfo string, needs []string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ") // "36 35 98:0 /root /mnt rw shared:1 - ext4 /dev/sda1 rw"
		fields, source := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(source) < 2 {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if !strings.HasPrefix(fields[2], "0:") || strings.HasPrefix(source[1], "/dev/") {
			if !leadsTo(point, needs) {
				out = append([]string{point}, out...)
			}
		}
	}
	return out
}

// leadsTo reports whether the kernel passes through a directory when it looks one of the paths up.
func leadsTo(dir string, paths []string) bool {
	for _, path := range append([]string{"/proc", "/sys", "/dev"}, paths...) {
		for _, step := range walk(path) {
			if rel, err := filepath.Rel(dir, step); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
				return true
			}
		}
	}
	return false
}

// maxLinks is how many symbolic links the kernel follows in one path.
const maxLinks = 40

// walk is what the kernel comes to when it looks a path up: each directory on the way, symbolic links followed, and the end.
func walk(path string) (steps []string) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	at, rest := "/", strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		at, rest = filepath.Join(at, rest[0]), rest[1:]
		to, err := os.Readlink(at)
		if err != nil {
			steps = append(steps, at)
			continue
		}
		if links++; links > maxLinks {
			break
		}
		if at = filepath.Dir(at); filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return steps
}

// An identity is what a path stands for: a device, or a file. Zero: nothing.
type identity struct {
	mode     uint32
	dev, ino uint64
}

func identify(path string) identity {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case err != nil:
		return identity{}
	case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		return identity{st.Mode & unix.S_IFMT, st.Rdev, 0}
	}
	return identity{st.Mode & unix.S_IFMT, st.Dev, st.Ino}
}

// A programPath is the program of this process.
type programPath struct {
	path string
	file identity
}

func programFile() programPath {
	path, err := os.Executable()
	if err != nil {
		path = ""
	}
	return programPath{path, identify("/proc/self/exe")}
}

// again executes the program in this thread's namespace. It returns if that cannot be.
func again(p programPath) error {
	own, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	if p.path == "" || identify(p.path) != p.file {
		p.path = "/proc/self/exe" // it is not there under its name
	}
	if err := os.Setenv(settledIn, own); err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", p.path, syscall.Exec(p.path, os.Args, os.Environ()))
}
