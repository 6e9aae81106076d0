package main

import (
	"bufio"
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/urbd/urbd/replication"
)

// program is urbd as a process of its own: the test binary under its name.
func (b *bench) program() string {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.dir, "bin", "urbd")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Symlink(self, path); err != nil && !os.IsExist(err) {
		b.t.Fatal(err)
	}
	b.t.Setenv("URBD_TEST_AS", "urbd")
	return path
}

func TestTheProgramEndsWithTheExitCode(t *testing.T) {
	b := newBench(t)
	d := &fakeControl{status: `{"name":"r0","role":"Secondary"}`}
	d.reply("primary", 409, `{"refused":"need access to UpToDate data","code":-2}`)
	b.listen("r0", d)
	for line, code := range map[string]int{"status r0": 0, "primary r0": 17, "frobnicate": 1, "role r1": 10} {
		cmd := exec.Command(b.program(), append([]string{"--run-dir", b.run, "-c", b.conf, "--host", "alpha"}, strings.Fields(line)...)...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("urbd %s ended with %d, want %d: %s", line, got, code, out)
		}
	}
}

// What cannot be written down is no success: a file that a full file system leaves empty would be taken for an answer.
func TestOutputThatIsNotTaken(t *testing.T) {
	b := newBench(t)
	b.listen("r0", &fakeControl{status: `{"name":"r0","role":"Secondary"}`})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, line := range []string{"role r0", "status", "status --json", "dump r1", "secret", "help", "version"} {
		cmd := exec.Command(b.program(), append([]string{"--run-dir", b.run, "-c", b.conf, "--host", "alpha"}, strings.Fields(line)...)...)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &said
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != exitSystem || !strings.Contains(said.String(), "no space left on device") {
			t.Errorf("urbd %s ended with %d: %s", line, got, &said)
		}
	}
}

// A daemon that may not become an I/O flusher says so before it does anything else.
func TestTheDaemonSaysWhenItMayStall(t *testing.T) {
	b := newBench(t)
	runtime.LockOSThread() // not unlocked: the thread ends with this test, and what it has given up with it
	want := "level=WARN msg=\"under memory pressure this daemon may stall\" err=\"ublk: mark this process as an I/O flusher"
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_RESOURCE, 0, 0, 0); err != nil {
		want = "the daemon needs root"
	}
	cmd := exec.Command(b.program(), "--run-dir", b.run, "-c", b.conf, "--host", "alpha", "run", "r0")
	out, _ := cmd.CombinedOutput()
	if !strings.Contains(string(out), want) {
		t.Errorf("%q is not in: %s", want, out)
	}
}

// A daemon that fails before it serves, whatever the reason, waits like one that dies: systemd starts it again at once.
func TestADaemonThatCannotBeginWaits(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("daemons need root")
	}
	b := newBench(t)
	if err := os.WriteFile(b.conf, []byte("include \"/nonexistent/r0.res\";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for range len(startPauses) {
		cmd := exec.Command(b.program(), "--run-dir", b.run, "-c", b.conf, "--host", "alpha", "run", "r0")
		out, _ = cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != exitSystem {
			t.Fatalf("it ended with %d: %s", code, out)
		}
		if bytes.Contains(out, []byte("waiting before the next one")) {
			return
		}
	}
	t.Errorf("it does not wait: %s", out)
}

