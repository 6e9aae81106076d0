package replication

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// describedMachine is a machine with these files below its root.
func describedMachine(t *testing.T, files map[string]string) machine {
	t.Helper()
	m := machine{t.TempDir()}
	for name, text := range files {
		path := filepath.Join(m.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestMachineFits(t *testing.T) {
	for _, c := range []struct {
		release, uring string
		says           string // empty: it fits
	}{
		{"6.8.0-45-generic", "0", ""},
		{"6.12.43+deb13-amd64", "1", ""},
		{"7.0", "", ""},
		{"10.1.2", "0", ""},
		{"custom", "0", ""},
		{"6.7.12", "0", "the kernel is Linux 6.7.12, and urbd needs 6.8 or newer"},
		{"5.14.0-503.el9", "0", "the kernel is Linux 5.14.0-503.el9, and urbd needs 6.8 or newer"},
		{"6.12.43", "2", "kernel.io_uring_disabled is 2"},
	} {
		files := map[string]string{"proc/sys/kernel/osrelease": c.release}
		if c.uring != "" {
			files["proc/sys/kernel/io_uring_disabled"] = c.uring
		}
		err := describedMachine(t, files).fit(1)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("Linux %s, io_uring_disabled %q: %v, want %q", c.release, c.uring, err, c.says)
		}
	}
	if err := (machine{t.TempDir()}).fit(1); err != nil {
		t.Errorf("a machine that tells nothing: %v", err)
	}
}

// The daemon asks before it does anything else.
func TestStartOnAnOldKernel(t *testing.T) {
	n := newNodes(t, nil)[0]
	n.cfg.machine = describedMachine(t, map[string]string{"proc/sys/kernel/osrelease": "6.1.0"})
	r, err := New(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Linux 6.1.0") {
		t.Errorf("Run = %v", err)
	}
	n.cfg.machine = describedMachine(t, map[string]string{"proc/self/cgroup": "0::/small", "sys/fs/cgroup/small/memory.max": "16777216"})
	if r, err = New(n.cfg); err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "/small may use 16 MiB") {
		t.Errorf("Run = %v", err)
	}
	n.cfg.machine = describedMachine(t, map[string]string{"proc/self/cgroup": "0::/small", "sys/fs/cgroup/small/pids.max": "12"})
	if r, err = New(n.cfg); err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "/small may have 12 tasks") {
		t.Errorf("Run = %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		files map[string]string
		says  string // empty: 100 MiB are there
	}{
		"no limit":      {map[string]string{"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/memory.high": "max"}, ""},
		"enough":        {map[string]string{"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/memory.max": "104857600"}, ""},
		"its own":       {map[string]string{"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/memory.max": "67108864"}, "/a/b may use 64 MiB of memory (memory.max), and this daemon comes to need 100 MiB"},
		"of the outer":  {map[string]string{"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/memory.high": "67108864"}, "/a may use 64 MiB of memory (memory.high)"},
		"of the lower":  {map[string]string{"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/memory.max": "67108864", "sys/fs/cgroup/a/memory.max": "33554432"}, "/a may use 32 MiB"},
		"a container's": {map[string]string{"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "67108864"}, "/ may use 64 MiB"},
		"version 1":     {map[string]string{"proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n0::/y", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "67108864"}, "/x may use 64 MiB"},
		"unknown":       {nil, ""},
	} {
		err := describedMachine(t, c.files).enoughMemory(100 * mib)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestTasksLimit(t *testing.T) {
	group := func(path, max string) map[string]string {
		return map[string]string{"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/" + path + "/pids.max": max}
	}
	for name, c := range map[string]struct {
		files   map[string]string
		volumes int
		warns   string
		refuses string
	}{
		"no limit":                {group("a/b", "max"), 8, "", ""},
		"enough":                  {group("a/b", "1170"), 8, "", ""},
		"too few":                 {group("a/b", "39"), 1, "", "/a/b may have 39 tasks (pids.max), and this daemon comes to need 40"},
		"just enough":             {group("a/b", "40"), 1, "", ""},
		"of the outer":            {group("a", "20"), 1, "", "/a may have 20 tasks"},
		"for disks that answer":   {group("a/b", "256"), 2, "/a/b may have 256 tasks (pids.max): a disk that hangs", ""},
		"for many volumes":        {group("a/b", "100"), 9, "", "need 104"},
		"a container's":           {map[string]string{"proc/self/cgroup": "0::/", "sys/fs/cgroup/pids.max": "10"}, 1, "", "/ may have 10 tasks"},
		"version 1":               {map[string]string{"proc/self/cgroup": "5:cpu,cpuacct:/x\n4:pids:/x\n0::/y", "sys/fs/cgroup/pids/x/pids.max": "10"}, 1, "", "/x may have 10 tasks"},
		"version 1, two in one":   {map[string]string{"proc/self/cgroup": "4:freezer,pids:/x", "sys/fs/cgroup/pids/x/pids.max": "10"}, 1, "", "/x may have 10 tasks"},
		"a limit of memory alone": {map[string]string{"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/memory.max": "10"}, 1, "", ""},
		"unknown":                 {nil, 8, "", ""},
	} {
		warning, err := describedMachine(t, c.files).enoughTasks(c.volumes)
		if (warning != "") != (c.warns != "") || !strings.Contains(warning, c.warns) {
			t.Errorf("%s: warns %q, want %q", name, warning, c.warns)
		}
		if (err != nil) != (c.refuses != "") || err != nil && (!strings.Contains(err.Error(), c.refuses) || !strings.Contains(err.Error(), "TasksMax=")) {
			t.Errorf("%s: %v, want %q", name, err, c.refuses)
		}
	}
}

// What the daemon asks for covers a bitmap and the block device.
func TestMemoryNeed(t *testing.T) {
	n := newNodes(t, nil)[0]
	r, err := New(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	small := r.memoryNeed(openedStores{{b: &backing{data: &store{size: 1 << 20}}}})
	large := r.memoryNeed(openedStores{{b: &backing{data: &store{size: 1 << 40}}}})
	if large-small < 31<<20 || small < DeviceMemory+leastMemory || small > 200<<20 {
		t.Errorf("a small disk needs %d bytes, one of 1 TiB %d", small, large)
	}
}

const hardLimit = "URBD_TEST_HARD_LIMIT"

// A daemon lives longer, and writes more, than what its shell was allowed. Where it may not it says what to write.
func TestUnlimited(t *testing.T) {
	if hard, err := strconv.ParseUint(os.Getenv(hardLimit), 10, 64); err == nil {
		for _, b := range boundless {
			if err := unix.Setrlimit(b.resource, &unix.Rlimit{Cur: 1 << 40, Max: hard}); err != nil {
				t.Fatal(err)
			}
		}
		warnings := unlimited()
		for _, b := range boundless {
			var now unix.Rlimit
			if err := unix.Getrlimit(b.resource, &now); err != nil || now.Cur != hard {
				t.Errorf("%s: %d, %v", b.is, now.Cur, err)
			}
		}
		t.Logf("%d warnings, %q", len(warnings), warnings)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("to be another user needs root")
	}
	for hard, says := range map[uint64]string{
		unix.RLIM_INFINITY: "0 warnings",
		1 << 41:            `3 warnings, ["the size of a file is limited here, and this process may not lift that; lift it where it is set: ulimit -f unlimited"`,
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestUnlimited$", "-test.v")
		cmd.Env = append(os.Environ(), hardLimit+"="+strconv.FormatUint(hard, 10))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), says) {
			t.Errorf("up to %d: %v, %s, want %s", hard, err, out, says)
		}
	}
}

// The limit of open files is raised, and where it cannot be the sentence says what to write.
func TestEnoughFiles(t *testing.T) {
	if hard, err := strconv.ParseUint(os.Getenv(hardLimit), 10, 64); err == nil {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 40, Max: hard}); err != nil {
			t.Fatal(err)
		}
		err := enoughFiles(136)
		var now unix.Rlimit
		unix.Getrlimit(unix.RLIMIT_NOFILE, &now)
		t.Logf("limit %d, %v", now.Cur, err)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("to be another user needs root")
	}
	for hard, says := range map[string]string{
		"200": "limit 136, <nil>",
		"40": "limit 40, a process may have 40 files open here, this one needs 136 and may not raise the limit (operation not permitted); " +
			"raise it where it is set: ulimit -n 136, or LimitNOFILE=136 in its unit",
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestEnoughFiles$", "-test.v")
		cmd.Env = append(os.Environ(), hardLimit+"="+hard)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), says) {
			t.Errorf("up to %s: %v, %s, want %s", hard, err, out, says)
		}
	}
}
