package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urbd/urbd/replication"
	"github.com/urbd/urbd/replication/config"
)

// remember writes down the configuration of a resource as its daemon does.
func (b *bench) remember(resource string) {
	b.t.Helper()
	if err := b.tryRemember(resource); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) tryRemember(resource string) error {
	b.t.Helper()
	cfg, err := etc.load(b.conf)
	if err != nil {
		b.t.Fatal(err)
	}
	targets, _, err := configured(cfg, []string{resource}, func(r *config.Resource) (*config.Host, *config.Host, error) { return r.Local("alpha", nil) })
	if err != nil {
		b.t.Fatal(err)
	}
	return rememberConfig(b.run, targets[0])
}

func TestUpOfWhatIsUp(t *testing.T) {
	b := newBench(t)
	d := &fakeControl{status: `{"name":"r1","role":"Primary","pid":71}`}
	b.listen("r1", d)
	b.want("up r1", 10, "", "urbd: r1 is up already, served by process 71; a changed configuration is taken up by: urbd adjust r1; its state is shown by: urbd status r1\n")
	if len(d.orders) > 0 {
		t.Errorf("the daemon was told %v", d.orders)
	}
}

func TestAdjustSeesWhatHasChanged(t *testing.T) {
	b := newBench(t)
	d := &fakeControl{status: statusLine("Connected", "Established", "UpToDate", "UpToDate", "")}
	b.listen("r1", d)
	b.remember("r1")
	b.want("adjust r1", 0, "", "")
	b.write("# moved by a line\n" + twoResources)
	b.want("adjust r1", 0, "", "")
	t.Chdir(b.dir)
	b.want("adjust r1 -c urbd.conf", 0, "", "")
	b.write(strings.ReplaceAll(twoResources, "resource r1 {", "resource r1 { net { ping-int 5; }"))
	b.want("adjust r1", 10, "", `the configuration has changed ("}" is now "net {")`)
}

// A record that could not be written is none: adjust would take that of an earlier daemon for another configuration.
func TestRecordOfTheConfigurationThatIsNotWritten(t *testing.T) {
	b := newBench(t)
	b.remember("r1")
	if err := os.Mkdir(configRecord(b.run, "r1")+".new", 0o755); err != nil { // in the way of what replaces it
		t.Fatal(err)
	}
	if err := b.tryRemember("r1"); err == nil {
		t.Error("it was written")
	}
	if _, err := os.Lstat(configRecord(b.run, "r1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}

// Whoever may put a link into the run or log directory has no other file overwritten.
func TestFilesAreNotWrittenThroughLinks(t *testing.T) {
	b := newBench(t)
	logs, err := logsOf(b.dir, "r1")
	if err != nil {
		t.Fatal(err)
	}
	names := deviceNames{dev: b.dir, run: b.run}
	starts := startRecord{b.run, "r1"}
	openLogs := func() error { _, err := logs.openStderr(); return err }
	for path, write := range map[string]func() error{
		configRecord(b.run, "r1"): func() error { return b.tryRemember("r1") },
		starts.path():             func() error { return starts.write(died{}) },
		names.record(7):           func() error { return names.announce(7, "r1", 0) },
		logs.stderr:               openLogs,
		logs.log:                  openLogs,
	} {
		other := filepath.Join(t.TempDir(), "other")
		text := strings.Repeat("something", stderrBytes/5)
		if err := errors.Join(os.WriteFile(other, []byte(text), 0o600), os.Symlink(other, path)); err != nil {
			t.Fatal(err)
		}
		err := write()
		if is := new(replication.NotPlainError); err != nil && !errors.As(err, &is) {
			t.Errorf("%s: %v", path, err)
		}
		if left, err := os.ReadFile(other); string(left) != text {
			t.Errorf("%s: of %d bytes %d are left, %v", path, len(text), len(left), err)
		}
		os.Remove(path)
	}
	if err := os.Symlink(filepath.Join(b.dir, "new"), logs.stderr); err != nil {
		t.Fatal(err)
	}
	if err := openLogs(); err == nil {
		t.Errorf("a file was made through %s", logs.stderr)
	}
}