// A daemon that is stopped in its pause has not failed: systemd would start it again.
func TestAStopEndsThePause(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("daemons need root")
	}
	b := newBench(t)
	now, err := sinceBoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := (startRecord{b.run, "r0"}).write(died{now, len(startPauses)}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(b.program(), "--run-dir", b.run, "-c", b.conf, "--host", "alpha", "run", "r0")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || !strings.Contains(line, "waiting before the next one") {
		t.Errorf("it does not wait: %s%v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("stopped, it has failed: %v", err)
	}
}

// A daemon that is started beside one that serves is refused, and leaves alone what that one has written for its successor and for urbd adjust.
func TestADaemonBesideAnotherWritesNothing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("daemons need root")
	}
	b := newBench(t)
	release, err := replication.Lock(b.run, "r0")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	b.listen("r0", &fakeControl{})
	for _, name := range []string{"r0.starts", "r0.conf"} {
		if err := os.WriteFile(filepath.Join(b.run, name), []byte("1 0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := b.runFiles()
	cmd := exec.Command(b.program(), "--run-dir", b.run, "-c", b.conf, "--host", "alpha", "run", "r0")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != exitConfig || !strings.Contains(string(out), "r0 is up already") {
		t.Errorf("it ended with %d: %s", code, out)
	}
	if after := b.runFiles(); !maps.Equal(after, before) {
		t.Errorf("of %v it has made %v", before, after)
	}
}

// runFiles are the files of the run directory with what is in them.
func (b *bench) runFiles() map[string]string {
	b.t.Helper()
	all, err := os.ReadDir(b.run)
	if err != nil {
		b.t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range all {
		text, _ := os.ReadFile(filepath.Join(b.run, e.Name())) // nothing of a socket
		files[e.Name()] = string(text)
	}
	return files
}

func TestAnInterruptEndsWaiting(t *testing.T) {
	b := newBench(t)
	b.listen("r0", &fakeControl{hold: true, events: []string{`{"name":"r0","role":"Secondary"}`}})
	cmd := exec.Command(b.program(), "--run-dir", b.run, "-c", b.conf, "status", "--watch", "r0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 64)); err != nil { // it watches now
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || errs.Len() > 0 {
		t.Errorf("after an interrupt: %v, %s", err, &errs)
	}
}

func TestCompletionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash on this machine")
	}
	b := newBench(t)
	t.Setenv("PATH", filepath.Dir(b.program())+":"+os.Getenv("PATH"))
	complete := func(words string) []string {
		t.Helper()
		script := `source completion.bash; COMP_WORDS=(` + words + `); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _urbd; printf "%s\n" "${COMPREPLY[@]}"`
		out, err := exec.Command(bash, "-c", script).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	for words, want := range map[string]string{
		`urbd wait`:                                "wait-connect wait-sync",
		`urbd -c ` + b.conf + ` primary r`:         "r0 r0/0 r0/1 r1",
		`urbd -c ` + b.conf + ` primary r0 --fo`:   "--force",
		`urbd status --col`:                        "--color",
		`urbd status --color a`:                    "auto always",
		`urbd -c ` + b.conf + ` wait-connect --w`:  "--wfc-timeout",
		`urbd --run-d`:                             "--run-dir",
		`urbd -c ` + filepath.Join(b.dir, "urbd."): b.conf,
	} {
		if got := strings.Join(complete(words), " "); got != want {
			t.Errorf("%s completes to %q, want %q", words, got, want)
		}
	}
}

// Whoever starts a daemon by hand does not wait for the pauses of those that died at once.
func TestUpForgetsThePauses(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("daemons need root")
	}
	b := newBench(t)
	t.Setenv("URBD_TEST_AS", "urbd") // the daemon, which finds no disk
	now, err := sinceBoot()
	if err != nil {
		t.Fatal(err)
	}
	record, logs := startRecord{b.run, "r1"}, filepath.Join(b.dir, "log")
	if err := record.write(died{now, len(startPauses)}); err != nil {
		t.Fatal(err)
	}
	if got := b.urbd("up --no-systemd --host alpha --log-dir " + logs + " --timeout 30 r1"); got.code == exitOK || !strings.Contains(got.err, "e.img") {
		t.Fatalf("%+v", got)
	}
	text, err := os.ReadFile(filepath.Join(logs, "r1.log"))
	if d, ok := record.read(); err != nil || !ok || d.quick != 0 || bytes.Contains(text, []byte("waiting before the next one")) {
		t.Errorf("it left %+v, %v, and said %s, %v", d, ok, text, err)
	}
}
